"""
A search for the highest rate that keeps the goals: one run for each rate.
"""

from collections.abc import Callable, Sequence

from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall

from echofactory.client.findrate import RateSearch, checkGoal, judged
from echofactory.client.run import MeasuredRun
from echofactory.results.books import Results
from echofactory.results.expectations import Expectation
from echofactory.results.search import SearchStep

FIRST = 500.0
"""Messages a second of the first run, by default."""

LEAST = 1.0
"""Messages a second: no lower rate is tried, unless it is the first one."""

WARM_UP = 1.0
"""Seconds of the warm-up of each run, by default."""

_LOOK_S = 0.25
"""Seconds between two looks at whether a run certainly misses a goal."""


class Search:
    """
    Finds the rate.

    @ivar search: the rates that were tried.
    @ivar goals: the goals that each run is judged by.
    """

    def __init__(
        self,
        goals: Sequence[Expectation],
        make: Callable[[float], MeasuredRun],
        tell: Callable[[SearchStep], None],
        first: float = FIRST,
    ) -> None:
        """
        @param goals: upper bounds of response times (L{checkGoal}).
        @param make: takes a rate in messages a second, and returns the run at it.
        @param tell: called with each step, when it is judged.
        @param first: the first rate, in messages a second.
        @raise ValueError: if an expectation is not a goal.
        """
        for goal in goals:
            checkGoal(goal)
        self.goals = tuple(goals)
        self.search = RateSearch(first, LEAST)
        self._make = make
        self._tell = tell
        self._run: MeasuredRun | None = None
        self._interrupted = False

    async def run(self, endpoint: str | IStreamClientEndpoint) -> Results:
        """
        Search, and return the results of the highest rate that kept every goal. If no
        rate did, return those of the last one.
        """
        best = None
        while (rate := self.search.next()) is not None:
            self._run = self._make(rate)
            if self._interrupted:
                self._run.interrupt()
            latest = await self._try(self._run, endpoint)
            step = judged(rate, latest, self.goals)
            self.search.note(step)
            if self.search.best is step:
                best = latest
            self._tell(step)
        results = best or latest
        results.search = self.search.outcome(self.goals)
        results.interrupted = self._interrupted
        return results

    async def _try(self, run: MeasuredRun, endpoint: str | IStreamClientEndpoint) -> Results:
        """Run at one rate, to the end or until a goal is certainly missed."""

        def look() -> None:
            missed = (
                run.sender.isMissed(goal.percent or 0.0, int(goal.bound)) for goal in self.goals
            )
            if run.results.failed or any(missed):
                run.endEarly()

        looking = LoopingCall(look)
        looking.clock = run.reactor
        looking.start(_LOOK_S, now=False)
        try:
            return await run.run(endpoint)
        finally:
            looking.stop()

    def interrupt(self) -> None:
        """Cut the run that is under way, and end the search."""
        self._interrupted = True
        if self._run is not None:
            self._run.interrupt()

    def soFar(self) -> Results | None:
        """Return the books of the step that is under way; C{None}: none is yet."""
        return None if self._run is None else self._run.soFar()
