"""
TLS on the lane: what one connection must not do to another, to the process, or to a protocol
that has not got its TLS; and startTLS.
"""

import gc
import socket
import ssl
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from OpenSSL import SSL
from peers import Certificates, Connect, eventually, openDescriptors, portOf
from programs import LIMIT
from pytest_twisted import ensureDeferred
from tlspeers import Building, Options, Scripted, Streaming, echo, listening, pair
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, ISSLTransport
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs
from twisted.protocols.tls import TLSMemoryBIOProtocol
from zope.interface import implementer

from echofactory import EchoFactory, ExpressReactor
from echofactory.express.tls import LaneTLS
from echofactory.server.idle import unsent

pytestmark = pytest.mark.reactors

HELLO = ssl.create_default_context()


def clientHello() -> bytes:
    """Return the first bytes of a client."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = HELLO.wrap_bio(into, out, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


def failures(events: Iterable[Any]) -> list[Any]:
    return [event["log_failure"] for event in events if "log_failure" in event]


@implementer(IOpenSSLServerConnectionCreator)
class NoOptions:
    """Options that raise an error."""

    def serverConnectionForTLS(self, protocol: Any) -> SSL.Connection:
        raise ZeroDivisionError


def sessions() -> int:
    """Return the number of sessions that exist."""
    return sum(type(each) is LaneTLS for each in gc.get_objects())


# One for another


@ensureDeferred
async def test_an_exception_costs_its_connection_only(
    reactor: Any, certificates: Certificates
) -> None:
    """It is logged, and the connection is lost. Another one goes on."""

    def fail(protocol: Scripted, data: bytes) -> None:
        raise ZeroDivisionError

    lane = ExpressReactor(reactor)
    options = Options(certificates)
    good, goodPeer = Scripted(data=echo), Scripted()
    bad, badPeer = Scripted(data=fail), Scripted()
    async with pair(reactor, lane, reactor, good, goodPeer, options):
        with capturedLogs() as events:
            async with pair(reactor, lane, reactor, bad, badPeer, options):
                badPeer.transport.write(b"x")
                await bad.untilLost(reactor)
                await badPeer.untilLost(reactor)
        (failure,) = failures(events)
        assert failure.check(ZeroDivisionError)
        assert bad.lost.check(ZeroDivisionError)
        goodPeer.transport.write(b"x")
        await goodPeer.untilReceived(reactor, 1)


@ensureDeferred
async def test_a_failed_send_of_another(reactor: Any, certificates: Certificates) -> None:
    """What OpenSSL notes of a connection that breaks does not look like an error of others."""
    lane = ExpressReactor(reactor)
    options = Options(certificates)

    def breakIt(protocol: Scripted) -> None:
        # The kernel refuses the answer to the client's first bytes.
        protocol.transport.socket.shutdown(socket.SHUT_WR)

    subject, peer, broken = Scripted(), Scripted(), Scripted(made=breakIt)
    async with (
        pair(reactor, lane, reactor, subject, peer, options),
        listening(lane, Building(lambda: broken), options.server) as port,
    ):
        await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
        raw = socket.create_connection(("127.0.0.1", port))
        await eventually(reactor, lambda: broken.isMade)
        raw.sendall(clientHello())
        # With a full record, the subject asks OpenSSL why there is no more.
        peer.transport.write(b"x" * 16384)
        await broken.untilLost(reactor)
        assert broken.lost.check(ConnectionLost)
        raw.close()
        peer.transport.write(b"x" * 16384)
        await subject.untilReceived(reactor, 2 * 16384)
        assert subject.lost is None


@ensureDeferred
async def test_options_that_fail(reactor: Any, connect: Connect) -> None:
    """
    The connection is closed, even if the peer sends nothing, and the protocol is not called.
    """
    protocol = Scripted()
    with capturedLogs() as events:
        async with listening(
            ExpressReactor(reactor), Building(lambda: protocol), NoOptions()
        ) as port:
            silent = await connect(f"tcp:127.0.0.1:{port}")
            await silent.until(reactor, lambda: silent.ended)
            plain = await connect(f"tcp:127.0.0.1:{port}")
            plain.transport.write(b"plain text")
            await plain.until(reactor, lambda: plain.ended)
    assert not protocol.isMade
    assert protocol.received == b""
    assert {failure.type for failure in failures(events)} == {ZeroDivisionError}


@ensureDeferred
async def test_a_kept_handle(reactor: Any, certificates: Certificates) -> None:
    """After the end it is harmless: it does not use the descriptor of a new connection."""
    lane = ExpressReactor(reactor)
    options = Options(certificates)
    first, firstPeer = Scripted(), Scripted()
    async with pair(reactor, lane, reactor, first, firstPeer, options):
        await eventually(reactor, lambda: first.isOpen and firstPeer.isOpen)
        handle = first.transport.getHandle()
    assert first.transport.getHandle() is None
    # A proxy pauses it when the other side's queue is full.
    first.transport.pauseProducing()
    first.transport.resumeProducing()
    # The next descriptors are those that are free now.
    pairs = [socket.socketpair() for _ in range(8)]
    for ours, _ in pairs:
        ours.setblocking(False)
    for use in (lambda: handle.send(b"x"), handle.shutdown, lambda: handle.recv(1)):
        with suppress(SSL.Error):
            use()
    for _, theirs in pairs:
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)
    for each in pairs:
        for end in each:
            end.close()


@ensureDeferred
async def test_nothing_is_left(reactor: Any, certificates: Certificates) -> None:
    """Of connections that end in four ways: no descriptor and no object."""
    lane = ExpressReactor(reactor)
    context = ssl.create_default_context(cafile=str(certificates.trust / "authority.pem"))
    options = Options(certificates)
    protocols: list[Scripted] = []

    def build() -> Scripted:
        protocols.append(Scripted(made=turnOffNagle, data=echo))
        return protocols[-1]

    def turnOffNagle(protocol: Scripted) -> None:
        protocol.transport.setTcpNoDelay(True)

    def use(count: int, port: int) -> None:
        for number in range(count):
            raw = socket.create_connection(("127.0.0.1", port), LIMIT)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if number % 4 == 0:
                raw.sendall(b"not TLS")
                raw.close()
                continue
            client = context.wrap_socket(raw, server_hostname="localhost")
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            if number % 4 == 1:
                client.unwrap()
            elif number % 4 == 2:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()

    async with listening(lane, Building(build), options.server) as port:
        await deferToThread(use, 100, port)
        await eventually(reactor, lambda: all(each.lost for each in protocols))
        protocols.clear()
        gc.collect()
        descriptors = openDescriptors()
        before = sessions()
        for _ in range(5):
            await deferToThread(use, 380, port)
            await eventually(reactor, lambda: all(each.lost for each in protocols))
            assert len(protocols) == 380
            protocols.clear()
        gc.collect()
        assert openDescriptors() <= descriptors
        assert sessions() <= before


@ensureDeferred
async def test_bytes_that_wait(reactor: Any, certificates: Certificates) -> None:
    """What the kernel has not taken counts as unsent, so that the connection is not idle."""
    lane = ExpressReactor(reactor)
    factory = EchoFactory()
    peer = Scripted()
    options = Options(certificates)
    async with listening(lane, factory, options.server) as port:
        reactor.connectSSL("127.0.0.1", port, Building(lambda: peer), options.client)
        await eventually(reactor, lambda: peer.isOpen)
        peer.transport.pauseProducing()
        peer.transport.write(b"x" * (16 << 20))
        (connection,) = factory.connections
        await eventually(reactor, lambda: unsent(connection)[0] > 0)
        peer.transport.abortConnection()
        await eventually(reactor, lambda: not factory.connections)


# startTLS


class Starting(Scripted):
    """Starts TLS when it has received a line, and says what it receives over TLS."""

    options: Any
    before: Callable[["Starting"], object] = staticmethod(lambda protocol: None)
    started = False

    def dataReceived(self, data: bytes) -> None:
        if not self.started:
            assert data == b"go\n"
            self.started = True
            self.before(self)
            self.transport.startTLS(self.options)
        else:
            super().dataReceived(data)


async def started(
    reactor: Any, lane: Any, options: Options, server: Starting, client: Scripted
) -> Any:
    """Connect both over TCP. The client asks for TLS, and starts it on its side."""
    server.options = options.server
    port = lane.listenTCP(0, Building(lambda: server), interface="127.0.0.1")
    reactor.connectTCP("127.0.0.1", portOf(port.getHost()), Building(lambda: client))
    await eventually(reactor, lambda: server.isMade and client.isMade)
    client.transport.write(b"go\n")
    await eventually(reactor, lambda: server.started)
    return port


async def ended(reactor: Any, port: Any, *protocols: Scripted) -> None:
    """Close everything."""
    for each in protocols:
        if each.lost is None:
            each.transport.abortConnection()
    for each in protocols:
        await each.untilLost(reactor)
    await port.stopListening()


@pytest.mark.parametrize("onLane", [True, False], ids=["lane", "twisted"])
@ensureDeferred
async def test_starting_tls(reactor: Any, certificates: Certificates, onLane: bool) -> None:
    """On the lane, both sides; the transport stays that of the protocol."""
    lane = ExpressReactor(reactor) if onLane else reactor
    options = Options(certificates)
    server, client = Starting(data=echo), Scripted()
    port = await started(lane if onLane else reactor, lane, options, server, client)
    client.transport.startTLS(options.client)
    client.transport.write(b"x" * 100_000)
    await client.untilReceived(reactor, 100_000)
    for transport in (server.transport, client.transport):
        # mypy would narrow the type to the interface, which lacks getHandle.
        assert transport.getHandle().get_protocol_version_name() == "TLSv1.3"
    assert ISSLTransport.providedBy(client.transport)
    assert ISSLTransport.providedBy(server.transport)
    assert client.transport.getPeerCertificate() is not None
    assert server.transport.getPeerCertificate() is None
    client.transport.loseConnection()
    await server.untilLost(reactor)
    await client.untilLost(reactor)
    assert server.lost.check(ConnectionDone)
    assert client.lost.check(ConnectionDone)
    await ended(reactor, port, server, client)


@ensureDeferred
async def test_starting_tls_with_data_queued(reactor: Any, certificates: Certificates) -> None:
    """The client gets it in plain text, before TLS. Twisted's TLS then carries the rest."""
    size = 8 << 20
    options = Options(certificates)
    server, client = Starting(data=echo), Scripted()
    server.before = lambda protocol: protocol.transport.write(b"p" * size)
    port = await started(reactor, ExpressReactor(reactor), options, server, client)
    await client.untilReceived(reactor, size)
    assert client.received == b"p" * size
    assert isinstance(server.transport.protocol, TLSMemoryBIOProtocol)
    client.received.clear()
    client.transport.startTLS(options.client)
    client.transport.write(b"x" * 100_000)
    await client.untilReceived(reactor, 100_000)
    assert client.received == b"x" * 100_000
    await ended(reactor, port, server, client)


