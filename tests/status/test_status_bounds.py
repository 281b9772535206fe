"""
What strangers can do to the status port, and what they cannot.
"""

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from peers import (
    LOOPBACK,
    Certificates,
    Connect,
    Peer,
    eventually,
    openDescriptors,
)
from programs import LIMIT
from pytest_twisted import ensureDeferred
from statuses import Source, ask, started
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.task import Clock, LoopingCall, deferLater
from twisted.logger import capturedLogs, formatEvent

from echofactory.server.counts import Counts, PeerCounts
from echofactory.status import ServerStatus, StatusService, channel, web
from echofactory.status.admission import ACCEPTS_PER_PASS, RESERVED_DESCRIPTORS
from echofactory.status.channel import MAX_HEAD_SIZE
from echofactory.status.taskqueue import SLICE_S

GET = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"


class Slow(Source):
    """Its peers are told when the test has it so."""

    def __init__(self) -> None:
        super().__init__()
        self.told: Deferred[None] = Deferred()

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        self.asked += 1
        if not self.told.called:
            waiting: Deferred[None] = Deferred()
            self.told.addBoth(waiting.callback)
            await waiting
        return []


def untilEnded(reactor: Any, peer: Peer) -> Deferred[None]:
    """Wait until the other side has ended its stream."""
    return peer.until(reactor, lambda: peer.ended)


# One request of a connection.


@ensureDeferred
async def test_one_request_of_a_connection_is_answered(reactor: Any, connect: Connect) -> None:
    """Of a thousand that come at once. The answer says that the connection closes."""
    service, port = started(reactor, Source())
    kept = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    found = await ask(connect, reactor, port, kept * 999 + GET)
    assert found.count(b"HTTP/1.1 200 ") == 1
    assert b"\r\nConnection: close\r\n" in found
    assert found.endswith(b"\r\nok\n")
    await service.stopService()


@ensureDeferred
async def test_a_body_is_dropped(reactor: Any, connect: Connect) -> None:
    """It is read all the same, so that the answer arrives."""
    service, port = started(reactor, Source())
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    form = b"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1000000\r\n\r\n"
    found = await ask(connect, reactor, port, head + form + bytes(1_000_000))
    assert found.startswith(b"HTTP/1.1 405 ")
    await service.stopService()


@ensureDeferred
async def test_a_body_is_not_waited_for(reactor: Any, connect: Connect) -> None:
    """Nor does it take a file when its length is not told."""
    service, port = started(reactor, Source())
    head = b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert (await ask(connect, reactor, port, head)).endswith(b"\r\nok\n")
    await service.stopService()


@ensureDeferred
async def test_a_peer_that_ends_its_stream_is_answered(reactor: Any, connect: Connect) -> None:
    """As C{nc -N} does; whole."""
    service, port = started(reactor, Source())
    peer = await connect(f"tcp:127.0.0.1:{port}")
    peer.transport.write(b"GET /status.js HTTP/1.0\r\n\r\n")
    peer.transport.loseWriteConnection()
    await untilEnded(reactor, peer)
    assert peer.received.startswith(b"HTTP/1.0 200 ")
    script = Path(web.__file__).with_name("status.js").read_bytes()
    assert peer.received.endswith(script)
    await service.stopService()


@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"x" * (MAX_HEAD_SIZE + 1), 431),
        (b"GET / HTTP/1.1\r\na: " + b"x" * MAX_HEAD_SIZE + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 1000 + b"\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
    ],
)
@ensureDeferred
async def test_a_head_that_is_refused(
    reactor: Any, connect: Connect, head: bytes, code: int
) -> None:
    """Once, and then the connection is closed."""
    service, port = started(reactor, Source())
    found = await ask(connect, reactor, port, head)
    assert found.startswith(b"HTTP/1.1 %d " % code)
    assert found.count(b"HTTP/1.1") == 1
    await service.stopService()


# The deadline.


