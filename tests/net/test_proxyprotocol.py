"""
Connections through a proxy, which begin with its header. Real proxies are in
C{test_proxies}; what the echo does after the header is in C{test_echo_contract}.
"""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, cast

import pytest
from peers import (
    V1,
    V2,
    Certificates,
    Connect,
    Peer,
    ThroughProxy,
    eventually,
    portOf,
    serving,
)
from programs import LIMIT, multiecho, until, withStatus
from pytest_twisted import ensureDeferred
from statuses import get
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import capturedLogs, formatEvent
from twisted.protocols.haproxy import proxyEndpoint
from twisted.python.failure import Failure

from echofactory import EchoFactory, EchoService, Limits, Trace
from echofactory.net.proxyprotocol import HEADER_TIMEOUT, MAX_WAITING, HeaderFactory
from echofactory.server.counts import PeerCounts

pytestmark = pytest.mark.oldest

LISTEN = "haproxy:tcp:0:interface=127.0.0.1"
UNKNOWN = b"PROXY UNKNOWN\r\n"
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"
OTHER = b"PROXY TCP4 192.0.2.7 192.0.2.2 4711 7\r\n"


def target(service: EchoService) -> str:
    return f"tcp:127.0.0.1:{portOf(service.addresses[0])}"


async def echoed(reactor: Any, peer: Peer, data: bytes) -> None:
    """Send, and wait until it is back."""
    size = len(peer.received) + len(data)
    peer.transport.write(data)
    await peer.untilReceived(reactor, size)


@contextmanager
def connected(port: int, *segments: bytes) -> Iterator[socket.socket]:
    """Connect and send the segments, each by itself."""
    with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for segment in segments:
            connection.sendall(segment)
        yield connection


