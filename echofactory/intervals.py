"""
A run, piece by piece.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Interval:
    """
    A piece of a run.

    @ivar endNs: when it ended, in nanoseconds from the run's beginning.
    @ivar lengthNs: how long it was.
    @ivar open: connections, at its end.
    @ivar messages: verified in it.
    @ivar bytes: received in it.
    @ivar p50Ns: of the response times in it; C{None} if there were none, or they
        are not known.
    @ivar p99Ns: the same.
    @ivar failures: connections that failed in it.
    """

    endNs: int
    lengthNs: int
    open: int
    messages: int
    bytes: int
    p50Ns: int | None
    p99Ns: int | None
    failures: int

    @property
    def perSecond(self) -> float:
        """Messages a second."""
        return self.messages / (self.lengthNs / 1e9) if self.lengthNs else 0.0

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{intervals}."""
        return {
            "t_s": self.endNs / 1e9,
            "open": self.open,
            "messages": self.messages,
            "bytes": self.bytes,
            "p50_ns": self.p50Ns,
            "p99_ns": self.p99Ns,
            "failures": self.failures,
        }


def intervalsFromJSON(written: Sequence[dict[str, Any]]) -> list[Interval]:
    """
    Return what C{asJSON} of each wrote.

    @raise ValueError: if one ends before it begins.
    """
    intervals = []
    before = 0
    for item in written:
        endNs = round(item["t_s"] * 1e9)
        if endNs < before:
            raise ValueError("intervals: they are not in order")
        intervals.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=item["open"],
                messages=item["messages"],
                bytes=item["bytes"],
                p50Ns=item["p50_ns"],
                p99Ns=item["p99_ns"],
                failures=item["failures"],
            )
        )
        before = endNs
    return intervals


class _Course:
    """What a run had counted at any time, as if evenly within each piece."""

    def __init__(self, begin: int, pieces: Sequence[Interval]) -> None:
        self._pieces = pieces
        self._ends = [begin + piece.endNs for piece in pieces]
        self._sums = {
            name: list(accumulate(getattr(piece, name) for piece in pieces))
            for name in ("messages", "bytes", "failures")
        }

    def counted(self, name: str, at: int) -> int:
        """Return how many there were until then."""
        index = bisect_left(self._ends, at)
        sums: list[int] = self._sums[name]
        if index == len(sums):
            return sums[-1] if sums else 0
        piece = self._pieces[index]
        before = sums[index - 1] if index else 0
        lacking = self._ends[index] - at
        if lacking >= piece.lengthNs:
            return before
        return before + round((sums[index] - before) * (1 - lacking / piece.lengthNs))

    def open(self, at: int) -> int:
        """Return how many connections were open at the end of the piece of then."""
        index = bisect_left(self._ends, at)
        return self._pieces[min(index, len(self._pieces) - 1)].open if self._pieces else 0


def mergedIntervals(runs: Sequence[tuple[int, Sequence[Interval]]]) -> list[Interval]:
    """
    Return the pieces of several runs as those of one, of the length that most of
    them have. What a run counted within a piece is taken to have come evenly. What
    the percentiles of several are together is not known.

    @param runs: for each, how many nanoseconds after the first it began, and its
        intervals.
    """
    if len(runs) == 1:
        return list(runs[0][1])
    lengthNs = round(median([piece.lengthNs for _, pieces in runs for piece in pieces] or [0]))
    last = max((begin + pieces[-1].endNs for begin, pieces in runs if pieces), default=0)
    courses = [_Course(begin, pieces) for begin, pieces in runs]
    whole: list[Interval] = []
    before = 0
    counted = dict.fromkeys(("messages", "bytes", "failures"), 0)
    while before < last and lengthNs:
        endNs = min(before + lengthNs, last)
        now = {name: sum(each.counted(name, endNs) for each in courses) for name in counted}
        whole.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=sum(each.open(endNs) for each in courses),
                p50Ns=None,
                p99Ns=None,
                **{name: count - counted[name] for name, count in now.items()},
            )
        )
        before, counted = endNs, now
    return whole
