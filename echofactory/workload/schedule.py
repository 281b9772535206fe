"""
The schedule of an open loop: when each message is due, independent of replies.
"""

from dataclasses import dataclass
from math import ceil, sqrt
from typing import Protocol

from echofactory.values.checks import checkRate

_EXACT = 1e-12
"""The relative error of a few operations on floats, with some margin. A message that is due
this close to the end of the time is due at the end."""


@dataclass(frozen=True)
class Rate:
    """
    A rate in messages a second, over all connections. Over the run, it changes evenly from
    C{first} to C{last}.

    @ivar first: the rate at the beginning, from L{MIN_RATE} to L{MAX_RATE}.
    @ivar last: the rate at the end, in the same range.
    @raise TypeError: from the constructor, if a field has another type.
    @raise ValueError: from the constructor, if a field is out of range. The message names the
        field and the value.
    """

    first: float
    last: float

    def __post_init__(self) -> None:
        for name in ("first", "last"):
            checkRate(f"rate: {name}", getattr(self, name))

    @property
    def mean(self) -> float:
        """The mean rate over the run."""
        return (self.first + self.last) / 2


class DueTimes(Protocol):
    """
    When each message of a run is due, as a time after the schedule's beginning.

    No message is due before the message before it.
    """

    @property
    def total(self) -> int:
        """The number of scheduled messages."""

    @property
    def expected(self) -> float:
        """The number of messages that the rates make, exactly: not a whole number."""

    @property
    def seconds(self) -> float:
        """The length of the schedule, in seconds."""

    @property
    def endNs(self) -> int:
        """When the message after the last one would be due, in nanoseconds."""

    def dueNs(self, number: float) -> int:
        """
        Return when a message is due, in nanoseconds after the beginning.

        @param number: the number of the message, from 0. If it is not a whole number, the
            time is between those of two messages.
        """

    def dueBefore(self, ns: int) -> int:
        """
        Return the number of messages that are due before a time. It is exact: of the scheduled
        messages, these are all whose L{dueNs} is less.

        @param ns: the time, in nanoseconds after the beginning.
        """

    def rateOf(self, number: int) -> float:
        """
        Return the mean rate of the first C{number} messages, in messages a second, over the
        time until the next one would be due.

        @param number: 1 or more.
        """


@dataclass(frozen=True)
class Schedule:
    """
    When each message of a run is due, as a time after the schedule's beginning. The rate
    changes evenly over the whole run. See L{DueTimes} for the rules.

    @ivar rate: the rate at the beginning and at the end.
    @ivar total: the number of scheduled messages.
    @ivar seconds: the time over which the rate changes from C{rate.first} to C{rate.last}.
    """

    rate: Rate
    total: int
    seconds: float

    @classmethod
    def lasting(cls, rate: Rate, seconds: float) -> "Schedule":
        """
        Return a schedule for a duration. The first message is due at the beginning, and none
        at the end. At a rate of 0.5, 5 seconds have 3 messages: at 0, 2 and 4 s.
        """
        return cls(
            rate,
            dueWithin(_expected(rate, (rate.last - rate.first) / seconds, seconds)),
            seconds,
        )

    @classmethod
    def of(cls, rate: Rate, total: int) -> "Schedule":
        """Return a schedule for a number of messages."""
        return cls(rate, total, total / rate.mean)

    @property
    def _gain(self) -> float:
        """The change of the rate in a second, in messages a second."""
        return (self.rate.last - self.rate.first) / self.seconds

    @property
    def endNs(self) -> int:
        """When the message after the last one would be due, in nanoseconds."""
        return self.dueNs(self.total)

    @property
    def expected(self) -> float:
        """See L{DueTimes}."""
        return snapped(self.rate.mean * self.seconds)

    def dueNs(self, number: float) -> int:
        """See L{DueTimes}."""
        rate = self.rate
        first = rate.first
        if rate.last == first:
            return round(number * 1e9 / first)
        gain = self._gain
        # By the time t, first * t + gain * t**2 / 2 messages are due. This is the inverse,
        # in the form that loses no digits. If the rate falls to 0 before a message is due,
        # the message is due at that time.
        within = max(first * first + 2 * gain * number, 0.0)
        return round(2e9 * number / (first + sqrt(within)))

    def expectedBefore(self, ns: int) -> float:
        """Return the number of messages that the rate makes until a time, exactly."""
        return _expected(self.rate, self._gain, ns / 1e9)

    def dueBefore(self, ns: int) -> int:
        """See L{DueTimes}."""
        if ns <= 0:
            return 0
        if ns >= self.seconds * 1e9:
            return self.total
        return countedBefore(self, ns, dueWithin(self.expectedBefore(ns)))

    def rateOf(self, number: int) -> float:
        """See L{DueTimes}."""
        return number * 1e9 / self.dueNs(number) if self._gain else self.rate.first


def _expected(rate: Rate, gain: float, seconds: float) -> float:
    """Return the number of messages that a rate makes from 0 until a time."""
    return rate.first * seconds + gain * seconds * seconds / 2


def snapped(expected: float) -> float:
    """Return a number of messages. If only the error of floats keeps it from being whole, the
    whole number is returned."""
    whole = round(expected)
    return float(whole) if abs(expected - whole) <= _EXACT * whole else expected


def dueWithin(expected: float) -> int:
    """
    Return the number of messages that are due from 0 until a time, and not at it.

    @param expected: the number of messages that the rate makes until then.
    """
    return max(1, ceil(snapped(expected)))


def countedBefore(schedule: DueTimes, ns: int, guess: int) -> int:
    """
    Return the number of messages that are due before a time, to the nanosecond.

    @param guess: that number, or a number close to it.
    """
    due = min(guess, schedule.total)
    while due < schedule.total and schedule.dueNs(due) < ns:
        due += 1
    while due and schedule.dueNs(due - 1) >= ns:
        due -= 1
    return due
