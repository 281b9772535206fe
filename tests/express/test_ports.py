"""
Listening ports: what comes of the connections that are not served, and of those that
wait while the server stops.
"""

import os
import select
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import (
    TRANSPORTS,
    V1,
    Certificates,
    Connect,
    FakeTimeReactor,
    Transport,
    eventually,
    noDescriptorLeft,
    serving,
)
from programs import LIMIT
from pytest_twisted import ensureDeferred
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.threads import deferToThread
from twisted.logger import LogEvent, capturedLogs, formatEvent

from echofactory import EchoFactory, ExpressReactor
from echofactory.express.ports import PortsReactor
from echofactory.net.endpoints import serverEndpoint


@pytest.fixture(params=TRANSPORTS, ids=str)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    return chosen


def rawPeer(address: Any) -> socket.socket:
    """
    Connect to a listener of this process. The kernel does so, while the reactor of this
    process stands still.
    """
    if isinstance(address, UNIXAddress):
        peer = socket.socket(socket.AF_UNIX)
        assert address.name is not None
        target: Any = address.name
    else:
        peer = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
        target = (address.host, address.port)
    peer.settimeout(LIMIT)
    try:
        peer.connect(target)
    except OSError:
        peer.close()
        raise
    return peer


@contextmanager
def rawPeers(address: Any, count: int) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(rawPeer(address)) for _ in range(count)]


def lines(events: Sequence[LogEvent], word: str) -> list[str]:
    """Return the lines of the log that have C{word}."""
    return [text for event in events if word in (text := formatEvent(event))]


