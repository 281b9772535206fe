"""
Listening sockets that are prepared for their connections.
"""

import socket
from typing import Any

import pytest
from peers import Connect, eventually
from pytest_twisted import ensureDeferred
from twisted.internet.protocol import Factory, Protocol
from zope.interface import implementer

from echofactory import EchoFactory, ExpressReactor, Limits
from echofactory.express.listening import IPreparesListening
from echofactory.express.ports import PortsReactor
from echofactory.net.transport import inheritsOptions

KINDS = [PortsReactor, ExpressReactor]


@implementer(IPreparesListening)
class Preparing(Factory):
    """Has urgent data kept in line, and keeps its transports."""

    noisy = False
    fails = False

    def __init__(self) -> None:
        self.transports: list[Any] = []

    def prepareListening(self, listening: socket.socket) -> None:
        if self.fails:
            raise OSError("not here")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)

    def buildProtocol(self, addr: object) -> Protocol:
        factory = self

        class Kept(Protocol):
            def connectionMade(self) -> None:
                factory.transports.append(self.transport)

        return Kept()


async def accepted(reactor: Any, listening: Any, factory: Preparing, connect: Connect) -> Any:
    """Connect, and return the transport at the other end."""
    host = listening.getHost()
    await connect(f"tcp:{host.host.replace(':', chr(92) + ':')}:{host.port}")
    await eventually(reactor, lambda: factory.transports)
    return factory.transports[0]


def urgentInline(transport: Any) -> int:
    found: int = transport.getHandle().getsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE)
    return found


@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", KINDS)
@ensureDeferred
async def test_options_are_inherited(
    reactor: Any, connect: Connect, kind: Any, interface: str
) -> None:
    """What the factory sets on the listening socket, its connections have."""
    factory = Preparing()
    listening = kind(reactor).listenTCP(0, factory, interface=interface)
    transport = await accepted(reactor, listening, factory, connect)
    assert urgentInline(transport) == 1
    assert inheritsOptions(transport)
    await listening.stopListening()


@pytest.mark.parametrize("kind", KINDS)
@ensureDeferred
async def test_an_option_that_cannot_be_set(reactor: Any, connect: Connect, kind: Any) -> None:
    """The port listens, and its connections are told to set their options themselves."""
    factory = Preparing()
    factory.fails = True
    listening = kind(reactor).listenTCP(0, factory, interface="127.0.0.1")
    transport = await accepted(reactor, listening, factory, connect)
    assert not inheritsOptions(transport)
    await listening.stopListening()


@pytest.mark.parametrize("kind", KINDS)
@ensureDeferred
async def test_a_socket_of_another_process(reactor: Any, connect: Connect, kind: Any) -> None:
    """Connections can wait in its queue already: each of them has its options set."""
    factory = Preparing()
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        listening = kind(reactor).adoptStreamPort(made.fileno(), socket.AF_INET, factory)
    transport = await accepted(reactor, listening, factory, connect)
    assert urgentInline(transport) == 0
    assert not inheritsOptions(transport)
    await listening.stopListening()


@pytest.mark.parametrize("adopted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
@ensureDeferred
async def test_the_echo_sends_at_once(
    reactor: Any, connect: Connect, kind: Any, adopted: bool
) -> None:
    """Nagle's algorithm is off and keepalive is on, whoever made the socket."""
    factory = EchoFactory(Limits(keepAlive=8.0))
    ports = kind(reactor)
    if adopted:
        with socket.create_server(("127.0.0.1", 0)) as made:
            made.setblocking(False)
            listening = ports.adoptStreamPort(made.fileno(), socket.AF_INET, factory)
    else:
        listening = ports.listenTCP(0, factory, interface="127.0.0.1")
    await connect(f"tcp:127.0.0.1:{listening.getHost().port}")
    await eventually(reactor, lambda: factory.connections)
    (echo,) = factory.connections
    handle = lowestHandle(echo.transport)
    assert handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert 4 <= handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 8
    await listening.stopListening()


def lowestHandle(transport: Any) -> socket.socket:
    handle: socket.socket = transport.getHandle()
    return handle


@pytest.mark.parametrize(
    ("interface", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)]
)
@ensureDeferred
async def test_what_is_accepted(
    reactor: Any, connect: Connect, interface: str, family: socket.AddressFamily
) -> None:
    """Accepted sockets have the family and the type that plain ones have, and do not block."""
    factory = Preparing()
    listening = ExpressReactor(reactor).listenTCP(0, factory, interface=interface)
    assert (listening.socket.family, listening.socket.gettimeout()) == (family, 0.0)
    transport = await accepted(reactor, listening, factory, connect)
    handle = lowestHandle(transport)
    assert (handle.family, handle.type) == (family, socket.SOCK_STREAM)
    assert handle.gettimeout() == 0.0
    await listening.stopListening()
