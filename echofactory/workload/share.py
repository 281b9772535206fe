"""
The share of one part in a run that several parts make together.

Connections have numbers from 1. Part C{i} of C{k} has the connections whose numbers are
C{i + 1}, C{i + 1 + k} and so on, and the scheduled messages of these connections. So the shares
of all parts are the whole run, each connection and each message once; and at any time, the
parts take turns, instead of sending in bursts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd
from typing import TypeVar

from echofactory.values.checks import checkWhole
from echofactory.workload.schedule import DueTimes
from echofactory.workload.stages import WarmedUp

T = TypeVar("T")

MAX_PARTS = 10_000
"""The highest number of parts."""


@dataclass(frozen=True)
class Share:
    """
    One part of several. Without arguments: the whole run.

    @ivar part: the number of the part, from 0.
    @ivar parts: the number of parts, from 1 to L{MAX_PARTS}.
    @raise TypeError: from the constructor, if a field is not a whole number.
    @raise ValueError: from the constructor, if a field is out of range.
    """

    part: int = 0
    parts: int = 1

    def __post_init__(self) -> None:
        checkWhole("parts", self.parts, 1, MAX_PARTS)
        checkWhole("part", self.part, 0, self.parts - 1)

    def number(self, ordinal: int) -> int:
        """
        Return the number of a connection of this part.

        @param ordinal: from 1: the first connection of this part, the second, and so on.
        """
        return self.part + 1 + (ordinal - 1) * self.parts

    def count(self, total: int) -> int:
        """Return how many of the connections from 1 to C{total} belong to this part."""
        return max(0, (total - self.part + self.parts - 1) // self.parts)

    def turns(self, items: Sequence[T]) -> tuple[T, ...]:
        """
        Return the items that the connections of this part use in turn, if the connections of
        the whole run use C{items} in turn.
        """
        if not items:
            return ()
        size = len(items)
        return tuple(
            items[(self.number(ordinal) - 1) % size]
            for ordinal in range(1, size // gcd(size, self.parts) + 1)
        )

    def schedule(self, whole: DueTimes, connections: int) -> DueTimes:
        """
        Return this part's share of a schedule, whose messages go to the connections in turn.

        @param connections: the number of connections of the whole run.
        """
        if self.parts == 1:
            return whole
        if not isinstance(whole, WarmedUp):
            return SharedSchedule(whole, self, connections)
        warmUp = SharedSchedule(whole.warmUp, self, connections)
        return WarmedUp(
            warmUp, SharedSchedule(whole.measured, self, connections, whole.warmUp.total)
        )


WHOLE_RUN = Share()
"""The share of a run that has one part."""


@dataclass(frozen=True)
class SharedSchedule:
    """
    The messages of a schedule that one part sends. Each is due when it is due in the whole
    schedule. See L{DueTimes<echofactory.workload.schedule.DueTimes>} for the rules.

    @ivar whole: the schedule of all parts.
    @ivar share: which part it is.
    @ivar connections: the number of connections, which send the messages in turn.
    @ivar before: messages of the whole run before this schedule.
    """

    whole: DueTimes
    share: Share
    connections: int
    before: int = 0

    @cached_property
    def _perTurn(self) -> int:
        """How many of this part's messages there are, if each connection sends one."""
        return self.share.count(self.connections)

    def _ownUntil(self, messages: int) -> int:
        """Return how many of the first messages of the whole run belong to this part."""
        turns, rest = divmod(messages, self.connections)
        return turns * self._perTurn + self.share.count(rest)

    def _numberOf(self, own: int) -> int:
        """Return the number that a message of this part has in the whole schedule."""
        turns, rest = divmod(own + self._ownUntil(self.before), self._perTurn)
        return turns * self.connections + self.share.number(rest + 1) - 1 - self.before

    @cached_property
    def total(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}. It can be 0."""
        return self._ownBefore(self.whole.total)

    def _ownBefore(self, messages: int) -> int:
        """Return how many of the first messages of this schedule belong to this part."""
        return self._ownUntil(self.before + messages) - self._ownUntil(self.before)

    @property
    def expected(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.whole.expected * self._perTurn / self.connections

    @property
    def seconds(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.whole.seconds

    @property
    def endNs(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}: the end of the whole."""
        return self.whole.endNs

    def dueNs(self, number: float) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        if number >= self.total:
            return self.endNs
        return self.whole.dueNs(self._numberOf(int(number)))

    def dueBefore(self, ns: int) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self._ownBefore(self.whole.dueBefore(ns))

    def rateOf(self, number: int) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return number * 1e9 / self.dueNs(number)
