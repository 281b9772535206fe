"""
The highest number of open connections of several parts is that of one moment.
"""

from hypothesis import given
from hypothesis import strategies as st

from echofactory.results.opencounts import SLOT_NS, OpenCounts, OpenTogether

changes = st.lists(st.tuples(st.integers(0, 3 * SLOT_NS), st.integers(0, 9)), max_size=20)
"""Of one part: nanoseconds since the change before, and the number of open connections."""


class Clock:
    def __init__(self) -> None:
        self.ns = 0

    def __call__(self) -> int:
        return self.ns


def noted(changes: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    clock = Clock()
    counts = OpenCounts(clock, 0)
    for later, count in changes:
        clock.ns += later
        counts.note(count)
    return counts.taken()


def bySlot(changes: list[tuple[int, int]], slots: int) -> list[int]:
    """Return the highest number of open connections in each slot, slot by slot."""
    most, count, ns = [0] * slots, 0, 0
    slot = 0
    for later, now in changes:
        ns += later
        while slot < ns // SLOT_NS:
            most[slot] = max(most[slot], count)
            slot += 1
        most[slot] = max(most[slot], count, now)
        count = now
    for rest in range(slot, slots):
        most[rest] = max(most[rest], count)
    return most


@given(st.lists(changes, min_size=1, max_size=4), st.lists(st.integers(0, 70)))
def test_the_peak_is_that_of_the_sum(
    parts: list[list[tuple[int, int]]], asked: list[int]
) -> None:
    """However often it is asked for in between."""
    slots = 80
    expected = max(map(sum, zip(*(bySlot(each, slots) for each in parts), strict=True)))
    together = OpenTogether(len(parts))
    for number, each in enumerate(parts):
        together.add(number, noted(each))
    for slot in sorted(asked):
        together.settle(slot)
    together.settle()
    assert together.peak == expected


def test_separate_peaks_are_not_added() -> None:
    """One part has closed its connections before the other one opens its own."""
    together = OpenTogether(2)
    together.add(0, [(0, 5, 5), (10, 5, 0)])
    together.add(1, [(20, 7, 7)])
    together.settle()
    assert together.peak == 7


def test_what_a_lost_part_had_open_counts() -> None:
    """As far as it has told of it; after that, its connections are closed."""
    together = OpenTogether(2)
    together.add(0, [(0, 5, 5)])
    together.add(1, [(3, 7, 7)])
    together.closed(0, 10)
    together.add(1, [(20, 8, 8)])
    together.settle()
    assert together.peak == 12


def test_a_lost_part_is_closed_once_it_is_settled() -> None:
    """The other parts can be ahead of it."""
    together = OpenTogether(2)
    together.add(0, [(0, 5, 5)])
    together.add(1, [(3, 1, 1)])
    together.settle(5)
    together.closed(0, 2)
    together.add(1, [(20, 9, 9)])
    together.settle()
    assert together.peak == 9
