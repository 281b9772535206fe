"""
The server's limits: what is refused, what is cut, and what is told of it.
"""

import re
import resource
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from peers import (
    TRANSPORTS,
    Certificates,
    Connect,
    FakeTimeReactor,
    Peer,
    Transport,
    eventually,
    portOf,
    serving,
)
from programs import client, connected, echoes, multiecho, serves
from pytest_twisted import ensureDeferred
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from echofactory import Echo, EchoFactory, Faults, FaultyEchoFactory, Limits
from echofactory.cli.server import ServerOptions
from echofactory.net.addresses import limitKey
from echofactory.net.transport import lowestTransport
from echofactory.server.idle import CHECKS, unsent

DESCRIPTORS = 64


@pytest.mark.parametrize(
    ("address", "host"),
    [
        (IPv4Address("TCP", "192.0.2.7", 5), "192.0.2.7"),
        (IPv6Address("TCP", "2001:db8:1:2:3:4:5:6", 5), "2001:db8:1:2::/64"),
        (IPv6Address("TCP", "2001:db8:1:2:ffff::", 5), "2001:db8:1:2::/64"),
        (IPv6Address("TCP", "::ffff:192.0.2.7", 5), "192.0.2.7"),
        (IPv6Address("TCP", "fe80::1%eth0", 5), "fe80::/64"),
        (UNIXAddress(b"/run/echo.sock"), None),
        (None, None),
    ],
)
def test_the_host_of_an_address(address: Any, host: str | None) -> None:
    """IPv6 counts by /64, of which each address is one site's to use."""
    assert limitKey(address) == host


@pytest.mark.parametrize("limits", [{"connections": 0}, {"perHost": 0}, {"idle": 0.0}])
def test_limits_that_are_none(limits: dict[str, Any]) -> None:
    """The message names the field and the value."""
    (name,) = limits
    with pytest.raises(ValueError, match=rf"^{name}: 0"):
        Limits(**limits)


def test_a_limit_that_could_not_be_kept() -> None:
    """Idleness takes a reactor."""
    with pytest.raises(ValueError, match=r"^reactor: "):
        EchoFactory(Limits(idle=5.0))


def test_max_per_host() -> None:
    """One more of the same host is refused; another host, and a place given up, are not."""
    with multiecho("--max-per-host", "2", "127.0.0.1", "0") as (server, port):
        with connected(port) as first, connected(port) as second:
            assert echoes(first)
            assert echoes(second)
            with connected(port) as third:
                assert third.recv(1) == b""
            with connected(port, "127.0.0.2") as other:
                assert echoes(other)
            server.waitFor(
                r"refused 1 connection \(connection limit of the host reached: 1\), the first"
                r" from 127.0.0.1:"
            )
        server.waitFor(r"closing connection to 127.0.0.1:")
        for _ in range(100):
            with connected(port) as again:
                again.sendall(b"x")
                if again.recv(1) == b"x":
                    return
        pytest.fail("a place that was given up is not given again")


def test_thousands_for_a_hundred_places() -> None:
    """
    All others are refused at once and counted, the log has a line a second of it, and
    the hundred are served.
    """
    began = time.monotonic()
    with multiecho("--trace", "none", "--max-connections", "100", "127.0.0.1", "0") as (
        server,
        port,
    ):
        held = [connected(port) for _ in range(100)]
        assert all(echoes(each) for each in held)
        done = client("127.0.0.1", str(port), "3000", "--quiet", "--connect-rate", "5k")
        assert done.process.returncode == 1
        assert all(echoes(each) for each in held)
        for each in held:
            each.close()
        assert server.end() == -15
    seconds = time.monotonic() - began
    told = [line for line in server.out if "refused" in line]
    found = [re.search(r"refused ([\d,]+) connections?", line) for line in told]
    assert sum(int(each[1].replace(",", "")) for each in found if each) == 3000
    assert len(told) <= 2 + seconds
    assert len(server.out) - len(told) < 40


IDLE = 2.0
LOOK = IDLE / CHECKS


async def exchanged(
    reactor: Any, fake: FakeTimeReactor, factory: EchoFactory, peer: Peer
) -> None:
    """Have a byte come back, up to 20 ms late."""
    came, size = factory.counts().bytesIn, len(peer.received)
    peer.transport.write(b"x")
    await eventually(reactor, lambda: factory.counts().bytesIn > came)
    fake.advance(0.02)
    await peer.untilReceived(reactor, size + 1)


@pytest.mark.parametrize(
    "transport",
    [each for each in TRANSPORTS if each.name.endswith(("tcp", "unix", "ssl"))], ids=str,
)  # fmt: skip
@pytest.mark.parametrize("faults", [None, Faults(delay=0.01)], ids=["right", "faulty"])
@ensureDeferred
async def test_idle_connections(
    reactor: Any,
    connect: Connect,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
    faults: Faults | None,
) -> None:
    """One on which nothing moves is cut in time; one on which something does is not."""
    fake = FakeTimeReactor(reactor)
    limits = Limits(idle=IDLE)
    factory = (
        EchoFactory(limits, reactor=fake)
        if faults is None
        else FaultyEchoFactory(fake, faults, limits=limits)
    )
    async with serving(
        reactor, transport.listen(certificates, folder), factory=factory
    ) as service:
        target = transport.target(certificates, service.addresses[0])
        idle, busy = [await connect(target) for _ in range(2)]
        for peer in (busy, idle):
            await exchanged(reactor, fake, factory, peer)
        # An acknowledgement may be late, by the real clock.
        await eventually(
            reactor, lambda: all(unsent(echo) == (0, 0) for echo in factory.connections)
        )
        for look in range(CHECKS + 3):
            assert not (idle.ended and look < CHECKS), look
            fake.advance(LOOK - 0.02)
            await exchanged(reactor, fake, factory, busy)
        await eventually(reactor, lambda: idle.ended)
        assert factory.counts().lost == {"idle": 1}
        await exchanged(reactor, fake, factory, busy)


