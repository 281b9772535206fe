"""
Which worker has room, and whose queues it serves.
"""

import mmap
import os
from collections.abc import Collection
from typing import Any, cast

import pytest
from twisted.internet.task import Clock

from echofactory.server.workers.room import FULL, HAS_ROOM, NOT_YET, Looks, Room, newTable


class Queues:
    """Takes the place of a shared port, and keeps what is to be served."""

    served: Collection[int] = ()

    def serve(self, queues: Collection[int]) -> None:
        self.served = queues


class Worker:
    """
    The room of one worker, with its clock.

    @ivar looks: number of times that it has told the others to look.
    @ivar limited: whether the limits allow no other connection.
    """

    def __init__(self, table: mmap.mmap, own: int, clock: Clock) -> None:
        self.looks = 0
        self.limited = False
        self.port = Queues()
        self.room = Room(cast(Any, clock), table, own, lambda: not self.limited, self.tell)
        self.room.ports.append(cast(Any, self.port))

    def tell(self) -> None:
        self.looks += 1


class Workers:
    """Three workers with one table."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.table = mmap.mmap(-1, 3)
        self.each = [Worker(self.table, number, self.clock) for number in range(3)]

    def served(self) -> list[set[int]]:
        """Return what each serves once all have looked."""
        for worker in self.each:
            worker.room.look()
        return [set(worker.port.served) for worker in self.each]


@pytest.fixture
def workers() -> Workers:
    """Three workers that have room."""
    made = Workers()
    for worker in made.each:
        worker.room.begin()
    return made


def test_each_serves_its_own(workers: Workers) -> None:
    """As long as all have room."""
    assert workers.served() == [{0}, {1}, {2}]


def test_one_that_is_full(workers: Workers) -> None:
    """It accepts nothing, and the others serve its queue."""
    full = workers.each[1]
    full.room.filled()
    assert not full.room.mayAccept()
    assert workers.each[0].room.mayAccept()
    assert workers.served() == [{0, 1}, set(), {1, 2}]


def test_all_full(workers: Workers) -> None:
    """Each serves every queue: what it accepts is refused and counted."""
    for worker in workers.each:
        worker.room.filled()
    assert all(worker.room.mayAccept() for worker in workers.each)
    assert workers.served() == [{0, 1, 2}] * 3


def test_room_again(workers: Workers) -> None:
    """From the close on, the others leave it their queues, without a message."""
    for worker in workers.each:
        worker.room.filled()
    workers.served()
    workers.each[2].room.freed()
    assert not workers.each[0].room.mayAccept()
    assert workers.each[0].port.served == set()
    assert workers.each[2].port.served == {0, 1, 2}


def test_a_close_above_the_limit_makes_no_room(workers: Workers) -> None:
    """Only a close that the limits follow up with a place."""
    worker = workers.each[0]
    worker.limited = True
    worker.room.filled()
    worker.room.freed()
    assert workers.table[0] == FULL
    worker.limited = False
    worker.room.freed()
    assert workers.table[0] == HAS_ROOM


def test_one_that_does_not_listen_yet(workers: Workers) -> None:
    """Nobody can serve its queue, and nobody waits for it."""
    workers.table[2] = NOT_YET
    for worker in workers.each[:2]:
        worker.room.filled()
    assert workers.each[0].room.mayAccept()
    assert workers.served()[0] == {0, 1}


def test_a_full_worker_looks_for_room(
    workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each second, because something else than a connection can have taken the descriptor."""
    worker = workers.each[0]

    def none(descriptor: int) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "dup", none)
        worker.room.filled()
        workers.clock.advance(1.0)
        workers.clock.advance(1.0)
        assert workers.table[0] == FULL
    workers.clock.advance(1.0)
    assert workers.table[0] == HAS_ROOM
    worker.room.end()
    assert workers.clock.getDelayedCalls() == []


def test_the_end(workers: Workers) -> None:
    """Nothing is told any more, and nothing is waited for."""
    worker = workers.each[0]
    workers.clock.advance(0.0)
    assert worker.looks == 1
    worker.room.filled()
    for each in workers.each:
        each.room.end()
    workers.clock.advance(5.0)
    assert worker.looks == 1
    assert workers.clock.getDelayedCalls() == []


def test_looks_are_told_a_hundred_times_a_second_at_most() -> None:
    """The first at once; and the last change is told, too."""
    clock = Clock()
    told: list[float] = []
    looks = Looks(cast(Any, clock), lambda: told.append(clock.seconds()))
    for _ in range(50):
        looks.ask()
        clock.advance(0.001)
    clock.advance(1.0)
    assert told[0] < 0.002
    assert 4 <= len(told) <= 6
    assert told[-1] >= 0.049


@pytest.mark.parametrize("memory", [True, False])
def test_a_table_that_processes_share(memory: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also on a system that has no files in memory."""
    if not memory:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = newTable(3)
    try:
        with mmap.mmap(descriptor, 3) as one, mmap.mmap(descriptor, 3) as other:
            assert one[:] == bytes([NOT_YET] * 3)
            one[1] = FULL
            assert other[1] == FULL
    finally:
        os.close(descriptor)
