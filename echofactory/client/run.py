"""
What a program needs of a run, whether one process makes it or several.
"""

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from echofactory.results.books import Results

_log = Logger()


class Watchers:
    """
    Who is told of each interval.

    @ivar watchers: called with the results at the end of each interval.
    """

    def __init__(self) -> None:
        self.watchers: list[Callable[[Results], None]] = []

    def tell(self, results: Results) -> None:
        """Tell the watchers that an interval has ended."""
        for watcher in list(self.watchers):
            try:
                watcher(results)
            except Exception:
                # A view that fails must not cost the run.
                _log.failure("while showing the run")
                self.watchers.remove(watcher)


class Sending(Protocol):
    """The sending of a run."""

    def remaining(self) -> float | None:
        """Return the seconds of sending that are left; C{None}: that is not known."""

    def isMissed(self, percent: float, limitNs: int) -> bool:
        """
        Tell whether the response time at a percentile certainly reaches a limit, whatever the
        rest of the schedule brings.

        @param percent: from 0 to 100.
        """


class MeasuredRun(Protocol):
    """
    A run. It serves once.

    @ivar reactor: the run's clock.
    @ivar results: its books, true at any time.
    @ivar ticker: who is told of its intervals.
    @ivar sender: its sending.
    """

    @property
    def reactor(self) -> IReactorTime: ...
    @property
    def results(self) -> Results: ...
    @property
    def ticker(self) -> Watchers: ...
    @property
    def sender(self) -> Sending: ...

    async def run(self, endpoint: Any) -> Results:
        """Make the run, and return its results."""

    def interrupt(self) -> None:
        """End the run with its results."""

    def endEarly(self) -> None:
        """End a run whose outcome is certain, with its results."""

    def soFar(self) -> Results:
        """Return the present books."""
