"""
Listening ports: what comes of the connections that are not served, and of those that
wait while the server stops.
"""

import os
import select
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import (
    LIMIT,
    TRANSPORTS,
    Certificates,
    Connect,
    Transport,
    eventually,
    noDescriptorLeft,
    serving,
)
from pytest_twisted import ensureDeferred
from twisted.internet.address import UNIXAddress
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, capturedLogs, formatEvent

from echofactory import EchoFactory
from echofactory.listening import serverEndpoint


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
    peer.connect(target)
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
    assert line.startswith("refused 63 connections (no descriptor was left: 63), the first ")
    assert lines(events, "EMFILE") == []


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
            peer.sendall(b"x")
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
