"""
Endpoints that need a peer or a parent process of their own kind.
"""

import os
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from peers import Certificates, Connect, eventually, portOf, serving
from programs import LIMIT, TWISTD, client, multiecho, running
from pytest_twisted import ensureDeferred

from echofactory import EchoFactory, Trace, Workload, probe
from echofactory.counts import PeerCounts

V1 = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 7\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + socket.inet_aton("192.0.2.1")
    + socket.inet_aton("192.0.2.2")
    + struct.pack("!HH", 4711, 7)
)


def readAll(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := connection.recv(65536)):
        received += data
    return received


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
# Twisted closes a connection whose first segment is too short to tell v1 from v2.
@pytest.mark.parametrize("split", [16, 1000])
def test_haproxy(header: bytes, split: int) -> None:
    """The header is no part of the echo; the counted bytes all come back."""
    with multiecho("--trace", "data", "--listen", "haproxy:tcp:0:interface=127.0.0.1") as (
        program,
        port,
    ):
        body = os.urandom(1 << 20)
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = header + body[:100]
            for at in range(0, len(stream), split):
                connection.sendall(stream[at : at + split])
            assert readAll(connection, 100) == body[:100]
            connection.sendall(body[100:])
            assert readAll(connection, len(body) - 100) == body[100:]
        # The address that the proxy told, once it has told it.
        program.waitFor(r"echoing b.* to \('192\.0\.2\.1', 4711\)")
        program.waitFor(r"closing connection to \('192\.0\.2\.1', 4711\)")


@ensureDeferred
async def test_the_peers_behind_haproxy(reactor: Any, connect: Connect) -> None:
    """They are the proxy until it has told of another, whenever that is looked at."""
    async with serving(reactor, "haproxy:tcp:0:interface=127.0.0.1") as service:
        peer = await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        await eventually(reactor, lambda: service.factory.connections)
        assert service.factory.peers(10) == [PeerCounts("127.0.0.1", 1, 0)]
        peer.transport.write(V1)
        await eventually(reactor, lambda: service.factory.peers(10)[0].host == "192.0.2.1")
        peer.transport.write(b"abc")
        await peer.until(reactor, lambda: len(peer.received) == 3)
        for _ in range(2):
            assert service.factory.peers(10) == [PeerCounts("192.0.2.1", 1, 3)]


def test_haproxy_without_a_header() -> None:
    """What does not begin with a header is not served."""
    with (
        multiecho("--listen", "haproxy:tcp:0:interface=127.0.0.1") as (_, port),
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as connection,
    ):
        connection.sendall(b"no header at all")
        assert connection.recv(100) == b""


ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="echo", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


def inherit(listening: socket.socket, domain: str) -> list[str]:
    """
    Return the command of a server that is handed C{listening} as systemd does:
    as descriptor 3, with C{LISTEN_PID} its own process's.
    """
    serve = [*TWISTD, "multiecho", "--listen", f"systemd:{domain}:name=echo"]
    return [sys.executable, "-c", ACTIVATE, str(listening.fileno()), *serve]


def test_systemd_tcp() -> None:
    """A listening socket that was bound by somebody else is served."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = inherit(listening, "INET")
        with running(command, pass_fds=[listening.fileno()]) as program:
            program.waitFor(rf"listening on \('127\.0\.0\.1', {port}\)")
            done = client("127.0.0.1", str(port), "20", "--size", "10k", "--half-close")
            assert done.process.returncode == 0, done.err
            assert program.end(signal.SIGTERM) == -signal.SIGTERM


def test_systemd_unix(folder: Path) -> None:
    """The same, of a UNIX socket."""
    path = f"{folder}/echo.sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        command = inherit(listening, "UNIX")
        with running(command, pass_fds=[listening.fileno()]) as program:
            program.waitFor("listening on")
            done = client("--connect", f"unix:{path}", "-n", "20", "--half-close")
            assert done.process.returncode == 0, done.err


@ensureDeferred
async def test_tls_directory(reactor: Any, certificates: Certificates, folder: Path) -> None:
    """tls: takes its certificate from a directory, by the name that is asked for."""
    (folder / "localhost.pem").write_bytes(certificates.pem.read_bytes())
    factory = EchoFactory(trace=Trace.NONE)
    listen = f"tls:{folder}:0:interface=127.0.0.1"
    async with serving(reactor, listen, factory=factory) as service:
        port = portOf(service.addresses[0])
        target = f"tls:localhost:{port}:trustRoots={certificates.trust}"
        results = await probe(reactor, target, Workload(size=100_000, count=3), 5)
    assert results.verdict == "ok", results.examples


@ensureDeferred
async def test_ssl_client_strings(reactor: Any, certificates: Certificates) -> None:
    """ssl: is the older client endpoint; its host is looked up once as well."""
    pem = certificates.pem
    async with serving(
        reactor, f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    ) as service:
        port = portOf(service.addresses[0])
        target = f"ssl:localhost:{port}:hostname=localhost:caCertsDir={certificates.trust}"
        results = await probe(reactor, target, Workload(), 5)
    assert results.verdict == "ok", results.examples
