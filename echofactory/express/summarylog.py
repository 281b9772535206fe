"""
One line of the log a second for what a stranger can cause at any rate.
"""

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SUMMARY_INTERVAL = 1.0
"""Seconds between two lines."""


class SummaryLog:
    """
    Counts events by kind, and reports all events of a second together.
    """

    def __init__(
        self, clock: IReactorTime, tell: Callable[[dict[str, int], str], None]
    ) -> None:
        """
        @param tell: is called with the counts by kind, sorted, and with the first event's
            example.
        """
        self._clock = clock
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._example = ""
        self._call: IDelayedCall | None = None

    def note(self, kind: str, example: Callable[[], str]) -> None:
        """
        Count an event.

        @param example: says which one it is. It is called for the first event only.
        """
        self._counts[kind] += 1
        if self._call is None:
            self._example = example()
            self._call = self._clock.callLater(SUMMARY_INTERVAL, self._now)

    def close(self) -> None:
        """Tell of the events that are left, now."""
        if self._call is not None:
            self._call.cancel()
            self._now()

    def _now(self) -> None:
        self._call = None
        counts = dict(sorted(self._counts.items()))
        self._counts.clear()
        self._tell(counts, self._example)
