"""
How many connections were open at each time.
"""

from collections.abc import Callable, Iterable, Sequence

SLOT_NS = 1_000_000
"""Nanoseconds: what changes within a slot of this length counts as one moment."""

OpenCount = tuple[int, int, int]
"""A slot in which the number of open connections changed: the number of the slot, from 0; the
highest number of open connections in it; and their number at its end."""


class OpenCounts:
    """
    The numbers of open connections of one part, until they are taken.
    """

    def __init__(self, clock: Callable[[], int], beganAt: int) -> None:
        """
        @param clock: returns nanoseconds.
        @param beganAt: when slot 0 begins.
        """
        self._clock = clock
        self._beganAt = beganAt
        self._slots: list[int] = []
        self._most: list[int] = []
        self._after: list[int] = []
        self._open = 0

    def note(self, count: int) -> None:
        """The number of open connections has changed."""
        slot = (self._clock() - self._beganAt) // SLOT_NS
        if not self._slots or self._slots[-1] != slot:
            self._slots.append(slot)
            self._most.append(max(count, self._open))
            self._after.append(count)
        else:
            self._after[-1] = count
            if count > self._most[-1]:
                self._most[-1] = count
        self._open = count

    def taken(self) -> list[OpenCount]:
        """Return the slots since the last call."""
        slots = [*zip(self._slots, self._most, self._after, strict=True)]
        self._slots, self._most, self._after = [], [], []
        return slots


class OpenTogether:
    """
    The number of open connections of several parts together.

    @ivar peak: the highest number at one moment.
    """

    def __init__(self, parts: int) -> None:
        self.peak = 0
        self._open = [0] * parts
        self._waiting: list[list[OpenCount]] = [[] for _ in range(parts)]

    def add(self, part: int, slots: Iterable[Sequence[int]]) -> None:
        """Add slots of a part, in order."""
        self._waiting[part] += [(slot, most, after) for slot, most, after in slots]

    def closed(self, part: int, slot: int) -> None:
        """
        The connections of a part are closed, because it is lost.

        @param slot: they were open until this slot, as far as is known.
        """
        waiting = self._waiting[part]
        open_ = waiting[-1][2] if waiting else self._open[part]
        waiting.append((max([slot, *(each[0] for each in waiting[-1:])]), open_, 0))

    def settle(self, slot: int | None = None) -> None:
        """
        Take all slots together that come before another one.

        @param slot: each part has added what it has before this slot; C{None}: all slots.
        """
        changes: dict[int, list[tuple[int, int, int]]] = {}
        for part, waiting in enumerate(self._waiting):
            count = 0
            for number, most, after in waiting:
                if slot is not None and number >= slot:
                    break
                changes.setdefault(number, []).append((part, most, after))
                count += 1
            del waiting[:count]
        together = sum(self._open)
        for number in sorted(changes):
            before, at = together, together
            for part, most, after in changes[number]:
                at += most - self._open[part]
                together += after - self._open[part]
                self._open[part] = after
            self.peak = max(self.peak, at, before, together)
