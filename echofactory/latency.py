"""
What is kept of a latency: a histogram, cheap to record into.

U{HdrHistogram<http://hdrhistogram.org>}: three significant digits, from 1 us to
1 h, in nanoseconds.
"""

from collections import defaultdict
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

# What one of the histogram's steps is, up to where the steps become coarser: the
# greatest power of two in LOWEST_NS, and how many bits of such steps it keeps.
_STEP_BITS = LOWEST_NS.bit_length() - 1
_KEPT_BITS = 11


class Latency:
    """
    A series of readings.

    A reading is counted under the step of the histogram it falls into, in a
    dict: an L{HdrHistogram}'s own recording takes ten times as long, and there
    are no more steps than it has.
    """

    __slots__ = ("_earlier", "_recent")

    def __init__(self) -> None:
        self._recent: defaultdict[int, int] = defaultdict(int)
        self._earlier: defaultdict[int, int] = defaultdict(int)

    def record(self, elapsedNs: int) -> None:
        """Add one reading, in nanoseconds."""
        step = elapsedNs >> _STEP_BITS
        coarser = step.bit_length() - _KEPT_BITS
        if coarser > 0:
            step = step >> coarser << coarser
        self._recent[step] += 1

    def rotate(self) -> "Latency":
        """Return the readings since this was called last."""
        recent = Latency()
        recent._recent = self._recent
        for step, count in self._recent.items():
            self._earlier[step] += count
        self._recent = defaultdict(int)
        return recent

    def clear(self) -> None:
        """Forget all readings."""
        self._recent.clear()
        self._earlier.clear()

    def add(self, other: "Latency") -> None:
        """Add another's readings; it keeps them too."""
        for counts in (other._earlier, other._recent):
            for step, count in counts.items():
                self._recent[step] += count

    @property
    def count(self) -> int:
        """Readings so far."""
        return sum(self._earlier.values()) + sum(self._recent.values())

    def histogram(self) -> HdrHistogram:
        """Return all the readings, in nanoseconds; one over an hour counts as an hour."""
        histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
        for counts in (self._earlier, self._recent):
            for step, count in counts.items():
                histogram.record_value(min(step << _STEP_BITS, HIGHEST_NS), count)
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

    def asJSON(self) -> dict[str, int | None]:
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
            (
                (step << _STEP_BITS)
                + (1 << _STEP_BITS + max(0, step.bit_length() - _KEPT_BITS)) / 2,
                times,
            )
            for counts in (self._earlier, self._recent)
            for step, times in counts.items()
        ]
        mean = sum(middle * times for middle, times in middles) / count
        variance = sum((middle - mean) ** 2 * times for middle, times in middles) / count
        return mean, sqrt(variance)