@contextmanager
def dripping(reactor: Any, peer: Peer, drip: bytes) -> Iterator[None]:
    """Send a few bytes over and over."""
    sending = LoopingCall(peer.transport.write, drip)
    sending.clock = reactor
    sending.start(0.01)
    yield
    sending.stop()


@pytest.mark.parametrize(
    ("head", "drip"),
    [
        (b"", b"G"),
        (b"GET / HTTP/1.1\r\na: ", b"b"),
        (b"GET / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"", b""),
        (GET, b"x"),
    ],
    ids=["request line", "header", "body", "silence", "after the answer"],
)
@ensureDeferred
async def test_the_deadline(reactor: Any, connect: Connect, head: bytes, drip: bytes) -> None:
    """Whatever comes, and if nothing does, the connection is cut."""
    service, port = started(reactor, Source(), deadlineS=0.2)
    peer = await connect(f"tcp:127.0.0.1:{port}")
    peer.transport.write(head)
    with dripping(reactor, peer, drip):
        await peer.untilLost(reactor)
    await service.stopService()


@ensureDeferred
async def test_the_deadline_of_a_handshake(
    reactor: Any, connect: Connect, certificates: Certificates
) -> None:
    """TLS does not put it off."""
    pem = certificates.pem
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    service, port = started(reactor, Source(), endpoint, deadlineS=0.2)
    peer = await connect(f"tcp:127.0.0.1:{port}")
    # The beginning of a record.
    peer.transport.write(b"\x16\x03\x01\x02")
    await peer.untilLost(reactor)
    await service.stopService()


# The places.


@ensureDeferred
async def test_strangers_do_not_keep_others_out(reactor: Any, connect: Connect) -> None:
    """The one that has waited longest gives way."""
    service, port = started(reactor, Source(), connections=2)
    first = await connect(f"tcp:127.0.0.1:{port}")
    second = await connect(f"tcp:127.0.0.1:{port}")
    assert (await ask(connect, reactor, port, GET)).endswith(b"\r\nok\n")
    await first.untilLost(reactor)
    second.transport.write(GET)
    await second.until(reactor, lambda: second.received.endswith(b"\r\nok\n"))
    await service.stopService()


@ensureDeferred
async def test_who_is_answered_keeps_its_place(reactor: Any, connect: Connect) -> None:
    """Others wait in the kernel until then."""
    source = Slow()
    service, port = started(reactor, source, connections=1)
    first = await connect(f"tcp:127.0.0.1:{port}")
    first.transport.write(b"GET /status.json HTTP/1.1\r\n\r\n")
    await eventually(reactor, lambda: source.asked)
    second = await connect(f"tcp:127.0.0.1:{port}")
    second.transport.write(GET)
    source.told.callback(None)
    for peer in (first, second):
        await untilEnded(reactor, peer)
        assert peer.received.startswith(b"HTTP/1.1 200 ")
        peer.transport.loseConnection()
    await service.stopService()


@ensureDeferred
async def test_who_leaves_before_the_answer_harms_nothing(
    reactor: Any, connect: Connect
) -> None:
    """Its place is free at once, and the answer is dropped."""
    source = Slow()
    service, port = started(reactor, source, connections=1)
    peer = await connect(f"tcp:127.0.0.1:{port}")
    peer.transport.write(b"GET /status.json HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await eventually(reactor, lambda: source.asked)
    peer.transport.abortConnection()
    assert (await ask(connect, reactor, port, GET)).endswith(b"\r\nok\n")
    source.told.callback(None)
    assert (await ask(connect, reactor, port, GET)).endswith(b"\r\nok\n")
    await service.stopService()


@pytest.mark.parametrize("kind", ["tcp", "express:tcp"])
@ensureDeferred
async def test_strangers_that_come_again(reactor: Any, connect: Connect, kind: str) -> None:
    """Each asks for another connection as soon as one is lost; health is answered."""
    endpoint = f"{kind}:0:interface=127.0.0.1"
    service, port = started(reactor, Source(), endpoint, connections=5)
    over = False

    async def come() -> None:
        while not over:
            stranger = await connect(f"tcp:127.0.0.1:{port}")
            await untilEnded(reactor, stranger)
            stranger.transport.loseConnection()

    strangers = [Deferred.fromCoroutine(come()) for _ in range(50)]
    for _ in range(5):
        # A machine that is too busy sends the request too late.
        while not await ask(connect, reactor, port, GET):
            continue
    over = True
    await service.stopService()
    for each in strangers:
        await each


# A stop.


def asking(port: int) -> socket.socket:
    """Return a connection that the kernel accepts. It sends a request and ends its stream."""
    connection = socket.create_connection(("127.0.0.1", port), LIMIT)
    connection.sendall(GET)
    connection.shutdown(socket.SHUT_WR)
    return connection


@pytest.mark.parametrize("kind", ["tcp", "express:tcp"])
@ensureDeferred
async def test_a_stop_answers_what_the_kernel_has_accepted(reactor: Any, kind: str) -> None:
    """All of it, though no more than a few connections are accepted in a pass."""
    service, port = started(reactor, Source(), f"{kind}:0:interface=127.0.0.1")
    with ExitStack() as held:
        peers = [held.enter_context(asking(port)) for _ in range(5 * ACCEPTS_PER_PASS)]
        await service.stopService()
        for peer in peers:
            with peer.makefile("rb") as answer:
                assert answer.read().endswith(b"\r\nok\n")


@ensureDeferred
async def test_a_stop_while_the_entrance_rests(reactor: Any) -> None:
    """Nothing is left that would read from the port."""
    service, port = started(reactor, Source())
    with capturedLogs() as events, ExitStack() as held:
        for _ in range(5 * ACCEPTS_PER_PASS):
            held.enter_context(asking(port))
        await deferLater(reactor, 0)
        await service.stopService()
        await deferLater(reactor, 0.01)
    assert not [event for event in events if "log_failure" in event]


@ensureDeferred
async def test_a_stop_waits_for_an_answer(reactor: Any, connect: Connect) -> None:
    """The answer is whole."""
    source = Slow()
    service, port = started(reactor, source)
    asked = await connect(f"tcp:127.0.0.1:{port}")
    asked.transport.write(b"GET /status.json HTTP/1.0\r\n\r\n")
    await eventually(reactor, lambda: source.asked)
    before = openDescriptors()
    stopped = service.stopService()
    # The port is closed when the descriptors that are kept for it are.
    await eventually(reactor, lambda: openDescriptors() <= before - RESERVED_DESCRIPTORS)
    source.told.callback(None)
    await untilEnded(reactor, asked)
    assert asked.received.startswith(b"HTTP/1.0 200 ")
    asked.transport.loseConnection()
    await stopped


@ensureDeferred
async def test_a_stop_cuts_what_takes_too_long(
    reactor: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request whose end does not come, or an answer that is not ready."""
    monkeypatch.setattr(channel, "_CLOSING_S", 0.01)
    source = Slow()
    service, port = started(reactor, source)
    half = await connect(f"tcp:127.0.0.1:{port}")
    half.transport.write(GET[:9])
    slow = await connect(f"tcp:127.0.0.1:{port}")
    slow.transport.write(b"GET /status.json HTTP/1.0\r\n\r\n")
    await eventually(reactor, lambda: source.asked)
    await service.stopService()
    for peer in (half, slow):
        await peer.untilLost(reactor)
    source.told.callback(None)


# The time of a pass.


@ensureDeferred
async def test_a_pass_of_the_reactor_answers_for_a_bounded_time(
    reactor: Any, connect: Connect
) -> None:
    """Of twenty answers, each of which takes all of it, each has a pass of its own."""
    passes = 0
    answers = []

    class Busy(ServerStatus):
        @property
        def health(self) -> str:
            answers.append(passes)
            end = time.perf_counter() + SLICE_S
            while time.perf_counter() < end:
                """The answer takes that long."""
            return "ok"

    def turn() -> None:
        nonlocal passes
        passes += 1

    service = StatusService(reactor, LOOPBACK, Busy(Source()))
    service.startService()
    counting = LoopingCall(turn)
    counting.clock = reactor
    counting.start(0)
    port = service.address.port  # type: ignore[union-attr]
    peers = [await connect(f"tcp:127.0.0.1:{port}") for _ in range(20)]
    for peer in peers:
        peer.transport.write(GET)
    for peer in peers:
        await untilEnded(reactor, peer)
    counting.stop()
    assert len(set(answers)) == len(answers) == 20
    await service.stopService()


@ensureDeferred
async def test_the_peers_are_counted_once_for_all_who_look(
    reactor: Any, connect: Connect
) -> None:
    """Within a second; a change of health is told at once all the same."""
    source = Source()
    service, port = started(reactor, source)
    request = b"GET /status.json HTTP/1.0\r\n\r\n"
    began = time.monotonic()
    for _ in range(20):
        assert b'"draining":false' in await ask(connect, reactor, port, request)
    assert source.asked <= 2 + time.monotonic() - began
    source.draining = True
    assert b'"draining":true' in await ask(connect, reactor, port, request)
    await service.stopService()


@ensureDeferred
async def test_the_peers_are_asked_once_for_all_who_wait(
    reactor: Any, connect: Connect
) -> None:
    """Not once for each request that comes before they have answered."""
    source = Slow()
    service = StatusService(reactor, LOOPBACK, ServerStatus(source))
    service.privilegedStartService()
    port = service.address.port  # type: ignore[union-attr]
    peers = [await connect(f"tcp:127.0.0.1:{port}") for _ in range(10)]
    for peer in peers:
        peer.transport.write(b"GET /view.json HTTP/1.0\r\n\r\n")
    # Health is answered after those that came before.
    assert await ask(connect, reactor, port, GET)
    source.told.callback(None)
    for peer in peers:
        await untilEnded(reactor, peer)
        assert peer.received.startswith(b"HTTP/1.0 200 ")
    assert source.asked == 1
    await service.stopService()


@ensureDeferred
async def test_the_connections_are_counted_for_a_twentieth_of_the_time(
    reactor: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the metrics are asked for; for each of two formats."""
    clock = Clock()
    monkeypatch.setattr(web, "perf_counter", clock.seconds)

    class Many(Source):
        def counts(self) -> Counts:
            clock.advance(1.0)
            self.now = Counts(accepted=self.now.accepted + 1)
            return self.now

    service = StatusService(reactor, LOOPBACK, ServerStatus(Many()))
    service.privilegedStartService()
    port = service.address.port  # type: ignore[union-attr]
    request = b"GET /metrics HTTP/1.0\r\n\r\n"
    first = (await ask(connect, reactor, port, request)).partition(b"\r\n\r\n")[2]
    clock.advance(18.9)
    again = (await ask(connect, reactor, port, request)).partition(b"\r\n\r\n")[2]
    clock.advance(0.2)
    last = (await ask(connect, reactor, port, request)).partition(b"\r\n\r\n")[2]
    assert first == again != last
    await service.stopService()


@ensureDeferred
async def test_a_port_that_fails_to_close(
    reactor: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the stop closes the connections."""
    endpoint: Any = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    listen = endpoint.listen
    stops: list[Any] = []

    def fail() -> None:
        raise OSError("no such luck")

    def spoil(port: Any) -> Any:
        stops.append(port.stopListening)
        monkeypatch.setattr(port, "stopListening", fail)
        return port

    monkeypatch.setattr(endpoint, "listen", lambda given: listen(given).addCallback(spoil))
    service = StatusService(reactor, endpoint, ServerStatus(Source()))
    service.privilegedStartService()
    port = service.address.port  # type: ignore[union-attr]
    peer = await connect(f"tcp:127.0.0.1:{port}")
    # It is answered, so that it has been accepted.
    peer.transport.write(GET.replace(b"close", b"keep-alive"))
    await peer.untilReceived(reactor, 1)
    with capturedLogs() as events:
        await service.stopService()
    assert any("while closing" in formatEvent(event) for event in events)
    await untilEnded(reactor, peer)
    for stopListening in stops:
        await stopListening()
