"""
What is taken in turn, and what is done a few at a time.
"""

from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from echofactory.client.rotation import Rotation
from echofactory.client.slices import Slices


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9))))
def test_who_is_there(steps: list[tuple[bool, int]]) -> None:
    """Those that were added and not removed, each as often as the others."""
    rotation: Rotation[int] = Rotation()
    there: set[int] = set()
    for adding, item in steps:
        if adding and item not in there:
            rotation.add(item)
            there.add(item)
        elif not adding:
            rotation.discard(item)
            there.discard(item)
        assert len(rotation) == len(there)
        turns = Counter(rotation.next() for _ in range(2 * len(there)))
        assert turns == Counter(dict.fromkeys(there, 2))


def test_nobody_is_there() -> None:
    """Nobody's turn."""
    with pytest.raises(IndexError):
        Rotation[int]().next()


def test_a_few_at_a_time() -> None:
    """In order, and the reactor has its turn in between."""
    clock = Clock()
    done: list[int] = []
    slices = Slices(clock)

    def noting(number: int) -> Callable[[], None]:
        return lambda: done.append(number)

    for number in range(100):
        slices.add(noting(number))
    assert done == []
    turns = 0
    while clock.calls:
        before = len(done)
        # As a reactor: what a call asks for comes in the next turn.
        clock.calls.pop(0).func()
        turns += 1
        assert len(done) - before <= 32
    assert done == list(range(100))
    assert turns >= 4


def test_no_more_of_it() -> None:
    """What waits can be called off, by one of the calls too."""
    clock = Clock()
    slices = Slices(clock)
    done: list[int] = []
    slices.add(slices.clear)
    slices.add(lambda: done.append(1))
    clock.advance(0)
    assert (done, clock.getDelayedCalls()) == ([], [])
    slices.add(lambda: done.append(2))
    clock.advance(0)
    assert done == [2]
