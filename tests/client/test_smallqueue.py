"""
A queue that is small while it has one item at most.
"""

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.client.smallqueue import SmallQueue


@given(st.lists(st.sampled_from(["append", "append", "popleft", "clear"])))
def test_as_a_deque(calls: list[str]) -> None:
    """Whatever is done, it is what a deque would be."""
    queue, model = SmallQueue[int](), deque[int]()
    for item, call in enumerate(calls):
        if call == "append":
            queue.append(item)
            model.append(item)
        elif call == "clear":
            queue.clear()
            model.clear()
        elif model:
            assert queue.popleft() == model.popleft()
        assert len(queue) == len(model)
        assert queue.first == (model[0] if model else None)


def test_nothing_to_take() -> None:
    """An empty queue says so."""
    with pytest.raises(IndexError):
        SmallQueue[int]().popleft()


def test_the_oldest_item_is_replaced() -> None:
    """The owner can replace the item whose turn it is; those after it stay."""
    queue = SmallQueue[str]()
    queue.append("a")
    queue.append("b")
    queue.first = "c"
    assert [queue.popleft(), queue.popleft()] == ["c", "b"]
