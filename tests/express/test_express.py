"""
The fast lane: Twisted's promises kept, by Twisted's own tests and ours. That
the echo works on it is in test_echo_contract.py.
"""

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from fcntl import F_DUPFD_CLOEXEC, fcntl
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from peers import Connect, Peer, eventually, portOf
from programs import LIMIT, SUPPORT, TWISTD, client, multiecho, running
from pytest_twisted import ensureDeferred
from twisted.internet.abstract import FileDescriptor
from twisted.internet.asyncioreactor import AsyncioSelectorReactor
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs
from twisted.python.failure import Failure

from echofactory import ExpressReactor
from echofactory.express.lane import EVENTS_PER_PASS
from echofactory.express.reactor import onExpress

pytestmark = pytest.mark.reactors


def test_twisteds_own_tests(tmp_path: Path) -> None:
    """
    Twisted's tests of TCP, TLS and UNIX connections, over four of its reactors. All pass
    except five of the log prefix and one of descriptors that nobody takes, for each.
    """
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "--temp-directory", str(tmp_path / "trial"),
         "lane_conformance"],
        cwd=SUPPORT, capture_output=True, text=True, timeout=4 * LIMIT, check=False,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(r"PASSED \(skips=(\d+), successes=(\d+)\)", last)
    assert match is not None, done.stdout[-3000:]
    assert int(match[1]) == 24
    assert int(match[2]) > 600


@pytest.mark.parametrize("name", ["epoll", "asyncio", "poll", "select", "uvloop"])
def test_over_each_reactor(name: str) -> None:
    """It carries the job, and at the end every connection hears that it is lost."""
    with running([sys.executable, str(SUPPORT / "lane_server.py"), name]) as server:
        port = int(server.waitFor(r"listening on (\d+) with")[1])
        part = os.urandom(1 << 16)
        with ExitStack() as stack:
            connections = [
                stack.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
                for _ in range(20)
            ]
            for _ in range(4):
                for each in connections:
                    each.sendall(part)
                for each in connections:
                    with each.makefile("rb") as echo:
                        assert echo.read(len(part)) == part
            for each in connections[:17]:
                each.shutdown(socket.SHUT_WR)
                assert each.recv(1) == b""
            server.end(signal.SIGTERM)
    match = re.search(r"heard \[(.*)\]", "\n".join(server.out))
    assert match is not None, server.out
    heard = match[1].split(", ")
    assert sorted(heard) == ["'ConnectionDone'"] * 17 + ["'ConnectionLost'"] * 3


@ensureDeferred
async def test_timers_keep_their_turn(reactor: Any) -> None:
    """
    Beside more connections that always have something to read than a pass serves, the
    reactor's timers fire between two passes, and every connection has its turn.
    """
    lane = ExpressReactor(reactor)
    count = 2 * EVENTS_PER_PASS + 50
    served: Counter[int] = Counter()

    class Ready:
        """
        Always has something to read, as it never reads it. It takes one descriptor: many
        systems allow a process 1,024.
        """

        def __init__(self) -> None:
            self._number = os.eventfd(1)

        def fileno(self) -> int:
            return self._number

        def doRead(self) -> None:
            served[self._number] += 1

        def logPrefix(self) -> str:
            return "ready"

        def close(self) -> None:
            lane.removeReader(self)
            os.close(self._number)

    ready = [Ready() for _ in range(count)]
    for each in ready:
        lane.addReader(each)
    for _ in range(20):
        before = served.total()
        await deferLater(reactor, 0)
        # asyncio's reactor fires a timer of no delay a turn later.
        assert served.total() - before <= 2 * EVENTS_PER_PASS
    await eventually(reactor, lambda: len(served) == count)
    for each in ready:
        each.close()


