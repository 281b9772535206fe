"""
Poisson arrivals: the gaps between messages are random, and their mean follows the schedule's
rate.

On an axis of messages, the gaps of a Poisson process are exponential with a mean of 1. The
schedule's rate stretches this axis into time. The numbers of the axis are not drawn one after
the other, because a run needs their total at its beginning, and any of them at any time:

 - The place of number M + 1 is a gamma variate. Given that place, the M numbers before it are
   uniform on the axis before it, in order.
 - The middle one of uniform numbers in order is a beta variate. On both sides of it, the others
   are uniform again. So a tree leads to any of them, and its leaves are sorted uniform numbers.
 - Each node of the tree has a random generator of its own, with the seed and the node's place
   as its seed.

So memory does not grow with the number of messages: only the latest leaves are kept.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from math import ceil, sqrt
from random import Random, SystemRandom

from echofactory.values.checks import checkWhole
from echofactory.workload.schedule import DueTimes

_LEAF = 256
"""The highest number of places in a leaf of the tree."""

MAX_SEED = 10**18 - 1


@dataclass(frozen=True)
class Poisson:
    """
    Poisson arrivals.

    @ivar seed: the seed of the random gaps, from 0 to L{MAX_SEED}. The same seed and schedule
        have the same due times, with the same version of Python. By default, it is random.
    @raise TypeError: from the constructor, if the seed is not a whole number.
    @raise ValueError: from the constructor, if the seed is out of range.
    """

    seed: int = field(default_factory=lambda: SystemRandom().randrange(1_000_000))

    def __post_init__(self) -> None:
        checkWhole("arrivals: seed", self.seed, 0, MAX_SEED)


class UnitArrivals:
    """The first places of a Poisson process with a rate of 1, in order, from 0."""

    def __init__(self, seed: int, count: int) -> None:
        """
        @param count: the number of places, 1 or more.
        """
        self.count = count
        self._seed = seed
        self._end = self._drawn("end", count).gammavariate(count + 1, 1.0)
        self._leaf = lru_cache(maxsize=4)(self._drawLeaf)
        self._middle = lru_cache(maxsize=64)(self._drawMiddle)
        # The leaf that was used last, and the number of its first place.
        self._first = 0
        self._latest: list[float] = []

    def _drawn(self, *place: object) -> Random:
        return Random(" ".join(map(str, (self._seed, self.count, *place))))

    def _drawLeaf(self, low: int, high: int, begin: float, end: float) -> list[float]:
        random = self._drawn(low, high).random
        return sorted(begin + (end - begin) * random() for _ in range(high - low))

    def _drawMiddle(self, low: int, high: int) -> float:
        middle = (low + high) // 2
        return self._drawn(low, high).betavariate(middle - low + 1, high - middle)

    def place(self, number: int) -> float:
        """
        Return one of the places.

        @param number: from 0 to C{count - 1}.
        """
        within = number - self._first
        if 0 <= within < len(self._latest):
            return self._latest[within]
        low, high, begin, end = 0, self.count, 0.0, self._end
        while high - low > _LEAF:
            middle = (low + high) // 2
            at = begin + (end - begin) * self._middle(low, high)
            if number == middle:
                return at
            if number < middle:
                high, end = middle, at
            else:
                low, begin = middle + 1, at
        self._first, self._latest = low, self._leaf(low, high, begin, end)
        return self._latest[number - low]

    def before(self, place: float) -> int:
        """Return how many of the places are before another one."""
        low, high, begin, end = 0, self.count, 0.0, self._end
        while high - low > _LEAF:
            middle = (low + high) // 2
            at = begin + (end - begin) * self._middle(low, high)
            if place <= at:
                high, end = middle, at
            else:
                low, begin = middle + 1, at
        return low + bisect_left(self._leaf(low, high, begin, end), place)


@dataclass(frozen=True)
class PoissonSchedule:
    """
    When each message of a run with Poisson arrivals is due. See
    L{DueTimes<echofactory.workload.schedule.DueTimes>} for the rules.

    The first message is due after the first gap. With a duration, the number of messages is
    random: those that are due within the duration. With a count, the time is random.

    @ivar even: the schedule with the same rate and even gaps.
    @ivar seed: the seed of the gaps.
    @ivar counted: whether C{even.total} is the number of messages; otherwise, C{even.seconds}
        decides.
    """

    even: DueTimes
    seed: int
    counted: bool

    @cached_property
    def _arrivals(self) -> UnitArrivals:
        if self.counted:
            # With the message after the last one.
            return UnitArrivals(self.seed, self.even.total + 1)
        # 12 standard deviations more than the mean.
        expected = self.even.expected
        return UnitArrivals(self.seed, ceil(expected + 12 * sqrt(expected)) + 50)

    @cached_property
    def total(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}. It can be 0."""
        if self.counted:
            return self.even.total
        total = self._arrivals.before(self.even.expected)
        # A message whose time rounds to the end is not within the duration.
        while total and self.dueNs(total - 1) >= self.even.seconds * 1e9:
            total -= 1
        return total

    @property
    def expected(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.even.expected

    @property
    def seconds(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.even.seconds if not self.counted else self.endNs / 1e9

    @property
    def endNs(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.dueNs(self.total)

    def dueNs(self, number: float) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.even.dueNs(self._arrivals.place(int(number)))

    def dueBefore(self, ns: int) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        low, high = 0, self.total
        # The number of messages at even gaps does not tell where the gaps are random.
        while low < high:
            middle = (low + high) // 2
            if self.dueNs(middle) < ns:
                low = middle + 1
            else:
                high = middle
        return low

    def rateOf(self, number: int) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return number * 1e9 / self.dueNs(number)
