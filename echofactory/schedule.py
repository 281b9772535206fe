"""
When messages are due: the open loop's clock, which no reply can hold up.
"""

from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Rate:
    """
    Messages a second over all connections; from C{first} evenly to C{last} over
    the run.

    @raise ValueError: from the constructor, naming the field and the value.
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            if not getattr(self, name) > 0:
                raise ValueError(f"rate: {name}: {getattr(self, name)} is not more than 0")

    @property
    def mean(self) -> float:
        """Over the whole run."""
        return (self.first + self.last) / 2


@dataclass(frozen=True)
class Schedule:
    """
    When each message of a run is due, as a time after its beginning.

    @ivar total: how many messages are due in all.
    @ivar seconds: over which the rate goes from its first to its last.
    """

    rate: Rate
    total: int
    seconds: float

    @classmethod
    def lasting(cls, rate: Rate, seconds: float) -> "Schedule":
        """Return what is due within some time."""
        return cls(rate, max(1, round(rate.mean * seconds)), seconds)

    @classmethod
    def of(cls, rate: Rate, total: int) -> "Schedule":
        """Return a schedule of so many messages."""
        return cls(rate, total, total / rate.mean)

    def dueNs(self, number: int) -> int:
        """
        Return when a message is due, in nanoseconds after the beginning.

        @param number: the message's, from 0.
        """
        first = self.rate.first
        gain = (self.rate.last - first) / self.seconds
        if not gain:
            return int(number * 1e9 / first)
        # How many are due by t is first * t + gain * t**2 / 2; this is its inverse,
        # in the form that loses no digits.
        within = max(first * first + 2 * gain * number, 0.0)
        return int(2e9 * number / (first + sqrt(within)))