@ensureDeferred
async def test_out_of_descriptors_each_is_counted(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """However many are closed because no descriptor is left, that is how many are refused."""
    factory = EchoFactory()
    listen = transport.listen(certificates, folder)
    async with serving(reactor, listen, factory=factory) as service:
        with rawPeers(service.addresses[0], 63), noDescriptorLeft():
            await eventually(reactor, lambda: factory.counts().refused == {"descriptors": 63})
        assert factory.counts().accepted == 0


@ensureDeferred
async def test_out_of_descriptors_one_line_tells_of_all(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """The line has the exact number, and no other line reports them."""
    factory = EchoFactory(reactor=reactor)
    listen = transport.listen(certificates, folder)
    async with serving(reactor, listen, factory=factory) as service:
        with capturedLogs() as events:
            with rawPeers(service.addresses[0], 63), noDescriptorLeft():
                await eventually(reactor, lambda: lines(events, "refused"))
            await service.stopService()
    (line,) = lines(events, "")[:1]
    assert line.startswith("refused 63 connections (no file descriptor left: 63), the first ")
    assert lines(events, "EMFILE") == []


class _Raising(Factory):
    """Fails to make a protocol."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Protocol | None:
        raise RuntimeError("no protocol")


@ensureDeferred
@pytest.mark.parametrize("express", [False, True])
async def test_a_factory_that_fails(reactor: Any, express: bool) -> None:
    """The connection is closed at once, and the log has the reason."""
    chosen = ExpressReactor(reactor) if express else reactor
    factory = _Raising()
    listening = await serverEndpoint(chosen, "tcp:0:interface=127.0.0.1").listen(factory)
    try:
        with capturedLogs() as events, rawPeer(listening.getHost()) as peer:
            closed = deferToThread(peer.recv, 1)
            assert await closed == b""
        (failure,) = (event["log_failure"] for event in events if "log_failure" in event)
        assert failure.check(RuntimeError)
        failure.cleanFailure()
    finally:
        await maybeDeferred(listening.stopListening)


@ensureDeferred
async def test_out_of_descriptors_with_any_factory(reactor: Any) -> None:
    """If a factory counts no refusals, the port logs them."""
    endpoint: Any = serverEndpoint(reactor, "express:tcp:0:interface=127.0.0.1")
    port = await endpoint.listen(Factory.forProtocol(Protocol))
    with capturedLogs() as events:
        with rawPeers(port.getHost(), 7), noDescriptorLeft():
            await eventually(reactor, lambda: lines(events, "not served"))
        await port.stopListening()
    (line,) = lines(events, "not served")
    assert line.startswith("connections not served: 7 (no descriptor was left); the first ")


PROXIED = [each for each in TRANSPORTS if each.header]
UNIX = [each for each in TRANSPORTS if "unix" in each.name]


@pytest.mark.parametrize("transport", UNIX, ids=str)
@pytest.mark.parametrize("name", [b"\0abc", b"abcd", b"\xff\xfe\xfd\xfc", b"\0" + b"n" * 100])
@ensureDeferred
async def test_a_unix_peer_with_a_name(
    reactor: Any,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: bytes,
) -> None:
    """Whatever name a peer is bound to, it is served."""
    monkeypatch.chdir(folder)
    async with serving(reactor, transport.listen(certificates, folder)) as service:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(LIMIT)
            peer.bind(name)
            peer.connect(service.addresses[0].name)  # type: ignore[attr-defined]
            peer.sendall(transport.header + b"x")
            await eventually(reactor, lambda: select.select([peer], [], [], 0)[0])
            assert peer.recv(1) == b"x"


@pytest.mark.parametrize("transport", UNIX, ids=str)
@ensureDeferred
async def test_descriptors_from_a_unix_peer(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """They are closed, and nothing is logged; the bytes are echoed."""
    async with serving(reactor, transport.listen(certificates, folder)) as service:
        with rawPeer(service.addresses[0]) as peer:
            peer.sendall(transport.header)
            await eventually(reactor, lambda: service.factory.connections)
            before = os.listdir("/dev/fd")
            with capturedLogs() as events:
                for _ in range(10):
                    socket.send_fds(peer, [b"x"], [0] * 20)
                await eventually(reactor, lambda: service.factory.counts().bytesOut == 10)
            assert lines(events, "") == []
            assert os.listdir("/dev/fd") == before


@ensureDeferred
async def test_descriptors_from_a_unix_server(
    reactor: Any, connect: Connect, folder: Path
) -> None:
    """A client on the lane closes them as well."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/s")
        listening.listen()
        peer = await connect(f"express:unix:{folder}/s")
        with listening.accept()[0] as server, capturedLogs() as events:
            before = os.listdir("/dev/fd")
            socket.send_fds(server, [b"x"], [0] * 20)
            await peer.untilReceived(reactor, 1)
            assert os.listdir("/dev/fd") == before
    assert lines(events, "") == []


@ensureDeferred
async def test_a_stop_serves_what_the_kernel_has_accepted(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """More connections than one pass accepts wait in the queue when the server stops."""
    listen = transport.listen(certificates, folder)
    async with serving(reactor, listen, drain=LIMIT) as service:
        with rawPeers(service.addresses[0], 150) as peers:
            for peer in peers:
                peer.sendall(transport.header)
            stopping = service.stopService()
            await eventually(reactor, lambda: service.factory.counts().open == 150)
        await stopping


@pytest.mark.parametrize("prefix", ["", "express:"])
@ensureDeferred
async def test_what_was_accepted_at_the_stop_is_echoed(reactor: Any, prefix: str) -> None:
    """Such a connection is served as any other that drains."""
    listen = f"{prefix}tcp:0:interface=127.0.0.1"
    async with serving(reactor, listen, drain=LIMIT) as service:
        with rawPeer(service.addresses[0]) as peer:
            peer.sendall(b"x")
            stopping = service.stopService()
            await eventually(reactor, lambda: select.select([peer], [], [], 0)[0])
            assert peer.recv(1) == b"x"
        await stopping
        assert service.factory.counts().lost == {"done": 1}


async def untilEchoed(reactor: Any, peers: Sequence[socket.socket], data: bytes) -> None:
    """Wait until each peer has something to read, and see that it is C{data}."""
    for peer in peers:
        await eventually(reactor, lambda: select.select([peer], [], [], 0)[0])  # noqa: B023
        assert peer.recv(len(data)) == data


async def untilClosed(reactor: Any) -> None:
    """Let the reactor take the turns in which a port with a short queue closes."""
    for _ in range(10):
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn


@pytest.mark.parametrize("transport", PROXIED, ids=str)
@ensureDeferred
async def test_a_header_that_has_come_at_the_stop(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """Its connection is served as any other that the kernel has accepted."""
    listen = transport.listen(certificates, folder)
    async with serving(reactor, listen, drain=LIMIT) as service:
        with rawPeers(service.addresses[0], 20) as peers:
            for peer in peers:
                peer.sendall(transport.header + b"hello")
            stopping = service.stopService()
            await untilEchoed(reactor, peers, b"hello")
        await stopping
        assert service.factory.counts().lost == {"done": 20}


@ensureDeferred
async def test_a_header_that_comes_during_the_stop(reactor: Any) -> None:
    """Its connection is served, and the stop waits for it."""
    listen = "haproxy:tcp:0:interface=127.0.0.1"
    async with serving(reactor, listen, drain=LIMIT) as service:
        with rawPeers(service.addresses[0], 2) as (first, second):
            first.sendall(V1 + b"x")
            stopping = service.stopService()
            await untilEchoed(reactor, [first], b"x")
            second.sendall(V1 + b"x")
            await untilEchoed(reactor, [second], b"x")
            assert not stopping.called
        await stopping


@pytest.mark.parametrize("drain", [0, LIMIT])
@ensureDeferred
async def test_a_header_that_does_not_come_ends_with_the_hurried_stop(
    reactor: Any, drain: float
) -> None:
    """If there is no time to drain, or none any more, its connection is closed at once."""
    listen = "haproxy:tcp:0:interface=127.0.0.1"
    # Its clock stands still: nothing ends because its time is up.
    fake = FakeTimeReactor(reactor)
    async with serving(fake, listen, drain=drain) as service:
        with rawPeers(service.addresses[0], 2) as (first, second):
            first.sendall(V1 + b"x")
            await untilEchoed(reactor, [first], b"x")
            stopping = service.stopService()
            await untilClosed(reactor)
            service.cut()
            await eventually(reactor, lambda: stopping.called)
            with pytest.raises(ConnectionResetError):
                second.recv(1)
        assert service.factory.counts().lost == {"aborted": 1}


@ensureDeferred
async def test_a_start_while_the_stop_waits_for_headers(reactor: Any) -> None:
    """The stop cuts the connections of its time, not those of the new start."""
    listen = "haproxy:tcp:0:interface=127.0.0.1"
    async with serving(reactor, listen, drain=0.2) as service:
        with rawPeers(service.addresses[0], 2) as (first, second):
            first.sendall(V1 + b"x")
            await untilEchoed(reactor, [first], b"x")
            stopping = service.stopService()
            second.sendall(V1[:20])
            await untilClosed(reactor)
            service.startService()
            with rawPeer(service.addresses[0]) as third:
                third.sendall(V1 + b"x")
                await untilEchoed(reactor, [third], b"x")
                await stopping
                third.sendall(b"y")
                await untilEchoed(reactor, [third], b"y")


@ensureDeferred
async def test_a_queue_that_never_empties(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the kernel cannot be told to let nobody in, the stop ends all the same."""

    def fails(*arguments: Any) -> None:
        raise OSError

    class Refilling(Factory):
        protocol = Protocol

        def buildProtocol(self, addr: Any) -> Any:
            rawPeer(port.getHost()).close()
            return super().buildProtocol(addr)

    monkeypatch.setattr("echofactory.express.ports.attachFilter", fails)
    port = PortsReactor(reactor).listenTCP(0, Refilling(), interface="127.0.0.1")
    with rawPeer(port.getHost()):
        stopping: Any = port.stopListening()
        await stopping.addTimeout(LIMIT, reactor)


@ensureDeferred
async def test_a_stop_asked_for_twice(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """Both are told when the port is closed."""
    endpoint: Any = serverEndpoint(reactor, transport.listen(certificates, folder))
    port = await endpoint.listen(EchoFactory())
    stops = [port.stopListening() for _ in range(2)]
    for each in stops:
        await each.addTimeout(LIMIT, reactor)


@pytest.mark.parametrize("prefix", ["", "express:"])
@ensureDeferred
async def test_a_unix_socket_whose_file_is_gone(
    reactor: Any, prefix: str, folder: Path
) -> None:
    """The stop closes the socket, and drains."""
    async with serving(reactor, f"{prefix}unix:{folder}/s", drain=LIMIT) as service:
        with rawPeer(service.addresses[0]) as peer:
            await eventually(reactor, lambda: service.factory.connections)
            (folder / "s").unlink()
            with capturedLogs() as events:
                stopping = service.stopService()
                await eventually(reactor, lambda: lines(events, "waiting up to"))
                assert lines(events, "Closed") != []
            peer.sendall(b"x")
            await untilEchoed(reactor, [peer], b"x")
        await stopping


@ensureDeferred
async def test_a_connection_asked_for_during_the_stop(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """It is refused. It is not accepted and then reset."""
    async with serving(reactor, transport.listen(certificates, folder)) as service:
        address = service.addresses[0]
        stopping = service.stopService()
        # TCP tries once more, after a second.
        asking = deferToThread(lambda: rawPeer(address).close())
        await stopping
        # The file of a UNIX socket may be gone already.
        with pytest.raises((ConnectionRefusedError, FileNotFoundError)):
            await asking


@pytest.mark.parametrize("wrap", [PortsReactor, ExpressReactor])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
@ensureDeferred
async def test_a_stop_leaves_the_socket_of_systemd(
    reactor: Any, wrap: Any, family: socket.AddressFamily, folder: Path
) -> None:
    """Its file, its mode and its queue are there for the next who listens."""
    path = folder / "s"
    with socket.socket(family) as listening, ExitStack() as stack:
        listening.settimeout(LIMIT)
        listening.bind(str(path) if family == socket.AF_UNIX else ("127.0.0.1", 0))
        listening.listen()
        if family == socket.AF_UNIX:
            path.chmod(0o600)
        port = wrap(reactor).adoptStreamPort(listening.fileno(), family, EchoFactory())
        waiting = stack.enter_context(rawPeer(port.getHost()))
        waiting.sendall(b"x")
        await port.stopListening()
        with listening.accept()[0] as served:
            assert served.recv(1) == b"x"
        if family == socket.AF_UNIX:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with socket.socket(family) as peer:
            peer.settimeout(LIMIT)
            peer.connect(listening.getsockname())
            listening.accept()[0].close()
