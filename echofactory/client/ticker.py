"""
The intervals of a run: when each ends, and who is told.
"""

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from echofactory.client.run import Watchers
from echofactory.results.books import Results


class Ticker(Watchers):
    """
    Closes the intervals of a run's results, and tells the watchers.
    """

    def __init__(
        self, reactor: IReactorTime, clock: Callable[[], int], results: Results
    ) -> None:
        """
        @param clock: returns nanoseconds.
        """
        super().__init__()
        self._clock = clock
        self._results = results
        self._looping = LoopingCall(self.closeInterval)
        self._looping.clock = reactor

    def start(self) -> None:
        """Close an interval whenever its length has passed."""
        self._looping.start(self._results.intervalNs / 1e9, now=False)

    def stop(self) -> None:
        """Close the last interval, and no other."""
        if self._looping.running:
            self._looping.stop()
            self.closeInterval()

    def align(self, now: int) -> None:
        """
        Count intervals from now on, the schedule's start, so that each has its share of it.
        If connecting took a noticeable part of an interval, it has a shorter one of its own.
        """
        intervals = self._results.intervals
        began = self._results.beganAt + (intervals[-1].endNs if intervals else 0)
        if now - began > self._results.intervalNs / 20:
            self.closeInterval()
        self._looping.reset()

    def closeInterval(self) -> None:
        """End the interval that goes on, and tell the watchers."""
        self._results.closeInterval(self._clock() - self._results.beganAt)
        self.tell(self._results)
