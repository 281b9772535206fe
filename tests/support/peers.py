"""
Peers for the tests: raw connections of this process's reactor, the transports
under test, and servers that misbehave.
"""

import gc
import os
import resource
import select
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from programs import LIMIT
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import TimeoutError
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory import EchoFactory, EchoService

LOOPBACK = "tcp:0:interface=127.0.0.1"
"""A server endpoint: any free port."""

Target = str | IStreamClientEndpoint
"""What a client connects to."""

V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 7\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + socket.inet_aton("192.0.2.1")
    + socket.inet_aton("192.0.2.2")
    + struct.pack("!HH", 4711, 7)
)
"""PROXY headers of a client at 192.0.2.1:4711."""


@dataclass(frozen=True)
class Certificates:
    """
    @ivar pem: a certificate for localhost and 127.0.0.1, and its key.
    @ivar trust: a directory with the authority that signed it.
    """

    pem: Path
    trust: Path


@dataclass(frozen=True)
class Transport:
    """
    A way to carry the echo, as endpoint strings.

    @ivar listen: for the server; takes the certificates and a directory.
    @ivar connect: for a client; takes the certificates and the server's address.
    @ivar halfCloses: whether one side can end its stream and go on reading.
    @ivar header: what a proxy sends before the client's own bytes.
    """

    name: str
    listen: Callable[[Certificates, Path], str]
    connect: Callable[[Certificates, IAddress], str]
    halfCloses: bool
    header: bytes = b""

    def __str__(self) -> str:
        return self.name

    def onTheLane(self) -> "Transport":
        """Return the same, with both ends on the fast lane."""
        return Transport(
            f"express-{self.name}",
            lambda certificates, folder: f"express:{self.listen(certificates, folder)}",
            lambda certificates, address: f"express:{self.connect(certificates, address)}",
            # Over TLS too.
            True,
            self.header,
        )

    def target(self, certificates: Certificates, address: IAddress) -> Target:
        """Return the client endpoint of a server at an address."""
        description = self.connect(certificates, address)
        return ThroughProxy(description, self.header) if self.header else description


@implementer(IStreamClientEndpoint)
class ThroughProxy:
    """A client endpoint whose connections begin with the header of a proxy."""

    def __init__(self, description: str, header: bytes) -> None:
        self._description = description
        self._header = header

    def connect(self, protocolFactory: Any) -> Any:
        """See L{IStreamClientEndpoint}."""
        from twisted.internet import reactor

        endpoint = clientFromString(reactor, self._description)
        return endpoint.connect(_HeaderWriter(protocolFactory, self._header))


class _HeaderWriter(ClientFactory):
    """Has each protocol's connection begin with a header."""

    def __init__(self, factory: Any, header: bytes) -> None:
        self._factory = factory
        self._header = header

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self._factory.buildProtocol(addr)
        makeConnection = protocol.makeConnection

        def writeFirst(transport: Any) -> None:
            transport.write(self._header)
            makeConnection(transport)

        protocol.makeConnection = writeFirst
        return protocol


def portOf(address: IAddress) -> int:
    assert isinstance(address, IPv4Address | IPv6Address)
    return address.port


def _pathOf(address: IAddress) -> str:
    assert isinstance(address, UNIXAddress)
    assert address.name is not None
    return address.name.decode()


_PLAIN = (
    Transport(
        "tcp",
        lambda _, __: "tcp:0:interface=127.0.0.1",
        lambda _, address: f"tcp:127.0.0.1:{portOf(address)}",
        halfCloses=True,
    ),
    Transport(
        "tcp6",
        lambda _, __: r"tcp:0:interface=\:\:1",
        lambda _, address: rf"tcp:\:\:1:{portOf(address)}",
        halfCloses=True,
    ),
    Transport(
        "tcp6-prefix",
        lambda _, __: r"tcp6:0:interface=\:\:1",
        lambda _, address: rf"tcp:\:\:1:{portOf(address)}",
        halfCloses=True,
    ),
    Transport(
        "unix",
        lambda _, folder: f"unix:{folder}/{uuid4().hex[:8]}.sock",
        lambda _, address: f"unix:{_pathOf(address)}",
        halfCloses=True,
    ),
    Transport(
        "ssl",
        lambda certificates, _: (
            f"ssl:0:interface=127.0.0.1:privateKey={certificates.pem}:certKey={certificates.pem}"
        ),
        lambda certificates, address: (
            f"tls:localhost:{portOf(address)}:trustRoots={certificates.trust}"
        ),
        halfCloses=False,
    ),
    Transport(
        "haproxy",
        lambda _, __: "haproxy:tcp:0:interface=127.0.0.1",
        lambda _, address: f"tcp:127.0.0.1:{portOf(address)}",
        halfCloses=True,
        header=V2,
    ),
    Transport(
        "haproxy-unix",
        lambda _, folder: f"haproxy:unix:{folder}/{uuid4().hex[:8]}.sock",
        lambda _, address: f"unix:{_pathOf(address)}",
        halfCloses=True,
        header=V1,
    ),
)