@ensureDeferred
async def test_a_descriptor_that_select_cannot_watch(reactor: Any) -> None:
    """
    The lane serves a descriptor of any number over every reactor. Only the lane's own one has
    to suit the reactor: select watches those below 1,024.
    """
    lane = ExpressReactor(reactor)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    low, other = socket.socketpair()
    high = socket.socket(fileno=fcntl(other, F_DUPFD_CLOEXEC, 1024))
    received: list[bytes] = []

    class Reader(FileDescriptor):
        def __init__(self, own: socket.socket) -> None:
            super().__init__(lane)
            self._own = own

        def fileno(self) -> int:
            return self._own.fileno()

        def doRead(self) -> None:
            received.append(self._own.recv(10))

    readers: list[Any] = [Reader(low), Reader(high)]
    for reader in readers:
        reader.startReading()
    low.send(b"hello")
    await eventually(reactor, lambda: received)
    for reader in readers:
        reader.stopReading()
    for each in (low, other, high):
        each.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert received == [b"hello"]


def test_without_the_lane() -> None:
    """--no-express at both ends."""
    with multiecho("--no-express", "--trace", "none", "127.0.0.1", "0") as (_, port):
        done = client("127.0.0.1", str(port), "50", "--no-express", "--half-close")
    assert done.process.returncode == 0, done.err


def test_the_prefix_serves_any_program(tmp_path: Path) -> None:
    """express: in an endpoint string of somebody else's program: twistd web."""
    (tmp_path / "hello.txt").write_text("hello\n")
    listen = "express:tcp:0:interface=127.0.0.1"
    with running([*TWISTD, "web", "--listen", listen, "--path", str(tmp_path)]) as server:
        port = int(server.waitFor(r"Site starting on (\d+)")[1])
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
            connection.sendall(b"GET /hello.txt HTTP/1.0\r\n\r\n")
            page = b"".join(iter(lambda: connection.recv(65536), b""))
    assert page.endswith(b"\r\n\r\nhello\n")


class Doing(Protocol):
    """Does what a test says with the data it receives."""

    transport: Any
    do: Callable[["Doing", bytes], None]

    def dataReceived(self, data: bytes) -> None:
        type(self).do(self, data)


def served(
    reactor: Any, do: Callable[[Doing, bytes], None], base: type[Doing] = Doing
) -> tuple[Any, str]:
    """Serve C{do} on a lane; return the port and the client endpoint."""
    protocol = type("It", (base,), {"do": staticmethod(do)})
    port = ExpressReactor(reactor).listenTCP(
        0, Factory.forProtocol(protocol), interface="127.0.0.1"
    )
    return port, f"tcp:127.0.0.1:{portOf(port.getHost())}"


@ensureDeferred
async def test_an_exception_costs_its_connection_only(reactor: Any, connect: Connect) -> None:
    """It is logged with its traceback; the others are served."""

    def do(protocol: Doing, data: bytes) -> None:
        if data == b"bad":
            raise ZeroDivisionError
        protocol.transport.write(data)

    port, target = served(reactor, do)
    bad, good = await connect(target), await connect(target)
    with capturedLogs() as events:
        bad.transport.write(b"bad")
        await bad.until(reactor, lambda: bad.ended)
    (event,) = [event for event in events if "log_failure" in event]
    assert event["log_failure"].check(ZeroDivisionError)
    good.transport.write(b"good")
    await good.until(reactor, lambda: good.received == b"good")
    await port.stopListening()


@ensureDeferred
async def test_an_exception_in_connection_lost(reactor: Any, connect: Connect) -> None:
    """The same, of a protocol that fails as it hears of the end."""

    class Bad(Protocol):
        transport: Any

        def dataReceived(self, data: bytes) -> None:
            self.transport.write(data)

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            raise ZeroDivisionError

    port = ExpressReactor(reactor).listenTCP(0, Factory.forProtocol(Bad), interface="127.0.0.1")
    target = f"tcp:127.0.0.1:{portOf(port.getHost())}"
    bad, good = await connect(target), await connect(target)
    bad.transport.write(b"x")
    await bad.until(reactor, lambda: bad.received == b"x")
    with capturedLogs() as events:
        bad.transport.loseConnection()
        await eventually(reactor, lambda: any("log_failure" in event for event in events))
        good.transport.write(b"good")
        await good.until(reactor, lambda: good.received == b"good")
        await port.stopListening()
        good.transport.loseConnection()
        await eventually(reactor, lambda: sum("log_failure" in event for event in events) == 2)
    assert all(
        event["log_failure"].check(ZeroDivisionError)
        for event in events
        if "log_failure" in event
    )


