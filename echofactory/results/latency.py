"""
What is kept of a latency: a histogram, cheap to record into.

U{HdrHistogram<http://hdrhistogram.org>}: three significant digits, from 1 µs to
1 h, in nanoseconds.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, compress
from math import ceil, sqrt
from operator import mul

from hdrh.histogram import HdrHistogram

from echofactory.results.hdrdecode import HistogramSettings, decodedCounts

LOWEST_NS = 1_000
HIGHEST_NS = 3_600_000_000_000
DIGITS = 3

PERCENTILES = {
    "p50": 50.0,
    "p90": 90.0,
    "p95": 95.0,
    "p99": 99.0,
    "p99_9": 99.9,
    "p99_99": 99.99,
}
"""Of the JSON, by field."""

Fields = dict[str, int | None]
"""A latency in the JSON: readings, and nanoseconds."""

# The histogram's steps: as wide as the greatest power of two in LOWEST_NS, up to
# _FINE_NS; from there on as many for every doubling as _DOUBLING_BITS count.
_STEP_BITS = LOWEST_NS.bit_length() - 1
_DOUBLING_BITS = 10
_FINE_BITS = _STEP_BITS + _DOUBLING_BITS + 1
_FINE_NS = 1 << _FINE_BITS


def _stepOf(ns: int) -> int:
    """Return the number of the step that a reading falls into."""
    if ns < _FINE_NS:
        return ns >> _STEP_BITS
    doublings = ns.bit_length() - _FINE_BITS
    return (doublings << _DOUBLING_BITS) + (ns >> doublings + _STEP_BITS)


def _beginOf(step: int) -> int:
    """Return the least reading that falls into a step, in nanoseconds."""
    doublings = max(0, (step >> _DOUBLING_BITS) - 1)
    return step - (doublings << _DOUBLING_BITS) << doublings + _STEP_BITS


def _endOf(step: int) -> int:
    """Return the greatest reading that falls into a step."""
    return _beginOf(step + 1) - 1


def _middleOf(step: int) -> float:
    doublings = max(0, (step >> _DOUBLING_BITS) - 1)
    return (step - (doublings << _DOUBLING_BITS) + 0.5) * (1 << doublings + _STEP_BITS)


_STEPS = _stepOf(HIGHEST_NS) + 1
_SETTINGS = HistogramSettings(LOWEST_NS, HIGHEST_NS, DIGITS, _STEPS)

_NONE = [0] * 256


def _filled(counts: Sequence[int]) -> list[int]:
    """Return the numbers of the steps that have readings."""
    # To walk over all 24,000 holds up what is measured meanwhile. Most have none, next
    # to each other: comparing them by the hundred is the fastest way past them.
    filled: list[int] = []
    for begin in range(0, _STEPS, len(_NONE)):
        part = counts[begin : begin + len(_NONE)]
        if part != _NONE:
            filled.extend(compress(range(begin, begin + len(part)), part))
    return filled


class Latency:
    """
    A series of readings.

    A reading is counted under the step of the histogram that it falls into, in a
    list: an L{HdrHistogram}'s own recording takes ten times as long.
    """

    __slots__ = ("_earlier", "_recent")

    def __init__(self) -> None:
        self._recent = [0] * _STEPS
        # Of the steps that have readings alone: hardly one in a hundred has.
        self._earlier: dict[int, int] = {}

    def record(self, elapsedNs: int) -> None:
        """Add one reading, in nanoseconds."""
        # As _stepOf, without the call, and what is too long is found out last.
        if elapsedNs < _FINE_NS:
            self._recent[elapsedNs >> _STEP_BITS] += 1
            return
        doublings = elapsedNs.bit_length() - _FINE_BITS
        step = (doublings << _DOUBLING_BITS) + (elapsedNs >> doublings + _STEP_BITS)
        self._recent[step if step < _STEPS else -1] += 1

    def rotate(self) -> "Latency":
        """Return the readings since this was called last."""
        rotated = Latency()
        rotated._recent = self._recent
        for step in _filled(self._recent):
            self._earlier[step] = self._earlier.get(step, 0) + self._recent[step]
        self._recent = [0] * _STEPS
        return rotated

    def clear(self) -> None:
        """Forget all readings."""
        self._recent = [0] * _STEPS
        self._earlier.clear()

    def add(self, other: "Latency") -> None:
        """Add another's readings; it keeps them too."""
        for step, count in other._counts():
            self._recent[step] += count

    def _counts(self) -> list[tuple[int, int]]:
        """Return the steps that have readings, in order, and how many each has."""
        counts = dict(self._earlier)
        for step in _filled(self._recent):
            counts[step] = counts.get(step, 0) + self._recent[step]
        return sorted(counts.items())

    @property
    def count(self) -> int:
        """Readings so far."""
        return sum(self._earlier.values()) + sum(self._recent)

    def histogram(self) -> HdrHistogram:
        """Return all the readings, in nanoseconds; one over an hour counts as an hour."""
        histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
        self.addTo(histogram)
        return histogram

    def addTo(self, histogram: HdrHistogram) -> None:
        """Add all the readings to such a histogram."""
        for step, count in self._counts():
            histogram.record_value(_beginOf(step), count)

    def encoded(self) -> str | None:
        """
        Return all the readings as other tools of the family read them: an
        L{HdrHistogram}, compressed (V2) and in base64; C{None} if there are none.
        """
        return self.histogram().encode().decode() if self.count else None

    @classmethod
    def decoded(cls, text: str | None) -> "Latency":
        """
        Return the readings that L{encoded} wrote.

        @raise ValueError: if it is no such histogram.
        """
        return cls() if text is None else cls.fromCounts(decodedCounts(text, _SETTINGS))

    def counts(self) -> dict[int, int]:
        """Return how many readings each step has; a step without readings is left out."""
        return dict(self._counts())

    @classmethod
    def fromCounts(cls, counts: dict[int, int]) -> "Latency":
        """Return the readings that L{counts} told."""
        latency = cls()
        latency._earlier.update(counts)
        return latency

    def distribution(self) -> tuple[list[float], list[int]]:
        """
        Return the shares of the readings, from more than 0 up to 1, and for each
        the nanoseconds that they are within.
        """
        counts = self._counts()
        total = sum(count for _, count in counts)
        shares, readings = [], []
        below = 0
        for step, count in counts:
            below += count
            shares.append(below / total)
            readings.append(_endOf(step))
        return shares, readings

    def buckets(self, *bounds: int) -> tuple[list[int], int, float]:
        """
        Return what a cumulative histogram has of them: for each of so many nanoseconds,
        how many readings are no longer, to the width of a step; how many there are; and
        their sum, each taken to be in the middle of its step.
        """
        counts = self._counts()
        steps = [step for step, _ in counts]
        times = [count for _, count in counts]
        below = [0, *accumulate(times)]
        within = [below[bisect_right(steps, _stepOf(bound))] for bound in bounds]
        return within, below[-1], sum(map(mul, map(_middleOf, steps), times))

    def under(self, ns: int) -> int:
        """Return how many readings a percentile would tell as less than so many nanoseconds."""
        limit = _stepOf(ns)
        earlier = sum(count for step, count in self._earlier.items() if step < limit)
        return earlier + sum(self._recent[:limit])

    def percentiles(self, *percents: float) -> list[int | None]:
        """
        Return, for each, the nanoseconds within which so many of the readings
        are; C{None} if there are none. The rank is the nearest, rounded up: at least
        so many percent of the readings are no longer.

        @param percents: from 0 to 100.
        """
        # A histogram of the library's for each interval of a long run would be memory
        # that only the collector of cycles gets back, and it hardly ever has to run.
        counts = self._counts()
        if not counts:
            return [None for _ in percents]
        steps, times = zip(*counts, strict=True)
        return [*_percentiles(steps, times, percents)]

    def asJSON(self) -> Fields:
        """
        Return the fields of a latency in the JSON results, in nanoseconds; those
        that are not known are C{None}.
        """
        counts = self._counts()
        if not counts:
            return {"count": 0, **dict.fromkeys(("min", "mean", "stddev", *PERCENTILES, "max"))}
        # The moments as the library has them, but without its walk over all the steps.
        steps, times = zip(*counts, strict=True)
        total = sum(times)
        middles = [*map(_middleOf, steps)]
        mean = sum(map(mul, middles, times)) / total
        variance = sum(map(mul, [(middle - mean) ** 2 for middle in middles], times)) / total
        return {
            "count": total,
            "min": _beginOf(steps[0]),
            "mean": round(mean),
            "stddev": round(sqrt(variance)),
            **dict(
                zip(PERCENTILES, _percentiles(steps, times, PERCENTILES.values()), strict=True)
            ),
            "max": _endOf(steps[-1]),
        }


def rankOf(percent: float, count: int) -> int:
    """
    Return which of so many readings, counted from the least as 1, a percentile is: the
    nearest rank, rounded up.

    @param percent: from 0 to 100.
    @param count: 1 or more.
    """
    # By the decimals that were written: 99.9 % of 1,000 is 999, and the float is more.
    return max(1, ceil(Fraction(str(percent)) * count / 100))


def _percentiles(
    steps: Sequence[int], times: Sequence[int], percents: Iterable[float]
) -> Iterator[int]:
    """Do what L{Latency.percentiles} does, with steps and how many readings each has."""
    below = list(accumulate(times))
    for percent in percents:
        yield _endOf(steps[bisect_left(below, rankOf(percent, below[-1]))])