TRANSPORTS = (*_PLAIN, *(each.onTheLane() for each in _PLAIN))


@asynccontextmanager
async def serving(
    reactor: Any, *listen: str, factory: EchoFactory | None = None, drain: float = 0
) -> AsyncIterator[EchoService]:
    """Run an echo server in this process."""
    service = EchoService(
        reactor, listen or ["tcp:0:interface=127.0.0.1"], factory or EchoFactory(), drain
    )
    service.startService()
    try:
        yield service
    finally:
        await service.stopService()


@implementer(IHalfCloseableProtocol)
class Peer(Protocol):
    """
    A connection in the hands of a test: what it received, and waits for more.

    @ivar ended: whether the other side ended its stream, or the connection is
        gone.
    """

    transport: Any

    def __init__(self) -> None:
        self.received = bytearray()
        self.ended = False
        self.lost: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def until(self, reactor: Any, reached: Callable[[], bool]) -> Deferred[None]:
        """Wait until C{reached} returns a true value."""
        waiting: Deferred[None] = Deferred()
        waiting.addTimeout(LIMIT, reactor)
        self._waiting.append((reached, waiting))
        self._tell()
        return waiting

    def untilReceived(self, reactor: Any, size: int) -> Deferred[None]:
        """Wait until C{size} bytes have been received in all."""
        return self.until(reactor, lambda: len(self.received) >= size)

    def untilLost(self, reactor: Any) -> Deferred[None]:
        """Wait until the connection is gone."""
        return self.until(reactor, lambda: self.lost is not None)

    def _tell(self) -> None:
        for entry in list(self._waiting):
            reached, waiting = entry
            if reached():
                self._waiting.remove(entry)
                waiting.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._tell()

    def readConnectionLost(self) -> None:
        self.ended = True
        self._tell()

    def writeConnectionLost(self) -> None:
        self._tell()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.ended = True
        self.lost = reason
        self._tell()


class Connect:
    """
    Connects L{Peer}s, and sees to it that all of them are closed in the end.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._peers: list[Peer] = []

    async def __call__(self, target: Target) -> Peer:
        endpoint: Any = (
            clientFromString(self._reactor, target) if isinstance(target, str) else target
        )
        connecting = endpoint.connect(Factory.forProtocol(Peer))
        peer: Peer = await connecting.addTimeout(LIMIT, self._reactor)
        self._peers.append(peer)
        return peer

    async def close(self) -> None:
        for peer in self._peers:
            if peer.lost is None:
                peer.transport.abortConnection()
            await peer.untilLost(self._reactor)


@implementer(IHostnameResolver)
class NamesReactor:
    """
    The reactor of this process with name service of its own: a name has the addresses that
    a test gives, at once or later.

    @ivar asked: the names that were looked up, in order.
    """

    def __init__(self, reactor: Any, **addresses: list[str]) -> None:
        """
        @param addresses: of each name under C{.example}; a name that is not there gets no
            answer, until L{answer}.
        """
        self.nameResolver = self
        self.asked: list[str] = []
        self._reactor = reactor
        self._addresses = addresses
        self._waiting: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._reactor, name)

    def resolveHostName(  # type: ignore[override]
        self, receiver: Any, name: str, *, addressTypes: Any = (IPv4Address, IPv6Address)
    ) -> Any:
        """See L{IHostnameResolver}."""
        self.asked.append(name)
        receiver.resolutionBegan(None)
        self._waiting[name] = receiver, addressTypes
        known = self._addresses.get(name.removesuffix(".example"))
        if known is not None:
            self.answer(name, known)

    def answer(self, name: str, addresses: list[str]) -> None:
        """Answer a look-up that waits."""
        receiver, kinds = self._waiting.pop(name)
        for address in addresses:
            kind = IPv6Address if ":" in address else IPv4Address
            if kind in kinds:
                receiver.addressResolved(kind("TCP", address, 0))
        receiver.resolutionComplete()


_STEPS = 100


@implementer(IReactorPluggableNameResolver)
class FakeTimeReactor(Clock):
    """
    The reactor of this process with a fake clock: its sockets are real, and its timers fire
    when a test advances the clock. What is to be called after no time is called in the
    reactor's next turn.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self._reactor = reactor

    def __getattr__(self, name: str) -> Any:
        # It does not provide all that the reactor does: a timerfd has the real time.
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._reactor, name)

    def callLater(self, delay: float, *what: Any, **named: Any) -> Any:
        """See L{IReactorTime<twisted.internet.interfaces.IReactorTime>}."""
        chosen: Any = super() if delay else self._reactor
        return chosen.callLater(delay, *what, **named)

    def advance(self, amount: float) -> None:
        """Let time pass, in small steps: one long step is a process that stood still."""
        for _ in range(_STEPS):
            super().advance(amount / _STEPS)

    def standStill(self, amount: float) -> None:
        """Let time pass in which the process did not run."""
        super().advance(amount)

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> Any:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        connector = self._reactor.connectTCP(host, port, factory, timeout, bindAddress)
        connector.cancelTimeout()
        connector.timeoutID = self.callLater(
            timeout, connector.transport.failIfNotConnected, TimeoutError()
        )
        return connector

    def ns(self) -> int:
        """Return the time in nanoseconds."""
        return round(self.seconds() * 1e9)