@ensureDeferred
async def test_starting_tls_with_a_producer(reactor: Any, certificates: Certificates) -> None:
    """It stays registered, and is paused and resumed by TLS."""
    size = 4 << 20
    options = Options(certificates)
    server, client = Starting(), Scripted()
    producers: list[Streaming] = []

    def register(protocol: Scripted) -> None:
        producers.append(Streaming(protocol.transport, size))
        protocol.transport.registerProducer(producers[0], True)

    server.before = register
    port = await started(reactor, ExpressReactor(reactor), options, server, client)
    client.transport.startTLS(options.client)
    producers[0].resumeProducing()
    await client.untilReceived(reactor, size)
    assert producers[0].pauses
    server.transport.loseConnection()
    await server.untilLost(reactor)
    assert server.lost.check(ConnectionDone)
    await ended(reactor, port, server, client)


@ensureDeferred
async def test_starting_tls_with_options_that_fail(
    reactor: Any, certificates: Certificates
) -> None:
    """The caller gets the exception. No plain text goes either way, and the end is told."""
    options = Options(certificates)
    options.server = NoOptions()
    server, client = Starting(), Scripted()
    with capturedLogs() as events:
        port = await started(reactor, ExpressReactor(reactor), options, server, client)
        server.transport.write(b"secret")
        client.transport.write(b"plain")
        await server.untilLost(reactor)
        await client.until(reactor, lambda: client.ended)
    assert client.received == server.received == b""
    assert failures(events)
    await ended(reactor, port, server, client)