def closed(connection: socket.socket) -> bool:
    """Wait for the end of a connection, in order or not, on which nothing comes."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("header", [UNKNOWN, LOCAL], ids=["v1", "v2"])
@ensureDeferred
async def test_a_header_that_names_no_client(
    reactor: Any, connect: Connect, header: bytes
) -> None:
    """The connection is served, and its peer is its own."""
    async with serving(reactor, LISTEN) as service:
        peer = await connect(ThroughProxy(target(service), header))
        await echoed(reactor, peer, b"hello")
        (echo,) = service.factory.connections
        assert echo.transport.getPeer() == peer.transport.getHost()


@pytest.mark.parametrize("lane", ["", "express:"])
@ensureDeferred
async def test_one_peer_from_beginning_to_end(
    reactor: Any, connect: Connect, lane: str
) -> None:
    """Every line about a connection names the client, not the proxy."""
    factory = EchoFactory(trace=Trace.DATA)
    with capturedLogs() as events:
        async with serving(reactor, lane + LISTEN, factory=factory) as service:
            peer = await connect(ThroughProxy(target(service), V1))
            await echoed(reactor, peer, b"hello")
            peer.transport.loseConnection()
            await eventually(reactor, lambda: not factory.connections)
    told = [formatEvent(event) for event in events if "peer" in event]
    assert told == [
        "accepted connection from ('192.0.2.1', 4711)",
        "echoing b'hello' to ('192.0.2.1', 4711)",
        "closing connection to ('192.0.2.1', 4711)",
    ]


@ensureDeferred
async def test_the_limit_per_host_is_the_clients(reactor: Any, connect: Connect) -> None:
    """Each client has its own places, and one that is given up is given again."""
    factory = EchoFactory(Limits(perHost=1), reactor=reactor)
    with capturedLogs() as events:
        async with serving(reactor, LISTEN, factory=factory) as service:
            for _ in range(3):
                first = await connect(ThroughProxy(target(service), V1))
                await echoed(reactor, first, b"x")
                refused = await connect(ThroughProxy(target(service), V1))
                await refused.until(reactor, lambda: refused.ended)  # noqa: B023
                other = await connect(ThroughProxy(target(service), OTHER))
                await echoed(reactor, other, b"x")
                for each in (first, other):
                    each.transport.loseConnection()
                await eventually(reactor, lambda: not factory.connections)
    assert factory.counts().refused == {"host": 3}
    (told,) = [formatEvent(event) for event in events if "why" in event]
    assert "connection limit of the host reached: 3), the first from 192.0.2.1:4711" in told


@ensureDeferred
async def test_the_limit_per_host_behind_twisteds_own_wrapper(
    reactor: Any, connect: Connect
) -> None:
    """
    In an endpoint of an application's own, the peer changes when the header has come. The
    host that was counted at the beginning is the one that is free again in the end.
    """
    factory = EchoFactory(Limits(perHost=1))
    endpoint = proxyEndpoint(serverFromString(reactor, "tcp:0:interface=127.0.0.1"))
    service = EchoService(reactor, [endpoint], factory)
    service.startService()
    for _ in range(3):
        peer = await connect(ThroughProxy(target(service), V1))
        await echoed(reactor, peer, b"x")
        peer.transport.loseConnection()
        await eventually(reactor, lambda: not factory.connections)
    assert factory.counts().refused == {}
    await service.stopService()


@ensureDeferred
async def test_the_peers_are_the_clients(reactor: Any, connect: Connect) -> None:
    """A connection without a complete header is none yet."""
    async with serving(reactor, LISTEN) as service:
        peer = await connect(target(service))
        peer.transport.write(V1[:20])
        other = await connect(ThroughProxy(target(service), OTHER))
        await echoed(reactor, other, b"abc")
        assert service.factory.peers(10) == [PeerCounts("192.0.2.7", 1, 3)]
        peer.transport.write(V1[20:])
        await echoed(reactor, peer, b"abcd")
        assert service.factory.peers(10) == [
            PeerCounts("192.0.2.1", 1, 4),
            PeerCounts("192.0.2.7", 1, 3),
        ]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no header at all", "the first bytes are not a PROXY header"),
        (b"PROXY TCP4 a b c d\r\n" + bytes(12), "a port is not a number from 0 to 65535"),
        (b"PROXY TCP4 " + b"9" * 60_000, "there is no CR LF within 107 bytes"),
        (b"PROXY TCP4 " + b"\x1b" * 60 + b" 1 2 3\r\n", "an address is not of TCP4"),
    ],
    ids=["none", "port", "endless", "escapes"],
)
@ensureDeferred
async def test_a_refused_header(reactor: Any, connect: Connect, data: bytes, why: str) -> None:
    """The connection is closed unserved and counted, and the log has the reason."""
    factory = EchoFactory(reactor=reactor)
    with capturedLogs() as events:
        async with serving(reactor, LISTEN, factory=factory) as service:
            for _ in range(5):
                peer = await connect(ThroughProxy(target(service), data))
                await peer.until(reactor, lambda: peer.ended)  # noqa: B023
            counts = factory.counts()
    assert (counts.accepted, counts.refused) == (0, {"header": 5})
    told = [formatEvent(event) for event in events if event["log_level"].name != "info"]
    assert sum(int(re.findall(r"refused (\d+)", line)[0]) for line in told) == 5
    assert all(f"({why}); 0 connections open" in line for line in told)
    assert "no valid PROXY header" in told[0]


@ensureDeferred
async def test_an_end_within_the_header(reactor: Any, connect: Connect) -> None:
    """It is refused; an end without a byte is not, because nothing was asked for."""
    factory = EchoFactory()
    async with serving(reactor, LISTEN, factory=factory) as service:
        (await connect(target(service))).transport.loseConnection()
        peer = await connect(ThroughProxy(target(service), V1[:20]))
        peer.transport.loseConnection()
        await eventually(reactor, lambda: factory.counts().refused == {"header": 1})


class Accumulating(Protocol):
    """
    @ivar received: what came.
    """

    def connectionMade(self) -> None:
        self.received = b""

    def dataReceived(self, data: bytes) -> None:
        self.received += data


class Port:
    """
    A port behind a proxy, without sockets.

    @ivar told: why connections were refused.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.told: list[str] = []
        served = Factory.forProtocol(Accumulating)
        self.factory = HeaderFactory(served, self.clock, lambda _, why: self.told.append(why))
        self.factory.doStart()

    def connect(self) -> Any:
        """Return a transport that calls its protocol, as those of the reactor do."""
        transport: Any = StringTransport()
        transport.protocol = self.factory.buildProtocol(None)
        transport.protocol.makeConnection(transport)
        return transport


@pytest.mark.parametrize("header", [V1, V2, UNKNOWN, LOCAL], ids=["v1", "v2", "v1-", "v2-"])
@pytest.mark.parametrize("size", [1, 7, 15, 16, 1000])
def test_segments_of_any_size(header: bytes, size: int) -> None:
    """The header is none of what is served, and what follows it is."""
    transport = Port().connect()
    stream = header + b"hello"
    for at in range(0, len(stream), size):
        transport.protocol.dataReceived(stream[at : at + size])
    assert transport.protocol.received == b"hello"


