"""
A histogram of latencies, into which recording is cheap.

It has the steps of an U{HdrHistogram<http://hdrhistogram.org>}: three significant digits,
from 1 µs to 1 h, in nanoseconds.
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
"""The percentiles of the JSON, by field."""

Fields = dict[str, int | None]
"""A latency in the JSON: the number of readings, and nanoseconds; C{None}: not known."""

# The histogram's steps. Below _FINE_NS, the width is the greatest power of two in LOWEST_NS.
# From there on, each doubling has 2 ** _DOUBLING_BITS steps.
_STEP_BITS = LOWEST_NS.bit_length() - 1
_DOUBLING_BITS = 10
_FINE_BITS = _STEP_BITS + _DOUBLING_BITS + 1
_FINE_NS = 1 << _FINE_BITS


def statisticName(field: str) -> str:
    """Return what a person calls a field of the JSON: C{p99.9} is C{p99_9}."""
    return field.replace("_", ".")


def _stepOf(ns: int) -> int:
    """Return the number of the step of a reading."""
    if ns < _FINE_NS:
        return ns >> _STEP_BITS
    doublings = ns.bit_length() - _FINE_BITS
    return (doublings << _DOUBLING_BITS) + (ns >> doublings + _STEP_BITS)


def _beginOf(step: int) -> int:
    """Return the lowest reading of a step, in nanoseconds."""
    doublings = max(0, (step >> _DOUBLING_BITS) - 1)
    return step - (doublings << _DOUBLING_BITS) << doublings + _STEP_BITS


def _endOf(step: int) -> int:
    """Return the highest reading of a step, in nanoseconds."""
    return _beginOf(step + 1) - 1


def _middleOf(step: int) -> float:
    doublings = max(0, (step >> _DOUBLING_BITS) - 1)
    return (step - (doublings << _DOUBLING_BITS) + 0.5) * (1 << doublings + _STEP_BITS)


_STEPS = _stepOf(HIGHEST_NS) + 1
_SETTINGS = HistogramSettings(LOWEST_NS, HIGHEST_NS, DIGITS, _STEPS)

_NONE = [0] * 256


def _filled(counts: Sequence[int]) -> list[int]:
    """Return the numbers of the steps that have readings."""
    # A loop over all 24,000 steps would delay the measurement. Most steps are empty and
    # adjacent, so that comparing 256 at a time is the fastest way past them.
    filled: list[int] = []
    for begin in range(0, _STEPS, len(_NONE)):
        part = counts[begin : begin + len(_NONE)]
        if part != _NONE:
            filled.extend(compress(range(begin, begin + len(part)), part))
    return filled


class Latency:
    """
    A series of readings.

    Each reading is counted in a list, by its step. Recording into an C{HdrHistogram} takes ten
    times as long.
    """

    __slots__ = ("_earlier", "_recent")

    def __init__(self) -> None:
        self._recent = [0] * _STEPS
        # Only steps with readings, because fewer than one in a hundred has any.
        self._earlier: dict[int, int] = {}

    def record(self, elapsedNs: int) -> None:
        """Add one reading, in nanoseconds."""
        # This is _stepOf, without the call. Readings over an hour are counted as an hour.
        if elapsedNs < _FINE_NS:
            self._recent[elapsedNs >> _STEP_BITS] += 1
            return
        doublings = elapsedNs.bit_length() - _FINE_BITS
        step = (doublings << _DOUBLING_BITS) + (elapsedNs >> doublings + _STEP_BITS)
        self._recent[step if step < _STEPS else -1] += 1

    def rotate(self) -> "Latency":
        """Return the readings since the last call."""
        rotated = Latency()
        rotated._recent = self._recent
        for step in _filled(self._recent):
            self._earlier[step] = self._earlier.get(step, 0) + self._recent[step]
        self._recent = [0] * _STEPS
        return rotated

    def clear(self) -> None:
        """Remove all readings."""
        self._recent = [0] * _STEPS
        self._earlier.clear()

    def add(self, other: "Latency") -> None:
        """Add the readings of another series, which stays unchanged."""
        for step, count in other._counts():
            self._recent[step] += count

    def _counts(self) -> list[tuple[int, int]]:
        """Return the steps with readings, in order, and the number of readings of each."""
        counts = dict(self._earlier)
        for step in _filled(self._recent):
            counts[step] = counts.get(step, 0) + self._recent[step]
        return sorted(counts.items())

    @property
    def count(self) -> int:
        """The number of readings."""
        return sum(self._earlier.values()) + sum(self._recent)

    def histogram(self) -> HdrHistogram:
        """Return the readings, in nanoseconds. A reading over an hour counts as an hour."""
        histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
        self.addTo(histogram)
        return histogram

    def addTo(self, histogram: HdrHistogram) -> None:
        """Add the readings to a histogram with the same settings."""
        for step, count in self._counts():
            histogram.record_value(_beginOf(step), count)

    def encoded(self) -> str | None:
        """
        Return the readings as an C{HdrHistogram}, compressed (V2) and in base64, which other
        tools can read; C{None}: there are no readings.
        """
        return self.histogram().encode().decode() if self.count else None

    @classmethod
    def decoded(cls, text: str | None) -> "Latency":
        """
        Return the readings that L{encoded} wrote.

        @raise ValueError: if the text is not a histogram with the same settings.
        """
        return cls() if text is None else cls.fromCounts(decodedCounts(text, _SETTINGS))

    def counts(self) -> dict[int, int]:
        """Return the number of readings of each step that has any."""
        return dict(self._counts())

    def change(self, changes: dict[int, int]) -> None:
        """
        Change the number of readings of steps.

        @param changes: by step, as L{counts} has them. Those of several parts add up to the
            readings of the whole. A number can be less than 0 if readings were removed.
        """
        for step, change in changes.items():
            self._earlier[step] = self._earlier.get(step, 0) + change
            if not self._earlier[step]:
                del self._earlier[step]

    @classmethod
    def fromCounts(cls, counts: dict[int, int]) -> "Latency":
        """Return the readings that L{counts} returned."""
        latency = cls()
        latency._earlier.update(counts)
        return latency

    def distribution(self) -> tuple[list[float], list[int]]:
        """
        Return the cumulative distribution: shares of the readings, from more than 0 up to 1,
        and for each share the nanoseconds that these readings do not exceed.
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
        Return the values of a cumulative histogram: for each bound, the number of readings
        that do not exceed it; the number of all readings; and their sum. A bound is exact to
        the width of a step. In the sum, each reading counts as the middle of its step.

        @param bounds: in nanoseconds.
        """
        counts = self._counts()
        steps = [step for step, _ in counts]
        times = [count for _, count in counts]
        below = [0, *accumulate(times)]
        within = [below[bisect_right(steps, _stepOf(bound))] for bound in bounds]
        return within, below[-1], sum(map(mul, map(_middleOf, steps), times))

    def under(self, ns: int) -> int:
        """Return the number of readings whose step is below the step of C{ns} nanoseconds."""
        limit = _stepOf(ns)
        earlier = sum(count for step, count in self._earlier.items() if step < limit)
        return earlier + sum(self._recent[:limit])

    def percentiles(self, *percents: float) -> list[int | None]:
        """
        Return percentiles in nanoseconds; C{None}: there are no readings. The rank is the
        nearest rank, rounded up: at least C{percent} % of the readings do not exceed the
        percentile.

        @param percents: from 0 to 100.
        """
        # The library's histogram is a reference cycle of 180 kB, which only the garbage
        # collector frees. A long run would make one for each interval.
        counts = self._counts()
        if not counts:
            return [None for _ in percents]
        steps, times = zip(*counts, strict=True)
        return [*_percentiles(steps, times, percents)]

    def asJSON(self) -> Fields:
        """
        Return the fields of a latency in the JSON, in nanoseconds; C{None}: not known.
        """
        counts = self._counts()
        if not counts:
            return {"count": 0, **dict.fromkeys(("min", "mean", "stddev", *PERCENTILES, "max"))}
        # The moments are those of the library, without its loop over all steps.
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
    Return the rank of a percentile: the nearest rank, rounded up. The lowest reading has the
    rank 1.

    @param percent: from 0 to 100.
    @param count: the number of readings, 1 or more.
    """
    # The text of the float is exact: 99.9 % of 1,000 is 999, but the float is more.
    return max(1, ceil(Fraction(str(percent)) * count / 100))


def _percentiles(
    steps: Sequence[int], times: Sequence[int], percents: Iterable[float]
) -> Iterator[int]:
    """Calculate percentiles of steps, given the number of readings of each."""
    below = list(accumulate(times))
    for percent in percents:
        yield _endOf(steps[bisect_left(below, rankOf(percent, below[-1]))])
