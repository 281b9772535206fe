"""
What happens often is logged in one line a second at most, so that a peer cannot decide
how much is logged.
"""

from collections import Counter
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

EVERY = 1.0
"""Seconds between two lines."""


class Tally:
    """Counts what happens, by kind, and reports the counts of each second at once."""

    def __init__(self, clock: IReactorTime, tell: Callable[[Counter[str], str], None]) -> None:
        """
        @param tell: is called with the counts since the call before, and with the text
            of the first event among them.
        """
        self._clock = clock
        self._tell = tell
        self._counts: Counter[str] = Counter()
        self._first = ""
        self._call: IDelayedCall | None = None

    def add(self, kind: str, text: str) -> None:
        """Count an event."""
        self._counts[kind] += 1
        if self._call is None:
            self._first = text
            self._call = self._clock.callLater(EVERY, self._tellNow)

    def close(self) -> None:
        """Report what is left."""
        if self._call is not None:
            self._call.cancel()
            self._tellNow()

    def _tellNow(self) -> None:
        self._call = None
        counts, self._counts = self._counts, Counter()
        self._tell(counts, self._first)