def test_a_header_that_does_not_come() -> None:
    """The connection is closed after 5 s at least and 6 s at most, whatever bytes came."""
    port = Port()
    port.connect().protocol.dataReceived(V1)
    port.clock.advance(0.5)
    late = port.connect()
    for byte in range(HEADER_TIMEOUT):
        late.protocol.dataReceived(V1[byte : byte + 1])
        port.clock.advance(1.0)
    assert not late.disconnecting
    port.clock.advance(1.0)
    assert late.disconnecting
    assert port.told == ["its header did not come within 5 s"]
    assert port.clock.getDelayedCalls() == []


def test_too_many_without_a_header() -> None:
    """The oldest gives its place to the newest, whose header may still come."""
    port = Port()
    first, second, *_ = [port.connect() for _ in range(MAX_WAITING + 1)]
    assert first.disconnecting
    assert not second.disconnecting
    assert port.told == ["more than 4,096 connections wait for their header"]


def test_a_port_that_is_closed() -> None:
    """A connection that has not sent its header still has its time for it."""
    port = Port()
    waiting = port.connect()
    read = port.factory.whenRead()
    port.factory.doStop()
    assert not waiting.disconnecting
    assert not read.called
    waiting.protocol.dataReceived(V1 + b"hello")
    assert waiting.protocol.received == b"hello"
    assert read.called


def test_a_header_that_does_not_come_to_a_closed_port() -> None:
    """The connection is closed after the time that all have, and no timer is left."""
    port = Port()
    waiting = port.connect()
    read = port.factory.whenRead()
    port.factory.doStop()
    for _ in range(HEADER_TIMEOUT + 1):
        port.clock.advance(1.0)
    assert waiting.disconnecting
    assert read.called
    assert port.clock.getDelayedCalls() == []


def test_no_more_time_for_headers() -> None:
    """What has not sent its header is closed and not counted; what has is left to its own."""
    port = Port()
    waiting, served = port.connect(), port.connect()
    served.protocol.dataReceived(V1)
    read = port.factory.whenRead()
    port.factory.abort()
    assert (waiting.disconnecting, served.disconnecting) == (True, False)
    waiting.protocol.connectionLost(Failure(ConnectionDone()))
    assert port.told == []
    assert read.called
    assert port.clock.getDelayedCalls() == []


def test_the_header_comes_before_tls(certificates: Certificates) -> None:
    """As real proxies send it; the client is the one that it names."""
    pem = certificates.pem
    listen = f"haproxy:ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    context = ssl.create_default_context(cafile=str(certificates.trust / "authority.pem"))
    with (
        multiecho("--listen", listen) as (program, port),
        connected(port, V2) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as connection,
    ):
        connection.sendall(b"hello")
        assert connection.recv(100) == b"hello"
        program.waitFor(r"accepted connection from 192\.0\.2\.1:4711")


def test_reserved_and_shared_ports() -> None:
    """Workers read headers too, and count what they refuse."""
    with multiecho("--workers", "2", "--listen", LISTEN) as (program, port):
        program.waitFor("2 workers")
        with connected(port, V1, b"hello") as connection:
            assert connection.recv(5, socket.MSG_WAITALL) == b"hello"
        program.waitFor(r"worker \d: accepted connection from 192\.0\.2\.1:4711")
        with connected(port, b"no header") as connection:
            assert closed(connection)
        program.waitFor(
            r"worker \d: refused 1 connection \(no valid PROXY header: 1\), the first"
            r" from 127\.0\.0\.1:\d+ \(the first bytes are not a PROXY header\)"
        )


def refused(status: int) -> dict[str, int]:
    """Return how many connections a server has refused, by why."""
    facts = json.loads(get(status, "/status.json").body)["facts"]
    return cast(dict[str, int], facts["counts"]["refused"])


@pytest.mark.parametrize("lane", [[], ["--no-express"]], ids=["lane", "plain"])
def test_whatever_comes_is_bounded(lane: list[str]) -> None:
    """No bytes of a peer's reach the log or the status as they are, nor many of them."""
    long = b"PROXY TCP4 " + b"\x01" * 60_000 + b" 192.0.2.2 1 2\r\n"
    with withStatus(*lane, "--listen", LISTEN) as (program, _, status):
        port = int(program.waitFor(r"listening on 127\.0\.0\.1:(\d+)")[1])
        for data in (b"PROXY TCP4 a b c d\r\n" + bytes(12), long, long[:20], b"\x1b[2J" * 99):
            # The server may close, or reset, before all is sent.
            with suppress(ConnectionError), connected(port, data) as connection:
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_WR)
                assert closed(connection)
        until(lambda: refused(status)["header"] == 4)
        assert len(get(status, "/status.json").body) < 20_000
        program.end()
    assert not any("Traceback" in line for line in program.out)
    assert all(len(line) < 500 and line.isprintable() for line in program.out)
