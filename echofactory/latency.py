"""
What is kept of a latency, a reading at a time.
"""

_PERCENTILES = ("p50", "p90", "p95", "p99", "p99_9", "p99_99")


class Latency:
    """
    The count, least, mean and greatest of a series of readings.

    @ivar count: readings so far.
    @ivar total: their sum, in nanoseconds.
    @ivar least: nanoseconds; meaningless while C{count} is 0.
    @ivar greatest: nanoseconds; meaningless while C{count} is 0.
    """

    __slots__ = ("count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.greatest = 0

    def record(self, elapsedNs: int) -> None:
        """Add one reading, in nanoseconds."""
        if not self.count or elapsedNs < self.least:
            self.least = elapsedNs
        if elapsedNs > self.greatest:
            self.greatest = elapsedNs
        self.count += 1
        self.total += elapsedNs

    def asJSON(self) -> dict[str, int | None]:
        """
        Return the fields of a latency in the JSON results, in nanoseconds;
        those that are not known are C{None}.
        """
        known = self.count > 0
        return {
            "count": self.count,
            "min": self.least if known else None,
            "mean": round(self.total / self.count) if known else None,
            "stddev": None,
            **dict.fromkeys(_PERCENTILES),
            "max": self.greatest if known else None,
        }
