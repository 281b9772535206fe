"""
What is kept of a latency: a histogram, cheap to record into.

U{HdrHistogram<http://hdrhistogram.org>}: three significant digits, from 1 us to
1 h, in nanoseconds.
"""

import zlib
from bisect import bisect_left
from itertools import accumulate
from math import sqrt

from hdrh.codec import HdrCookieException, HdrHistogramSettingsException, HdrLengthException
from hdrh.histogram import HdrHistogram

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


_STEPS = _stepOf(HIGHEST_NS) + 1

_UNREADABLE = (
    IndexError,
    ValueError,
    TypeError,
    zlib.error,
    HdrCookieException,
    HdrHistogramSettingsException,
    HdrLengthException,
)


class Latency:
    """
    A series of readings.

    A reading is counted under the step of the histogram that it falls into, in a
    list: an L{HdrHistogram}'s own recording takes ten times as long.
    """

    __slots__ = ("_earlier", "_recent")

    def __init__(self) -> None:
        self._recent = [0] * _STEPS
        self._earlier = [0] * _STEPS

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
        self._earlier = self._counts()
        self._recent = [0] * _STEPS
        return rotated

    def clear(self) -> None:
        """Forget all readings."""
        self._recent = [0] * _STEPS
        self._earlier = [0] * _STEPS

    def add(self, other: "Latency") -> None:
        """Add another's readings; it keeps them too."""
        self._recent = list(map(int.__add__, self._recent, other._counts()))

    def _counts(self) -> list[int]:
        """Return how many readings there are for each step."""
        return list(map(int.__add__, self._earlier, self._recent))

    @property
    def count(self) -> int:
        """Readings so far."""
        return sum(self._earlier) + sum(self._recent)

    def histogram(self) -> HdrHistogram:
        """Return all the readings, in nanoseconds; one over an hour counts as an hour."""
        histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
        self.addTo(histogram)
        return histogram

    def addTo(self, histogram: HdrHistogram) -> None:
        """Add all the readings to such a histogram."""
        for step, count in enumerate(self._counts()):
            if count:
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

        @raise ValueError: if it is no histogram.
        """
        latency = cls()
        if text is None:
            return latency
        try:
            histogram = HdrHistogram.decode(text)
        except _UNREADABLE as error:
            raise ValueError("not an HdrHistogram (V2, compressed, base64)") from error
        for item in histogram.get_recorded_iterator():
            step = min(_stepOf(item.value_iterated_to), _STEPS - 1)
            latency._recent[step] += item.count_added_in_this_iter_step
        return latency

    def distribution(self) -> tuple[list[float], list[int]]:
        """
        Return the shares of the readings, from more than 0 up to 1, and for each
        the nanoseconds that they are within.
        """
        counts = self._counts()
        total = sum(counts)
        shares, readings = [], []
        below = 0
        for step, count in enumerate(counts):
            if count:
                below += count
                shares.append(below / total)
                readings.append(_beginOf(step + 1) - 1)
        return shares, readings

    def within(self, *bounds: int) -> list[int]:
        """
        Return, for each of so many nanoseconds, how many readings are no longer, to
        the width of a step.
        """
        below = list(accumulate(self._counts()))
        return [below[min(_stepOf(bound), _STEPS - 1)] for bound in bounds]

    def percentiles(self, *percents: float) -> list[int | None]:
        """
        Return, for each, the nanoseconds within which so many of the readings
        are; C{None} if there are none.

        @param percents: from 0 to 100.
        """
        # A histogram of the library's for each interval of a long run would be memory
        # that only the collector of cycles gets back, and it hardly ever has to run.
        below = list(accumulate(self._counts()))
        total = below[-1]
        if not total:
            return [None for _ in percents]
        ranks = [max(1, int(percent * total / 100 + 0.5)) for percent in percents]
        return [_beginOf(bisect_left(below, rank) + 1) - 1 for rank in ranks]

    def asJSON(self) -> Fields:
        """
        Return the fields of a latency in the JSON results, in nanoseconds; those
        that are not known are C{None}.
        """
        count = self.count
        if not count:
            return {"count": 0, **dict.fromkeys(("min", "mean", "stddev", *PERCENTILES, "max"))}
        mean, deviation = self._moments(count)
        found = self.percentiles(*PERCENTILES.values())
        return {
            "count": count,
            "min": _beginOf(next(step for step, n in enumerate(self._counts()) if n)),
            "mean": round(mean),
            "stddev": round(deviation),
            **dict(zip(PERCENTILES, found, strict=True)),
            "max": self.percentiles(100.0)[0],
        }

    @property
    def sumNs(self) -> float:
        """All the readings together, each taken to be in the middle of its step."""
        return sum(middle * times for middle, times in self._middles())

    def _middles(self) -> list[tuple[float, int]]:
        """Return the middle of each step that has readings, and how many it has."""
        return [
            ((_beginOf(step) + _beginOf(step + 1)) / 2, times)
            for step, times in enumerate(self._counts())
            if times
        ]

    def _moments(self, count: int) -> tuple[float, float]:
        """
        Return the mean and the standard deviation, as the library does, but
        without its walk over all the steps that have no reading.
        """
        middles = self._middles()
        mean = sum(middle * times for middle, times in middles) / count
        variance = sum((middle - mean) ** 2 * times for middle, times in middles) / count
        return mean, sqrt(variance)
