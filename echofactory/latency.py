"""
What is kept of a latency: a histogram, cheap to record into.

U{HdrHistogram<http://hdrhistogram.org>}: three significant digits, from 1 us to
1 h, in nanoseconds.
"""

from math import sqrt

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
        for step, count in enumerate(self._counts()):
            if count:
                histogram.record_value(_beginOf(step), count)
        return histogram

    def percentiles(self, *percents: float) -> list[int | None]:
        """
        Return, for each, the nanoseconds within which so many of the readings
        are; C{None} if there are none.

        @param percents: from 0 to 100.
        """
        histogram = self.histogram()
        if not histogram.get_total_count():
            return [None for _ in percents]
        found = histogram.get_percentile_to_value_dict(list(percents))
        return [int(found[percent]) for percent in percents]

    def asJSON(self) -> Fields:
        """
        Return the fields of a latency in the JSON results, in nanoseconds; those
        that are not known are C{None}.
        """
        histogram = self.histogram()
        count = histogram.get_total_count()
        if not count:
            return {"count": 0, **dict.fromkeys(("min", "mean", "stddev", *PERCENTILES, "max"))}
        found = histogram.get_percentile_to_value_dict(list(PERCENTILES.values()))
        mean, deviation = self._moments(count)
        return {
            "count": count,
            "min": histogram.get_min_value(),
            "mean": round(mean),
            "stddev": round(deviation),
            **{field: int(found[percent]) for field, percent in PERCENTILES.items()},
            "max": histogram.get_max_value(),
        }

    def _moments(self, count: int) -> tuple[float, float]:
        """
        Return the mean and the standard deviation, as the library does, but
        without its walk over all the steps that have no reading.
        """
        middles = [
            ((_beginOf(step) + _beginOf(step + 1)) / 2, times)
            for step, times in enumerate(self._counts())
            if times
        ]
        mean = sum(middle * times for middle, times in middles) / count
        variance = sum((middle - mean) ** 2 * times for middle, times in middles) / count
        return mean, sqrt(variance)