@ensureDeferred
async def test_a_producer_that_writes_until_it_is_paused(
    reactor: Any, connect: Connect
) -> None:
    """It is paused, though the kernel takes everything."""
    pauses: list[int] = []

    class Pushing(Protocol):
        transport: Any
        paused = False

        def connectionMade(self) -> None:
            self.transport.registerProducer(self, True)
            self.resumeProducing()

        def pauseProducing(self) -> None:
            self.paused = True
            pauses.append(1)

        def resumeProducing(self) -> None:
            self.paused = False
            written = 0
            while not self.paused:
                assert written < 1 << 20, "never paused"
                self.transport.write(b"123456")
                written += 6

        def stopProducing(self) -> None:
            self.paused = True

    port = ExpressReactor(reactor).listenTCP(
        0, Factory.forProtocol(Pushing), interface="127.0.0.1"
    )
    peer = await connect(f"tcp:127.0.0.1:{portOf(port.getHost())}")
    await peer.untilReceived(reactor, 1 << 18)
    assert len(pauses) > 2
    assert peer.received[: 1 << 18] == (b"123456" * (1 << 16))[: 1 << 18]
    await port.stopListening()


@ensureDeferred
async def test_a_descriptor_closed_behind_its_back(reactor: Any, connect: Connect) -> None:
    """That costs the connection whose it was, and no other."""

    def do(protocol: Doing, data: bytes) -> None:
        if data == b"bad":
            os.close(protocol.transport.fileno())
            raise ZeroDivisionError
        protocol.transport.write(data)

    port, target = served(reactor, do)
    bad, good = await connect(target), await connect(target)
    with capturedLogs() as events:
        bad.transport.write(b"bad")
        await bad.until(reactor, lambda: bad.ended)
        good.transport.write(b"good")
        await good.until(reactor, lambda: good.received == b"good")
    assert any("log_failure" in event for event in events)
    await port.stopListening()


@ensureDeferred
async def test_after_remove_all(reactor: Any, connect: Connect) -> None:
    """Somebody, such as trial's janitor, has the reactor behind watch nothing."""
    first, _ = served(reactor, lambda protocol, data: None)
    lane = first.reactor
    reactor.removeReader(lane.lane)
    second = lane.listenTCP(0, Factory.forProtocol(Peer), interface="127.0.0.1")
    assert lane.lane in reactor.getReaders()
    await second.stopListening()
    await first.stopListening()


def test_what_epoll_cannot_watch(reactor: Any, tmp_path: Path) -> None:
    """A regular file is refused, and leaves nothing behind."""
    lane = ExpressReactor(reactor)
    with (tmp_path / "file").open("w") as file, pytest.raises(PermissionError):
        lane.addReader(file)
    assert lane.lane.fileno() == -1
    assert lane.lane not in reactor.getReaders()


