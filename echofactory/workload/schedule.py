"""
When messages are due: the open loop's clock, which no reply can hold up.
"""

from dataclasses import dataclass
from math import ceil, sqrt

from echofactory.values.checks import checkRate

_EXACT = 1e-12
"""Relative error of a few operations on floats, and some room. A message that is due
this close to the end of the time is due at its end."""


@dataclass(frozen=True)
class Rate:
    """
    Messages a second over all connections; from C{first} evenly to C{last} over
    the run.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            checkRate(f"rate: {name}", getattr(self, name))

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
        """
        Return what is due within some time: the first message at its beginning, and
        none at its end. At 0.5 a second, 5 seconds have 3 messages: at 0, 2 and 4 s.
        """
        return cls(
            rate, _dueWithin(rate.first, (rate.last - rate.first) / seconds, seconds), seconds
        )

    @classmethod
    def of(cls, rate: Rate, total: int) -> "Schedule":
        """Return a schedule of so many messages."""
        return cls(rate, total, total / rate.mean)

    @property
    def _gain(self) -> float:
        """How much faster the rate is after a second, in messages a second."""
        return (self.rate.last - self.rate.first) / self.seconds

    @property
    def endNs(self) -> int:
        """When the message after the last one would be due, in nanoseconds."""
        return self.dueNs(self.total)

    def dueNs(self, number: int) -> int:
        """
        Return when a message is due, in nanoseconds after the beginning.

        @param number: the message's, from 0.
        """
        rate = self.rate
        first = rate.first
        if rate.last == first:
            return round(number * 1e9 / first)
        gain = self._gain
        # How many are due by t is first * t + gain * t**2 / 2; this is its inverse,
        # in the form that loses no digits. A rate that falls to nothing before a
        # message is due has it due then.
        within = max(first * first + 2 * gain * number, 0.0)
        return round(2e9 * number / (first + sqrt(within)))

    def dueBefore(self, ns: int) -> int:
        """
        Return how many messages are due before some time.

        @param ns: nanoseconds after the beginning.
        """
        if ns <= 0:
            return 0
        if ns >= self.seconds * 1e9:
            return self.total
        return min(self.total, _dueWithin(self.rate.first, self._gain, ns / 1e9))

    def rateOf(self, number: int) -> float:
        """
        Return the mean rate of the first so many messages, in messages a second: over
        the time until the next one would be due.

        @param number: 1 or more.
        """
        return number * 1e9 / self.dueNs(number) if self._gain else self.rate.first


def _dueWithin(first: float, gain: float, seconds: float) -> int:
    """Return how many messages are due from 0 up to a time, but not at it."""
    exact = first * seconds + gain * seconds * seconds / 2
    whole = round(exact)
    if abs(exact - whole) <= _EXACT * whole:
        return max(1, whole)
    return max(1, ceil(exact))
