"""
A queue for many owners, most of which have one item at most: an empty C{deque} takes 760 bytes.
"""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class SmallQueue(Generic[T]):
    """
    A queue whose items are not C{None}. It makes a C{deque} for the items after the first
    one, and keeps that C{deque} until L{clear}.

    @ivar first: the oldest item, which the owner can replace; C{None}: the queue is empty.
    """

    __slots__ = ("_later", "first")

    def __init__(self) -> None:
        self.first: T | None = None
        self._later: deque[T] | None = None

    def __len__(self) -> int:
        if self.first is None:
            return 0
        return 1 if self._later is None else 1 + len(self._later)

    def append(self, item: T) -> None:
        """Add an item at the end."""
        if self.first is None:
            self.first = item
        elif self._later is None:
            self._later = deque((item,))
        else:
            self._later.append(item)

    def popleft(self) -> T:
        """
        Remove the oldest item, and return it.

        @raise IndexError: if the queue is empty.
        """
        first = self.first
        if first is None:
            raise IndexError("the queue is empty")
        self.first = self._later.popleft() if self._later else None
        return first

    def clear(self) -> None:
        """Remove all items."""
        self.first = self._later = None