@ensureDeferred
async def test_a_number_used_again_in_the_same_pass(reactor: Any) -> None:
    """
    A descriptor is closed, and its number taken by another connection, while an
    event for the old one waits its turn: the new one does not get it.
    """
    lane = ExpressReactor(reactor)
    pairs = [socket.socketpair() for _ in range(2)]
    log: list[str] = []

    class Reader:
        def __init__(self, name: str, ours: socket.socket, then: Callable[[], None]) -> None:
            self.name, self.ours, self.then = name, ours, then
            self.fileno = ours.fileno

        def doRead(self) -> None:
            log.append(self.name)
            self.ours.recv(10)
            self.then()

        def connectionLost(self, reason: object) -> None:
            raise AssertionError("not lost")

        def logPrefix(self) -> str:
            return self.name

    replaced: list[Reader] = []

    def replace() -> None:
        # Close the one whose event is yet to come, and take its number.
        if replaced:
            return
        other = readers[1] if log[-1] == "0" else readers[0]
        number = other.fileno()
        lane.removeReader(other)
        other.ours.close()
        fresh, self_ = socket.socketpair()
        pairs.append((fresh, self_))
        assert fresh.fileno() == number
        replaced.append(Reader("fresh", fresh, lambda: None))
        lane.addReader(replaced[0])

    readers = [Reader(str(n), ours, replace) for n, (ours, _) in enumerate(pairs)]
    for reader in readers:
        lane.addReader(reader)
    for _, theirs in pairs:
        theirs.send(b"x")
    await eventually(reactor, lambda: log)
    # Another pass, of which the fresh one has no event either.
    await eventually(reactor, lambda: True)
    assert len(log) == 1
    for reader in [*readers, *replaced]:
        lane.removeReader(reader)
    for pair in pairs:
        for end in pair:
            end.close()


@ensureDeferred
async def test_an_idle_lane_leaves_nothing(reactor: Any) -> None:
    """While it watches nothing, the reactor behind has no descriptor of it."""
    lane = ExpressReactor(reactor)
    before = len(reactor.getReaders())
    port = lane.listenTCP(0, Factory.forProtocol(Peer), interface="127.0.0.1")
    assert len(reactor.getReaders()) == before + 1
    assert lane.getReaders()[0] is port
    assert lane.getWriters() == reactor.getWriters()
    await port.stopListening()
    assert len(reactor.getReaders()) == before
    assert lane.lane.fileno() == -1


def test_one_lane_for_all_endpoints(reactor: Any) -> None:
    """Every express: of a process shares it, nested or not."""
    assert onExpress(reactor) is onExpress(reactor)
    assert onExpress(onExpress(reactor)) is onExpress(reactor)
    for description in ("express:tcp:0", "express:express:unix:/a"):
        serverFromString(reactor, description)
    clientFromString(reactor, "express:tcp:127.0.0.1:7")
    assert EVENTS_PER_PASS >= 64


