"""
A search for the highest rate that keeps a promise, run by run.
"""

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall

from echofactory.client.factory import EchoClientFactory
from echofactory.client.findrate import Goal, RateSearch, judged
from echofactory.results.books import Results
from echofactory.results.search import SearchStep

FIRST = 500.0
"""Messages a second, to begin with."""

SETTLING = 1.0
"""Seconds of each step whose latencies do not count."""


_LOOK_S = 0.25
"""Seconds between two looks at whether a step is lost already."""


class Search:
    """
    Finds the rate: one run for each step.

    @ivar search: the steps so far.
    """

    def __init__(
        self,
        goals: Sequence[Goal],
        make: Callable[[float], EchoClientFactory],
        tell: Callable[[SearchStep], None],
    ) -> None:
        """
        @param make: returns the factory of a run at some rate.
        @param tell: called with each step, when it is judged.
        """
        self.goals = tuple(goals)
        self.search = RateSearch(FIRST)
        self._make = make
        self._tell = tell
        self._factory: EchoClientFactory | None = None
        self._interrupted = False

    async def run(self, endpoint: str | IStreamClientEndpoint) -> Results:
        """
        Return the results of the highest rate that kept every goal; of the last
        one, if none did.
        """
        best = None
        while (rate := self.search.next()) is not None:
            self._factory = self._make(rate)
            if self._interrupted:
                self._factory.interrupt()
            latest = await self._try(self._factory, endpoint)
            step = judged(rate, latest, self.goals)
            self.search.note(step)
            if self.search.best is step:
                best = latest
            self._tell(step)
        results = best or latest
        results.search = self.search.outcome(self.goals)
        results.interrupted = self._interrupted
        return results

    async def _try(
        self, factory: EchoClientFactory, endpoint: str | IStreamClientEndpoint
    ) -> Results:
        """Run a step, to its end or until a goal is certain to be missed."""

        def look() -> None:
            missed = (factory.isMissed(goal.percent, goal.limitNs) for goal in self.goals)
            if factory.results.failed or any(missed):
                factory.endEarly()

        looking = LoopingCall(look)
        looking.clock = factory.reactor
        looking.start(_LOOK_S, now=False)
        try:
            return await factory.run(endpoint)
        finally:
            looking.stop()

    def interrupt(self) -> None:
        """Cut the run that is under way, and end the search."""
        self._interrupted = True
        if self._factory is not None:
            self._factory.interrupt()

    def soFar(self) -> Results | None:
        """Return the books of the step that is under way; C{None}: none is yet."""
        return None if self._factory is None else self._factory.soFar()
