"""
Items that are taken in turn, while items are added and removed.
"""

from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Rotation(Generic[T]):
    """
    Hands out its items in turn. Adding, removing and handing out take constant time.
    """

    def __init__(self) -> None:
        self._items: list[T] = []
        # By item: where it stands.
        self._places: dict[T, int] = {}
        self._turn = 0

    def __len__(self) -> int:
        return len(self._items)

    def add(self, item: T) -> None:
        """Add an item. It must not be in the rotation."""
        self._places[item] = len(self._items)
        self._items.append(item)

    def discard(self, item: T) -> None:
        """Remove an item, if it is in the rotation. The last item takes its place."""
        place = self._places.pop(item, None)
        if place is None:
            return
        last = self._items.pop()
        if last is not item:
            self._items[place] = last
            self._places[last] = place

    def next(self) -> T:
        """
        Return the next item.

        @raise IndexError: if the rotation is empty.
        """
        self._turn += 1
        if self._turn >= len(self._items):
            self._turn = 0
        return self._items[self._turn]
