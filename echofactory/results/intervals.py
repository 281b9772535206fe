"""
The intervals of a run, their JSON, and the intervals of several runs taken together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from reprlib import repr as shortRepr
from statistics import median
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """
    One interval of a run.

    @ivar endNs: the end of the interval, in nanoseconds from the run's beginning.
    @ivar lengthNs: the length of the interval, in nanoseconds.
    @ivar open: connections that were open at the end.
    @ivar messages: messages that were verified in the interval.
    @ivar bytes: bytes that were received in the interval.
    @ivar p50Ns: the median of the response times, in nanoseconds; C{None}: there were none,
        or they are not known.
    @ivar p99Ns: the 99th percentile of the response times, in nanoseconds; C{None}: as
        C{p50Ns}.
    @ivar failures: connections that failed in the interval.
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

    @property
    def bytesPerSecond(self) -> float:
        """Received bytes a second."""
        return self.bytes / (self.lengthNs / 1e9) if self.lengthNs else 0.0

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


_MOST_S = 1e9
_MOST = 1e18
_MOST_NS = 1e19
_LIMITS = (
    # Field, greatest value, whether it is a whole number, whether it may be null.
    ("t_s", _MOST_S, False, False),
    ("open", _MOST, True, False),
    ("messages", _MOST, True, False),
    ("bytes", _MOST, True, False),
    ("p50_ns", _MOST_NS, False, True),
    ("p99_ns", _MOST_NS, False, True),
    ("failures", _MOST, True, False),
)
_FIELDS = {name for name, *_ in _LIMITS}


def _refuseMalformed(item: object, number: int) -> None:
    """
    Check an item by the rules of the package's schema.

    @raise ValueError: if the item breaks a rule.
    """
    if not isinstance(item, dict) or item.keys() != _FIELDS:
        raise ValueError(f"$.intervals[{number}]: not the fields {', '.join(sorted(_FIELDS))}")
    for name, most, whole, mayBeNull in _LIMITS:
        value = item[name]
        if value is None and mayBeNull:
            continue
        if type(value) not in (int, float) or not 0 <= value <= most or (whole and value % 1):
            kind = "whole number" if whole else "number"
            raise ValueError(
                f"$.intervals[{number}].{name}: {shortRepr(value)} is not a {kind} from 0"
                f" to {most:g}"
            )


def intervalsFromJSON(written: Sequence[Any]) -> list[Interval]:
    """
    Return the intervals that L{Interval.asJSON} wrote. They are checked here, because the
    general check of the schema takes 200 µs for each, and a run of a day has 86,400.

    @raise ValueError: if an item breaks a rule of the schema, or ends before the item before
        it.
    """
    intervals = []
    before = 0
    for number, item in enumerate(written):
        _refuseMalformed(item, number)
        endNs = round(item["t_s"] * 1e9)
        if endNs < before:
            raise ValueError(f"$.intervals[{number}]: it ends before the interval before it")
        intervals.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=int(item["open"]),
                messages=int(item["messages"]),
                bytes=int(item["bytes"]),
                p50Ns=item["p50_ns"],
                p99Ns=item["p99_ns"],
                failures=int(item["failures"]),
            )
        )
        before = endNs
    return intervals


WHOLE = 0.95
"""The share of the usual length from which an interval counts as whole."""


def usualLengthNs(intervals: Sequence[Interval], knownNs: int) -> float:
    """
    Return the length of a complete interval, in nanoseconds.

    @param intervals: those of the run; there is at least one.
    @param knownNs: the length that the run was started with; 0: not known. The median is taken.
    """
    return knownNs or median(interval.lengthNs for interval in intervals)


def withoutShortEnd(intervals: Sequence[Interval]) -> Sequence[Interval]:
    """
    Return the intervals without the last one, if the run ended in it: it has less than half
    of the length of the one before it.
    """
    *before, last = intervals
    return before if before and last.lengthNs < before[-1].lengthNs / 2 else intervals


MAX_MERGED_INTERVALS = 10_000
"""The highest number of intervals of a merged run, unless its runs together have more."""

_COUNTED = ("messages", "bytes", "failures")


class _Course:
    """
    The counts of a run at any time. Within an interval, the counts grow evenly. The times of
    the calls must not decrease, so that each interval is read once.
    """

    def __init__(self, begin: int, pieces: Sequence[Interval]) -> None:
        self._begin = begin
        self._pieces = pieces
        # The number of intervals that have ended, and their counts.
        self._ended = 0
        self._counted = dict.fromkeys(_COUNTED, 0)

    def at(self, ns: int) -> tuple[dict[str, int], int]:
        """
        Return the counts until a time, and the number of open connections. The latter is the
        number at the end of the interval; before and after the run it is 0.

        @param ns: the time in nanoseconds, not before that of the last call.
        """
        since = ns - self._begin
        pieces = self._pieces
        while self._ended < len(pieces) and pieces[self._ended].endNs <= since:
            for name in _COUNTED:
                self._counted[name] += getattr(pieces[self._ended], name)
            self._ended += 1
        counted = dict(self._counted)
        if self._ended and pieces[self._ended - 1].endNs == since:
            return counted, pieces[self._ended - 1].open
        if since <= 0 or self._ended == len(pieces):
            return counted, 0
        piece = pieces[self._ended]
        share = 1 - (piece.endNs - since) / piece.lengthNs
        for name in _COUNTED:
            counted[name] += round(getattr(piece, name) * share)
        return counted, piece.open


def mergedIntervals(
    runs: Sequence[tuple[int, Sequence[Interval]]], wholeNs: int = 0
) -> list[Interval]:
    """
    Return the intervals of one run that consists of several runs.

     - Their length is C{wholeNs} or, if that is 0, the median length. It is greater if there
       would otherwise be more intervals than the runs together have, and more than
       L{MAX_MERGED_INTERVALS}.
     - Within an interval of a run, the counts grow evenly.
     - Percentiles of several runs together are not known.

    @param runs: for each run, the nanoseconds from the first run's beginning to its own, and
        its intervals.
    @param wholeNs: the length of a complete interval, in nanoseconds; 0: not known.
    """
    if len(runs) == 1:
        return list(runs[0][1])
    lengths = [piece.lengthNs for _, pieces in runs for piece in pieces]
    last = max((begin + pieces[-1].endNs for begin, pieces in runs if pieces), default=0)
    if not last:
        return []
    lengthNs = max(
        wholeNs or round(median(lengths)), -(-last // max(len(lengths), MAX_MERGED_INTERVALS))
    )
    courses = [_Course(begin, pieces) for begin, pieces in runs]
    whole: list[Interval] = []
    before = 0
    counted = dict.fromkeys(_COUNTED, 0)
    while before < last:
        endNs = min(before + lengthNs, last)
        now, open_ = dict.fromkeys(_COUNTED, 0), 0
        for course in courses:
            ofOne, openOfOne = course.at(endNs)
            open_ += openOfOne
            for name in _COUNTED:
                now[name] += ofOne[name]
        whole.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=open_,
                p50Ns=None,
                p99Ns=None,
                **{name: now[name] - counted[name] for name in _COUNTED},
            )
        )
        before, counted = endNs, now
    return whole