def test_without_epoll(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reactor itself is handed back."""
    monkeypatch.delattr("select.epoll")
    plain: Any = ExpressReactor(reactor)
    assert plain is reactor


class Closing(Doing):
    """Notes how its connection was lost, too."""

    lost: ClassVar[list[type[BaseException] | None]]

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.append(reason.type)


@pytest.mark.parametrize(
    ("after", "received", "reason"),
    [
        (lambda transport: None, b"", ConnectionDone),
        (lambda transport: transport.loseConnection(), b"", ConnectionDone),
        (lambda transport: transport.write(b"bye"), b"bye", ConnectionDone),
        (lambda transport: transport.writeSequence([b"b", b"ye"]), b"bye", ConnectionDone),
        (lambda transport: transport.loseWriteConnection(), b"", ConnectionDone),
        (lambda transport: transport.abortConnection(), b"", ConnectionAborted),
    ],
)
@ensureDeferred
async def test_closing_with_nothing_queued(
    reactor: Any,
    connect: Connect,
    after: Callable[[Any], None],
    received: bytes,
    reason: type,
) -> None:
    """
    What is done between C{loseConnection} and the close has its effect, and the
    end is heard of once, after C{dataReceived} has returned.
    """

    def close(protocol: Doing, data: bytes) -> None:
        protocol.transport.loseConnection()
        after(protocol.transport)
        assert Closing.lost == []

    Closing.lost = []
    port, target = served(reactor, close, Closing)
    peer = await connect(target)
    peer.transport.write(b"x")
    await peer.until(reactor, lambda: peer.ended)
    assert peer.received == received
    await eventually(reactor, lambda: Closing.lost)
    assert Closing.lost == [reason]
    await port.stopListening()


@ensureDeferred
async def test_closing_another(reactor: Any, connect: Connect) -> None:
    """Once its connection is told to close, a protocol receives no more."""
    protocols: list[Doing] = []
    received: list[bytes] = []

    def close(protocol: Doing, data: bytes) -> None:
        received.append(data)
        if data == b"hello":
            protocols.append(protocol)
            return
        # Both have data now, and one of them is first.
        for each in protocols:
            each.transport.loseConnection()

    port, target = served(reactor, close)
    first, second = await connect(target), await connect(target)
    first.transport.write(b"hello")
    second.transport.write(b"hello")
    await eventually(reactor, lambda: len(protocols) == 2)
    for peer in (first, second):
        peer.transport.getHandle().send(b"close")
    await first.until(reactor, lambda: first.ended)
    await second.until(reactor, lambda: second.ended)
    assert received == [b"hello", b"hello", b"close"]
    await port.stopListening()


@ensureDeferred
async def test_a_turn_within_a_turn(reactor: Any, connect: Connect) -> None:
    """A protocol that has the reactor iterate costs no other connection."""
    if isinstance(reactor, AsyncioSelectorReactor):
        # Its turns are asyncio's, which has none within another.
        return
    protocols: list[Doing] = []

    def do(protocol: Doing, data: bytes) -> None:
        if protocol not in protocols:
            protocols.append(protocol)
        if data == b"iterate":
            for each in protocols[:3]:
                if each is not protocol:
                    each.transport.abortConnection()
            # The last one has data: the lane is called again.
            protocol.transport.reactor.doIteration(0)
        protocol.transport.write(data)

    def known(number: int) -> bool:
        return len(protocols) == number

    port, target = served(reactor, do)
    peers = [await connect(target) for _ in range(4)]
    for number, peer in enumerate(peers):
        peer.transport.write(b"x")
        await eventually(reactor, partial(known, number + 1))
    for peer in peers:
        peer.transport.getHandle().send(b"iterate" if peer is not peers[3] else b"y")
    await eventually(reactor, lambda: sum(peer.ended for peer in peers) == 2)
    await peers[3].until(reactor, lambda: peers[3].received == b"xy")
    late = await connect(target)
    late.transport.write(b"late")
    await late.until(reactor, lambda: late.received == b"late")
    await port.stopListening()


@ensureDeferred
async def test_closing_what_the_peer_has_reset(reactor: Any, connect: Connect) -> None:
    """It is lost, not done, though nothing was read of it."""
    protocols: list[Doing] = []

    def do(protocol: Doing, data: bytes) -> None:
        protocols.append(protocol)
        if data == b"pause":
            protocol.transport.pauseProducing()
        elif data == b"close":
            protocols[0].transport.loseConnection()

    Closing.lost = []
    port, target = served(reactor, do, Closing)
    resetting, other = await connect(target), await connect(target)
    resetting.transport.write(b"pause")
    await eventually(reactor, lambda: protocols)
    resetting.transport.abortConnection()
    await resetting.untilLost(reactor)
    other.transport.write(b"close")
    await eventually(reactor, lambda: Closing.lost)
    assert Closing.lost == [ConnectionLost]
    await port.stopListening()


@ensureDeferred
async def test_what_a_lost_connection_is_called(reactor: Any, connect: Connect) -> None:
    """In the log it has the same name as before."""
    names: list[str] = []

    class Named(Protocol):
        transport: Any

        def connectionMade(self) -> None:
            names.append(f"{self.transport.logPrefix()} {self.transport!r}")

        def connectionLost(self, reason: Failure = connectionDone) -> None:
            names.append(f"{self.transport.logPrefix()} {self.transport!r}")

    port = ExpressReactor(reactor).listenTCP(
        0, Factory.forProtocol(Named), interface="127.0.0.1"
    )
    number = portOf(port.getHost())
    peer = await connect(f"tcp:127.0.0.1:{number}")
    peer.transport.loseConnection()
    await eventually(reactor, lambda: len(names) == 2)
    assert names == [f"Named,0,127.0.0.1 <Named #0 on {number}>"] * 2
    await port.stopListening()
