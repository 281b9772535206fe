"""
Logs events that a stranger can cause at any rate: one line a second at most.
"""

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

SUMMARY_INTERVAL = 1.0
"""Seconds from the first event to the line that reports it, with all events in between."""


class SummaryLog:
    """
    Counts events by kind, and reports the events of a second together.
    """

    def __init__(
        self, clock: IReactorTime, tell: Callable[[dict[str, int], str], None]
    ) -> None:
        """
        @param clock: times the reports.
        @param tell: is called with the counts by kind, sorted, and with the text of the first
            event.
        """
        self._clock = clock
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._example = ""
        self._call: IDelayedCall | None = None

    def note(self, kind: str, example: Callable[[], str]) -> None:
        """
        Count an event.

        @param kind: the event's kind.
        @param example: returns the event's text. It is called only for the first event of a
            second.
        """
        self._counts[kind] += 1
        if self._call is None:
            self._example = example()
            self._call = self._clock.callLater(SUMMARY_INTERVAL, self._now)

    def close(self) -> None:
        """Report the events that are not reported yet."""
        if self._call is not None:
            self._call.cancel()
            self._now()

    def _now(self) -> None:
        self._call = None
        counts = dict(sorted(self._counts.items()))
        self._counts.clear()
        self._tell(counts, self._example)