_READ_THE_CLOCK = ("client.pacer", "net.timerfd", "client.factory", "client.persistent")


def readFakeClock(monkeypatch: pytest.MonkeyPatch, fake: FakeTimeReactor) -> None:
    """Have all that paces a schedule read the fake clock."""
    for module in _READ_THE_CLOCK:
        monkeypatch.setattr(f"echofactory.{module}.perf_counter_ns", fake.ns)


async def eventually(reactor: Any, reached: Callable[[], object]) -> None:
    """Let the reactor run until C{reached} returns a true value."""
    deadline = reactor.seconds() + LIMIT
    while not reached():
        assert reactor.seconds() < deadline, "waited too long"
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.001, turn.callback, None)
        await turn


def openDescriptors() -> int:
    """Return how many descriptors this process has."""
    return len(os.listdir("/dev/fd"))


@contextmanager
def noDescriptorLeft() -> Iterator[list[int]]:
    """
    Take every descriptor that this process may have.

    @return: those that were taken: closing one makes room for another.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    # What an earlier test left behind is not to make room meanwhile.
    gc.collect()
    gc.disable()
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 50, hard))
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield taken
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        gc.enable()
        for each in taken:
            os.close(each)


Handler = Callable[[socket.socket], None]


@contextmanager
def misbehaving(handler: Handler) -> Iterator[int]:
    """
    Serve each connection with C{handler}, in a thread of its own.

    @return: the port, on 127.0.0.1.
    """
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    served: list[tuple[socket.socket, threading.Thread]] = []

    def serve(connection: socket.socket) -> None:
        # The peer may leave at any moment; that is not what is tested here.
        try:
            handler(connection)
        except OSError:
            pass
        finally:
            connection.close()

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            connection.settimeout(LIMIT)
            thread = threading.Thread(target=serve, args=(connection,))
            served.append((connection, thread))
            thread.start()

    accepting = threading.Thread(target=accept)
    accepting.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        accepting.join()
        for _connection, thread in served:
            thread.join()


def closes(connection: socket.socket) -> None:
    """Accept, and no more."""


def closesAtOnce(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)
    _drain(connection)


def closesHalfway(connection: socket.socket) -> None:
    data = connection.recv(65536)
    connection.sendall(data[: len(data) // 2])


def resets(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def sendsExtra(connection: socket.socket) -> None:
    connection.sendall(connection.recv(65536) + b"\x1b[31mextra")
    _drain(connection)


def neverAnswers(connection: socket.socket) -> None:
    _drain(connection)


def neverReads(connection: socket.socket) -> None:
    """Take nothing but what the kernel takes; leave when the peer does."""
    _untilGone(connection)


def neverEnds(connection: socket.socket) -> None:
    """Echo, but do not answer the end of the stream; leave when the peer does."""
    while data := connection.recv(65536):
        connection.sendall(data)
    _untilGone(connection)


def alters(offset: int) -> Handler:
    """Echo, with the byte at C{offset} of the stream altered."""

    def handler(connection: socket.socket) -> None:
        at = 0
        while data := bytearray(connection.recv(65536)):
            if 0 <= offset - at < len(data):
                data[offset - at] ^= 1
            at += len(data)
            connection.sendall(data)

    return handler


def _untilGone(connection: socket.socket) -> None:
    gone = select.poll()
    gone.register(connection, select.POLLHUP | select.POLLERR)
    gone.poll(LIMIT * 1000)


def holdsOn(certificates: Certificates) -> Handler:
    """Echo over TLS, but do not answer the peer's closing alert."""

    def handler(connection: socket.socket) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates.pem)
        with context.wrap_socket(connection, server_side=True) as secure:
            while data := secure.recv(65536):
                secure.sendall(data)
            _untilGone(secure)

    return handler


def _drain(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass
