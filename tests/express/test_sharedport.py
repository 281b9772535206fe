"""
A port that processes share: whose queue is served by whom. Here, one process takes both parts.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
from peers import eventually, noDescriptorLeft, openDescriptors
from programs import LIMIT
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory

from echofactory import EchoFactory, ExpressReactor
from echofactory.express.ports import PortsReactor
from echofactory.express.sharedport import SharedPort
from echofactory.net.reuseport import ReservedPort, ReservingReactor, ReusePortReactor
from echofactory.net.transport import inheritsOptions

HOST = "127.0.0.1"


class Gate:
    """Lets connections in, unless the test closes it."""

    closed = False
    full = False

    def mayAccept(self) -> bool:
        return not self.closed

    def filled(self) -> None:
        self.full = True

    def freed(self) -> None:
        """Nothing: the test decides."""


class Part:
    """
    What one of two processes has of the port.

    @ivar factory: of its connections.
    """

    def __init__(self, reactor: Any, reserved: ReservedPort, own: int) -> None:
        self.gate = Gate()
        self.factory = EchoFactory()
        self.shared = SharedPort([each.dup() for each in reserved.sockets], own, self.gate)
        sharing = ReusePortReactor(reactor, self.shared)
        self.port: Any = sharing.listenTCP(0, self.factory, 200, HOST)

    def open(self) -> int:
        """Return the number of its connections."""
        return len(self.factory.connections)

    def refused(self) -> int:
        """Return the number of connections that it has refused."""
        return sum(self.factory.counts().refused.values())


@pytest.fixture(params=[PortsReactor, ExpressReactor])
def parts(reactor: Any, request: pytest.FixtureRequest) -> list[Part]:
    """Both parts of a port. The test closes the ports."""
    reserved: Any = ReservingReactor(2).listenTCP(0, Factory(), interface=HOST)
    sharing = request.param(reactor)
    made = [Part(sharing, reserved, own) for own in range(2)]
    reserved.stopListening()
    return made


@contextmanager
def peers(part: Part, count: int) -> Iterator[list[socket.socket]]:
    """Connect while the reactor stands still, so that all wait in the queues."""
    address = (HOST, part.port.getHost().port)
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(address, LIMIT)) for _ in range(count)
        ]


async def closed(reactor: Any, parts: list[Part]) -> None:
    """Stop both, and wait until their connections are closed, too."""
    for part in parts:
        await maybeDeferred(part.port.stopListening)
    await eventually(reactor, lambda: not any(part.open() for part in parts))


async def turns(reactor: Any) -> None:
    """Let the reactor take some turns."""
    for _ in range(10):
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn


@ensureDeferred
async def test_each_serves_its_own_queue(reactor: Any, parts: list[Part]) -> None:
    """The kernel deals the connections out, and their options are those of the sockets."""
    with peers(parts[0], 64):
        await eventually(reactor, lambda: parts[0].open() + parts[1].open() == 64)
        assert all(part.open() for part in parts)
        for part in parts:
            assert all(inheritsOptions(echo.transport) for echo in part.factory.connections)
    await closed(reactor, parts)


@ensureDeferred
async def test_the_queue_of_another(reactor: Any, parts: list[Part]) -> None:
    """It is served from when it is asked for, until it is not any more."""
    one, other = parts
    one.shared.serve(set())
    other.shared.serve({0, 1})
    with peers(one, 64):
        await eventually(reactor, lambda: other.open() == 64)
        one.shared.serve({0})
        other.shared.serve({1})
        with peers(one, 64):
            await eventually(reactor, lambda: one.open() + other.open() == 128)
            assert one.open()
    await closed(reactor, parts)


@ensureDeferred
async def test_a_gate_that_is_closed(reactor: Any, parts: list[Part]) -> None:
    """What is in the queue stays there, and is refused nowhere."""
    one, other = parts
    one.gate.closed = True
    with peers(one, 64):
        await turns(reactor)
        assert one.open() == 0
        one.shared.serve(set())
        other.shared.serve({0, 1})
        await eventually(reactor, lambda: other.open() == 64)
    assert one.refused() == 0
    await closed(reactor, parts)


@ensureDeferred
async def test_without_a_descriptor(reactor: Any, parts: list[Part]) -> None:
    """The gate is told. If it stays open, the connections are refused."""
    with peers(parts[0], 16):
        with noDescriptorLeft():
            await eventually(reactor, lambda: sum(part.refused() for part in parts) == 16)
        assert all(part.gate.full for part in parts)
    await closed(reactor, parts)


@ensureDeferred
async def test_a_stop_serves_the_queues(reactor: Any, parts: list[Part]) -> None:
    """Its own and, in the place of another, that of the other; then all sockets are closed."""
    one, other = parts
    one.shared.serve(set())
    other.shared.serve({0, 1})
    with peers(one, 150):
        stopping = [maybeDeferred(part.port.stopListening) for part in parts]
        # From now on, nobody changes what is served.
        other.shared.serve({1})
        await eventually(reactor, lambda: other.open() == 150)
        for stopped in stopping:
            await stopped
    await closed(reactor, parts)


@ensureDeferred
async def test_the_sockets_are_closed(reactor: Any, parts: list[Part]) -> None:
    """All of them: also those of the other processes."""
    before = openDescriptors()
    await closed(reactor, parts)
    # Both parts had both sockets, and a spare descriptor.
    assert openDescriptors() <= before - 6
