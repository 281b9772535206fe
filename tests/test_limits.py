"""
The server's limits: what is refused, what is cut, and what is told of it.
"""

import re
import resource
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from peers import Certificates
from programs import LIMIT, TWISTD, Program, client, multiecho, running
from test_server_program import deafConnection
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.task import Clock
from twisted.logger import capturedLogs

from echofactory import Echo, EchoFactory, Limits
from echofactory.hosts import hostOf

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
    assert hostOf(address) == host


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


def echoes(connection: socket.socket) -> bool:
    """Tell whether what is sent comes back."""
    connection.sendall(b"x")
    return connection.recv(1) == b"x"


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(source, 0))


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
                r"refused 1 connection \(too many of its host are open: 1\), the first"
                r" from \('127.0.0.1'"
            )
        server.waitFor(r"closing connection to \('127.0.0.1'")
        for _ in range(100):
            with connected(port) as again:
                again.sendall(b"x")
                if again.recv(1) == b"x":
                    return
        pytest.fail("a place that was given up is not given again")


def test_ten_thousand_for_a_hundred_places() -> None:
    """
    All others are refused at once and counted, the log has a few lines of it, and
    the hundred are served.
    """
    with multiecho("--trace", "none", "--max-connections", "100", "127.0.0.1", "0") as (
        server,
        port,
    ):
        held = [connected(port) for _ in range(100)]
        assert all(echoes(each) for each in held)
        done = client("127.0.0.1", str(port), "10000", "--quiet", "--connect-rate", "5k")
        assert done.process.returncode == 1
        assert all(echoes(each) for each in held)
        for each in held:
            each.close()
        assert server.end() == -15
    told = [line for line in server.out if "refused" in line]
    found = [re.search(r"refused ([\d,]+) connections?", line) for line in told]
    assert sum(int(each[1].replace(",", "")) for each in found if each) == 10_000
    assert len(told) < 20
    assert len(server.out) < 60


def cutAsIdle(server: Program, idle: socket.socket, busy: socket.socket, name: str) -> None:
    """
    See that C{idle} is cut, while something moves on C{busy}, which is not.

    @param name: the idle one's, as the log has it: a regular expression.
    """
    busy.settimeout(LIMIT)
    deadline = time.monotonic() + LIMIT
    while not any(
        re.search(rf"cut connection to {name}: idle", line) for line in list(server.out)
    ):
        assert time.monotonic() < deadline, server.out
        assert echoes(busy)
        time.sleep(0.02)
    idle.settimeout(LIMIT)
    try:
        assert idle.recv(1) == b""
    except ConnectionResetError:
        pass
    else:
        # TLS gets an alert out before it; a UNIX socket knows no reset.
        assert isinstance(idle, ssl.SSLSocket) or idle.family == socket.AF_UNIX
    assert echoes(busy)


@pytest.mark.parametrize("fault", [[], ["--fault", "delay=10ms"]], ids=["right", "faulty"])
def test_idle_connections(fault: list[str]) -> None:
    """One on which nothing moves is cut in time; one on which something does is not."""
    with (
        multiecho("--idle-timeout", "2s", *fault, "127.0.0.1", "0") as (server, port),
        connected(port) as idle,
        connected(port) as busy,
    ):
        assert echoes(idle)
        cutAsIdle(server, idle, busy, re.escape(repr(idle.getsockname())))


def test_idle_over_tls(certificates: Certificates) -> None:
    """The same, though what moves is below TLS."""
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    authority = certificates.trust / "authority.pem"
    context = ssl.create_default_context(cafile=str(authority))
    with (
        multiecho("--idle-timeout", "2s", "--listen", listen) as (server, port),
        context.wrap_socket(connected(port), server_hostname="localhost") as idle,
        context.wrap_socket(connected(port), server_hostname="localhost") as busy,
    ):
        assert echoes(idle)
        cutAsIdle(server, idle, busy, re.escape(repr(idle.getsockname())))


def test_idle_over_a_unix_socket(folder: Path) -> None:
    """The same, of a peer that has no address."""
    path = folder / "echo.sock"
    with (
        multiecho("--idle-timeout", "2s", "--listen", f"unix:{path}") as (server, _),
        socket.socket(socket.AF_UNIX) as idle,
        socket.socket(socket.AF_UNIX) as busy,
    ):
        for each in (idle, busy):
            each.settimeout(LIMIT)
            each.connect(str(path))
        assert echoes(idle)
        cutAsIdle(server, idle, busy, ".*")


def test_a_peer_that_only_refuses_to_read() -> None:
    """It is idle too, though it keeps the server's queue full."""
    with multiecho("--idle-timeout", "2s", "127.0.0.1", "0") as (server, port):
        deaf = deafConnection(port)
        try:
            with suppress(BlockingIOError):
                for _ in range(1024):
                    deaf.send(bytes(65536))
                pytest.fail("it is read from without end")
            server.waitFor(r"cut connection to .*: idle")
        finally:
            deaf.close()


def test_a_peer_that_reads_slowly() -> None:
    """Bytes that only leave are bytes that move: it is served to the end."""
    size = 1 << 20
    with multiecho("--idle-timeout", "600ms", "127.0.0.1", "0") as (server, port):
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        peer.settimeout(20)
        peer.connect(("127.0.0.1", port))
        with peer:
            peer.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while sent < size:
                    sent += peer.send(bytes(min(65536, size - sent)))
            peer.settimeout(20)
            received = 0
            for step in range(1, 21):
                while received < sent * step // 20:
                    data = peer.recv(sent * step // 20 - received)
                    assert data
                    received += len(data)
                # Its slowness is what is tested: 2 s for all of it.
                time.sleep(0.1)
    assert received == sent > 0
    assert not any("idle" in line for line in server.out)


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
        (["--max-per-host", "0"], "--max-per-host: '0' is not a whole number of 1 or more"),
        (["--idle-timeout", "0"], "--idle-timeout: '0' is not a duration of more than 0"),
    ],
)
def test_what_makes_no_sense(arguments: list[str], said: str) -> None:
    """One line, exit 2."""
    with running([*TWISTD, "multiecho", *arguments]) as server:
        assert server.finish() == 2
    (line,) = server.err
    assert line.startswith(f"multiecho: {said}")


def fewDescriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))


def test_out_of_descriptors(tmp_path: Path) -> None:
    """
    The server keeps serving those that it has, says once a second at most what it
    cannot serve, and serves again when there is room.
    """
    with multiecho("--trace", "none", "127.0.0.1", "0", preexec_fn=fewDescriptors) as (
        server,
        port,
    ):
        first = connected(port)
        assert echoes(first)
        done = client("127.0.0.1", str(port), "500", "--message", "x", "--count", "100",
                      "--window", "1", "--quiet", "--hold", "1s")  # fmt: skip
        assert done.process.returncode == 1
        assert echoes(first)
        again = client("127.0.0.1", str(port), "5", "--quiet")
        assert again.process.returncode == 0, again.err
        first.close()
        assert server.end() == -15
    lines = [line for line in server.out if "descriptor" in line or "EMFILE" in line]
    assert 1 <= len(lines) <= 6, server.out
    assert len(server.out) < 30, server.out
    assert not any("Traceback" in line for line in server.out)