@ensureDeferred
async def test_a_peer_that_only_refuses_to_read(reactor: Any, connect: Connect) -> None:
    """It is idle too, though it keeps the server's queue full."""
    fake = FakeTimeReactor(reactor)
    factory = EchoFactory(Limits(idle=IDLE), reactor=fake)
    async with serving(reactor, factory=factory) as service:
        peer = await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        peer.transport.pauseProducing()
        peer.transport.write(bytes(32 << 20))
        await eventually(reactor, lambda: factory.connections)
        (echo,) = factory.connections
        lowest: Any = lowestTransport(echo.transport)
        await eventually(reactor, lambda: lowest.producerPaused)

        def isCut() -> bool:
            fake.advance(LOOK)
            return factory.counts().lost == {"idle": 1}

        await eventually(reactor, isCut)


@ensureDeferred
async def test_a_peer_that_reads_slowly(reactor: Any, connect: Connect) -> None:
    """Bytes that only leave are bytes that move: it is served to the end."""
    size = 1 << 20
    fake = FakeTimeReactor(reactor)
    factory = EchoFactory(Limits(idle=IDLE), reactor=fake)
    async with serving(reactor, factory=factory) as service:
        peer = await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        lowestTransport(peer.transport).socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 15
        )
        peer.transport.write(bytes(size))
        await eventually(reactor, lambda: factory.connections)
        (echo,) = factory.connections
        while len(peer.received) < size:
            waited = unsent(echo)

            def hasMoved(waited: tuple[int, int] = waited) -> bool:
                return unsent(echo) != waited or len(peer.received) == size

            peer.transport.resumeProducing()
            await eventually(reactor, hasMoved)
            peer.transport.pauseProducing()
            for _ in range(CHECKS - 1):
                fake.advance(LOOK)
        assert fake.seconds() > IDLE
        assert factory.counts().open == 1


def test_an_idle_connection_of_the_process() -> None:
    """The option cuts it, not before its time, with a line in the log."""
    with multiecho("--idle-timeout", "400ms", "127.0.0.1", "0") as (server, port):
        began = time.monotonic()
        with connected(port) as idle:
            with pytest.raises(ConnectionResetError):
                idle.recv(1)
            assert time.monotonic() - began > 0.3
            name = re.escape("{}:{}".format(*idle.getsockname()))
        server.waitFor(rf"aborted connection to {name}: idle")


def test_unix_sockets_have_no_host() -> None:
    """Their peers are not limited by it."""
    factory = EchoFactory(Limits(perHost=1))
    for _ in range(3):
        assert isinstance(factory.buildProtocol(UNIXAddress(b"")), Echo)
    assert factory.counts().refused == {}


def test_refusals_are_told_at_the_end() -> None:
    """What was not told yet when the last port closes is told then, and no timer is left."""
    clock = Clock()
    factory = EchoFactory(Limits(connections=1), reactor=clock)
    cast(Any, factory).doStart()
    factory.refuse("connections", None)
    assert len(clock.getDelayedCalls()) == 1
    with capturedLogs() as events:
        cast(Any, factory).doStop()
    assert clock.getDelayedCalls() == []
    assert [event["what"] for event in events] == ["1 connection"]
    assert factory.counts().refused == {"connections": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-per-host", "0"], "--max-per-host: '0' is not 1 or more"),
        (["--idle-timeout", "0"], "--idle-timeout: '0' is not more than 0 s"),
    ],
)
def test_what_makes_no_sense(
    refusal: Callable[..., str], arguments: list[str], said: str
) -> None:
    """One line, exit 2."""
    line = refusal(ServerOptions().parseOptions, *arguments)
    assert line.startswith(f"multiecho: {said}")


def fewDescriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def test_out_of_descriptors(tmp_path: Path) -> None:
    """
    The server keeps serving those that it has, says once a second at most what it
    cannot serve, and serves again when there is room.
    """
    began = time.monotonic()
    with multiecho("--trace", "none", "127.0.0.1", "0", preexec_fn=fewDescriptors) as (
        server,
        port,
    ):
        first = connected(port)
        assert echoes(first)
        done = client("127.0.0.1", str(port), "500", "--message", "x", "--count", "100",
                      "--window", "1", "--quiet", "--hold", "500ms")  # fmt: skip
        assert done.process.returncode == 1
        assert echoes(first)
        assert serves(port, 5)
        first.close()
        assert server.end() == -15
    seconds = time.monotonic() - began
    lines = [line for line in server.out if "descriptor" in line or "EMFILE" in line]
    assert 1 <= len(lines) <= 2 + seconds, server.out
    assert len(server.out) - len(lines) < 25, server.out
    assert not any("Traceback" in line for line in server.out)
