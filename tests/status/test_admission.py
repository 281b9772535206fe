"""
Which connections of the status port are open, and which give way.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from peers import openDescriptors
from twisted.internet.task import Clock

from echofactory.net.descriptors import SpareDescriptors
from echofactory.status import admission
from echofactory.status.admission import (
    ACCEPTS_PER_PASS,
    GRACE_S,
    AdmittingSocket,
    ConnectionSlots,
)


class SlotHolder:
    """See L{admission.SlotHolder}."""

    def __init__(self, slots: "ConnectionSlots[SlotHolder]") -> None:
        self.aborts = 0
        slots.wait(self)

    def abort(self) -> None:
        self.aborts += 1


def slotsFor(limit: int) -> tuple["ConnectionSlots[SlotHolder]", Clock]:
    clock = Clock()
    return ConnectionSlots[SlotHolder](limit, clock.seconds), clock


def test_while_there_is_a_free_place_nobody_is_displaced() -> None:
    """However long somebody waits."""
    slots, clock = slotsFor(2)
    first = SlotHolder(slots)
    clock.advance(1000)
    assert slots.makeRoom()
    assert first.aborts == 0


def test_the_one_that_waits_longest_is_displaced() -> None:
    """One for each that comes."""
    slots, clock = slotsFor(3)
    holders = [SlotHolder(slots) for _ in range(3)]
    clock.advance(1)
    for displaced in (1, 2):
        assert slots.makeRoom()
        holders.append(SlotHolder(slots))
        assert [each.aborts for each in holders[:3]] == [1] * displaced + [0] * (3 - displaced)
    assert len(slots) == 3


def test_nobody_is_displaced_at_once() -> None:
    """A request may be on its way."""
    slots, clock = slotsFor(1)
    holder = SlotHolder(slots)
    clock.advance(GRACE_S / 2)
    assert not slots.makeRoom()
    clock.advance(GRACE_S / 2)
    assert slots.makeRoom()
    assert holder.aborts == 1


def test_who_is_served_is_not_displaced() -> None:
    """From when the answer is written, it waits anew: the answer may be on its way."""
    slots, clock = slotsFor(1)
    holder = SlotHolder(slots)
    slots.serve(holder)
    clock.advance(1000)
    assert not slots.makeRoom()
    slots.wait(holder)
    assert not slots.makeRoom()
    clock.advance(GRACE_S)
    assert slots.makeRoom()


def test_a_place_is_free_when_its_connection_is_closed() -> None:
    """Served or not."""
    slots, _ = slotsFor(2)
    waiting, served = SlotHolder(slots), SlotHolder(slots)
    slots.serve(served)
    assert not slots.makeRoom()
    for holder in (waiting, served):
        slots.release(holder)
    assert len(slots) == 0


def test_without_a_descriptor_connections_are_displaced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They leave theirs for others."""
    monkeypatch.setattr(admission, "RESERVED_DESCRIPTORS", 0)
    slots, clock = slotsFor(100)
    holder = SlotHolder(slots)
    assert not slots.canAccept()
    assert holder.aborts == 0
    clock.advance(GRACE_S)
    assert not slots.canAccept()
    assert holder.aborts == 1


class FakePort:
    """What an L{AdmittingSocket} needs of a port."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.socket: Any = socket.create_server(("127.0.0.1", 0))
        self.socket.setblocking(False)
        self.address = self.socket.getsockname()
        self.reading = True
        self.disconnecting = False

    def stopReading(self) -> None:
        self.reading = False

    def startReading(self) -> None:
        self.reading = True


@pytest.fixture
def port() -> Iterator[FakePort]:
    """A port whose entrance rests, because it has let in as many as it may in a pass."""
    port: Any = FakePort()
    AdmittingSocket(port, ConnectionSlots[SlotHolder](100))
    with ExitStack() as held:
        for _ in range(ACCEPTS_PER_PASS + 2):
            held.enter_context(socket.create_connection(port.address))
        for _ in range(ACCEPTS_PER_PASS):
            held.enter_context(port.socket.accept()[0])
        with pytest.raises(BlockingIOError):
            port.socket.accept()
        yield port
        if port.socket.fileno() >= 0:
            port.socket.close()


def test_an_entrance_rests_once(port: FakePort) -> None:
    """If it is asked while it rests, it goes on when it would have gone on anyway."""
    with pytest.raises(BlockingIOError):
        port.socket.accept()
    assert len(port.reactor.getDelayedCalls()) == 1
    assert not port.reading
    port.reactor.advance(0)
    assert port.reading


def test_an_entrance_of_a_port_that_stops(port: FakePort) -> None:
    """It lets in all that the kernel has accepted."""
    port.disconnecting = True
    for _ in range(2):
        port.socket.accept()[0].close()
    with pytest.raises(BlockingIOError):
        port.socket.accept()


def test_an_entrance_that_is_closed_while_it_rests(port: FakePort) -> None:
    """The port is not read from again."""
    port.disconnecting = True
    with suppress(BlockingIOError):
        port.socket.accept()[0].close()
    port.socket.close()
    assert not port.reactor.getDelayedCalls()


def test_a_rest_that_ends_during_a_stop(port: FakePort) -> None:
    """The port is not read from again."""
    port.disconnecting = True
    port.reactor.advance(1)
    assert not port.reading


def test_spare_descriptors() -> None:
    """They are held, given, taken again, and released; then no more are taken."""
    before = openDescriptors()
    spares = SpareDescriptors(3)
    assert not spares
    spares.hold()
    assert openDescriptors() == before + 3
    spares.give(2)
    assert len(spares) == 1
    with Path(os.devnull).open() as taken:
        assert taken.fileno() > 0
        spares.fill()
        assert openDescriptors() == before + 4
    spares.release()
    spares.fill()
    assert openDescriptors() == before
