"""
The client over UDP: what ICMP and the kernel report.
"""

import errno
import os
import socket
import struct
from typing import Any

import pytest
from datagrams import begun, datagramSocket, forRoot, measured
from peers import FakeTimeReactor, eventually, noDescriptorLeft, portOf
from pytest_twisted import ensureDeferred
from runs import balanced
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.error import ConnectionDone, MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from echofactory import (
    EchoClientFactory,
    EchoFactory,
    EchoService,
    FailureKind,
    Workload,
    probe,
)
from echofactory.client.datagram import DatagramClient
from echofactory.net.udp import (
    ConnectedPort,
)
from echofactory.results.path import Datagrams

pytestmark = pytest.mark.reactors


@ensureDeferred
async def test_nobody_listens(reactor: Any) -> None:
    """
    ICMP says so, to a socket that waits for a reply as to one that sends more; what
    was out is unanswered, not lost.
    """
    with datagramSocket() as once:
        port = once.getsockname()[1]
    for workload in (Workload(), Workload(size=64)):
        results = await probe(reactor, f"udp:127.0.0.1:{port}", workload, 3)
        assert results.failures == {"refused": 3}, results.examples
        example = results.examples[FailureKind.REFUSED]
        assert example.detail == "nobody listens there (ICMP port unreachable)"
        assert example.peer == f"127.0.0.1:{port}"
        assert results.datagrams == Datagrams()
        assert results.unanswered == results.sent > 0
        assert balanced(results)


@ensureDeferred
async def test_the_server_goes_away(reactor: Any) -> None:
    """
    Its port closes while messages come and go: that is refused as well, if not for what it
    had not read yet, which is lost, then for what is sent next.
    """
    service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", 0)])
    service.startService()
    target = f"udp:127.0.0.1:{portOf(service.addresses[0])}"
    fake: Any = FakeTimeReactor(reactor)
    factory, running = begun(fake, target, Workload(size=64, count=10**9), 3)
    results = factory.results
    await eventually(reactor, lambda: results.verified >= 3)
    await service.stopService()
    while not running.called:
        fake.advance(0.4)
        await deferLater(reactor, 0.001)
    await running
    assert results.failures == {"refused": 3}, results.examples
    assert balanced(results)


def tooLong(sender: tuple[str, int], receiver: tuple[str, int]) -> None:
    """
    Tell a sender, as a router does, that its datagrams do not fit; only root can.
    The size that would is one that fits all, so that nothing is kept of it.
    """
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 28, 0, 0, 64, socket.IPPROTO_UDP, 0,
        socket.inet_aton(sender[0]), socket.inet_aton(receiver[0]),
    )  # fmt: skip
    said = ip + struct.pack(">HHHH", sender[1], receiver[1], 8, 0)
    kind, code, mtu = 3, 4, 65_535
    words = struct.unpack(">14H", said)
    total = sum(words) + (kind << 8 | code) + mtu
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(
            struct.pack(">BBHHH", kind, code, total ^ 0xFFFF, 0, mtu) + said, (sender[0], 0)
        )


@pytest.mark.parametrize("together", [False, True])
@ensureDeferred
async def test_a_router_with_a_smaller_mtu(reactor: Any, together: bool) -> None:
    """
    That it says so costs a datagram, not the connection; whether it is heard before the
    next reply or with it.
    """
    forRoot()
    # Of its own address: what the kernel learns of a way is kept by that.
    with datagramSocket(("127.0.5.8", 0)) as peer:
        left = 20

        class Reader(FileDescriptor):
            def fileno(self) -> int:
                return peer.fileno()

            def doRead(self) -> None:
                nonlocal left
                data, address = peer.recvfrom(1 << 16)
                left -= 1
                tooLong(address, peer.getsockname())
                if together:
                    peer.sendto(data, address)
                else:
                    reactor.callLater(0.01, peer.sendto, data, address)

        reader: Any = Reader(reactor)
        reader.startReading()
        target = f"udp:127.0.5.8:{peer.getsockname()[1]}"
        results = await probe(reactor, target, Workload(size=64, count=20), 1)
        reader.stopReading()
    assert results.verdict == "ok", results.examples
    assert left == 0


class Failing:
    """A connected socket on which an error waits."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.fileno = self._ends[0].fileno

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 2000

    def getsockopt(self, level: int, option: int) -> int:
        assert (level, option) == (socket.SOL_SOCKET, socket.SO_ERROR)
        number, self.number = self.number, 0
        return number

    def recv(self, size: int) -> bytes:
        number = self.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or errno.EAGAIN
        raise OSError(number, os.strerror(number))

    def close(self) -> None:
        for end in self._ends:
            end.close()


class Hearing(DatagramProtocol):
    """Keeps what it is told of errors."""

    noisy = False

    def __init__(self) -> None:
        self.heard: list[int] = []

    def connectionRefused(self) -> None:
        self.heard.append(errno.ECONNREFUSED)

    def unreachable(self, error: OSError) -> None:
        assert error.errno is not None
        self.heard.append(error.errno)


@pytest.mark.parametrize(
    ("number", "heard"),
    [
        (errno.EMSGSIZE, []),
        (0, []),
        (errno.ECONNREFUSED, [errno.ECONNREFUSED]),
        (errno.EHOSTUNREACH, [errno.EHOSTUNREACH]),
    ],
)
@pytest.mark.parametrize("how", ["reading", "lost"])
@ensureDeferred
async def test_the_errors_of_icmp(
    reactor: Any, number: int, heard: list[int], how: str
) -> None:
    """
    The same comes of them whether a reactor has them read, or takes them for the end:
    the port goes on, and its protocol decides. One that is too long for the way is but
    a datagram lost.
    """
    hearing: Any = Hearing()
    handle: Any = Failing(number)
    port: Any = ConnectedPort(reactor, handle, ("127.0.0.1", 7), hearing)
    port.startListening()
    if how == "reading":
        port.doRead()
    else:
        port.stopReading()
        port.connectionLost(Failure(ConnectionDone()))
    assert hearing.heard == heard
    assert port in reactor.getReaders()
    await port.stopListening()
    assert port not in reactor.getReaders()


class Told(Hearing):
    """Keeps the datagrams, too."""

    def __init__(self) -> None:
        super().__init__()
        self.received: list[bytes] = []

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        self.received.append(datagram)


@pytest.mark.parametrize("first", ["read", "write"])
@ensureDeferred
async def test_a_port_goes_on_after_an_error(reactor: Any, first: str) -> None:
    """
    An error is reported once: by a read, or by a write that another descriptor causes in the
    same pass of the reactor. The port still reads what arrives later.
    """
    with datagramSocket() as handle, datagramSocket() as closed:
        handle.setblocking(False)
        address = closed.getsockname()
        handle.connect(address)
        told: Any = Told()
        port: Any = ConnectedPort(reactor, handle, address, told)
        port.startListening()
        before, other = socket.socketpair()

        class Writer(FileDescriptor):
            fileno = before.fileno

            def doRead(self) -> None:
                before.recv(1)
                port.write(b"second")

        writer: Any = Writer(reactor)
        writer.startReading()
        # The reactor waits for both descriptors when the error arrives.
        await deferLater(reactor, 0.001)
        closed.close()
        if first == "write":
            other.send(b"x")
        handle.send(b"first")
        await eventually(reactor, lambda: told.heard)
        writer.stopReading()
        with datagramSocket(address) as opened:
            opened.sendto(b"later", handle.getsockname())
            await eventually(reactor, lambda: told.received)
        await port.stopListening()
        before.close()
        other.close()
    assert told.received == [b"later"]
    assert set(told.heard) == {errno.ECONNREFUSED}


class Narrow:
    """A transport that so many writes are too long for."""

    def __init__(self, times: int) -> None:
        self.written: list[bytes] = []
        self._times = times

    def write(self, data: bytes) -> None:
        self._times -= 1
        if self._times >= 0:
            raise MessageLengthError("message too long")
        self.written.append(data)

    def stopListening(self) -> None:
        """It is no socket."""


@pytest.mark.parametrize(("times", "failures"), [(1, {}), (2, {"unreachable": 1})])
def test_a_write_that_is_too_long(reactor: Any, times: int, failures: dict[str, int]) -> None:
    """It may have been the datagram before that was; the second time, it is this one."""
    factory = EchoClientFactory(reactor, Workload(size=64, count=1), 1)
    factory.results.datagrams = Datagrams()
    client = DatagramClient(factory, 1)
    client.transport = transport = Narrow(times)
    client.opened(IPv4Address("UDP", "127.0.0.1", 7))
    assert factory.results.failures == failures
    assert len(transport.written) == factory.results.sent == 1 - len(failures)


@ensureDeferred
async def test_nothing_is_logged_of_a_socket(reactor: Any) -> None:
    """There may be one for each message."""
    service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", 0)])
    service.startService()
    target = f"udp:127.0.0.1:{portOf(service.addresses[0])}"
    with capturedLogs() as events:
        results = await probe(reactor, target, Workload(size=64, count=20, churn=True), 2)
    assert results.verdict == "ok", results.examples
    assert [formatEvent(event) for event in events] == []
    await service.stopService()


@ensureDeferred
async def test_out_of_descriptors(reactor: Any) -> None:
    """With one left, one connection has it, and the other tells why it has none."""
    service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", 0)])
    service.startService()
    target = f"udp:127.0.0.1:{portOf(service.addresses[0])}"
    factory = EchoClientFactory(reactor, Workload(size=64), 2)
    with noDescriptorLeft() as taken:
        os.close(taken.pop())
        results = await factory.run(target)
    assert results.failures == {"too-many-files": 1}, results.examples
    assert results.completed == 1
    await service.stopService()


def test_nobody_listens_on_the_command_line() -> None:
    """One line, exit 1."""
    with datagramSocket() as once:
        port = once.getsockname()[1]
    done, results = measured("--connect", f"udp:127.0.0.1:{port}", "--quiet")
    assert done.process.returncode == 1
    assert results["failures"] == {"refused": 2}
    (line,) = done.err
    assert line.startswith("echofactory.client: refused: 2 of 2 connections; first connection ")


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        # A reserved network, to which there is no way from the loopback address.
        ("udp:192.0.2.1:7:bindAddress=127.0.0.1", "unreachable"),
        ("udp:127.0.0.1:7:bindAddress=192.0.2.1", "no-local-port"),
        ("udp:nowhere.invalid:7", "dns"),
    ],
)
@ensureDeferred
async def test_no_way_there(reactor: Any, target: str, kind: str) -> None:
    """A kind of failure as over TCP, and no message sent."""
    results = await probe(reactor, target, Workload(), 2)
    assert results.failures == {kind: 2}, results.examples
    assert results.sent == 0
    assert balanced(results)


@ensureDeferred
async def test_only_the_peer_is_heard(reactor: Any) -> None:
    """The sockets are connected: what others send to them does not reach the client."""
    told: list[bytes] = []
    with datagramSocket() as peer, datagramSocket() as other:

        def serve() -> None:
            data, address = peer.recvfrom(1 << 16)
            other.sendto(data, address)
            told.append(data)
            peer.sendto(data, address)

        serving = deferToThread(serve)
        target = f"udp:127.0.0.1:{peer.getsockname()[1]}"
        results = await probe(reactor, target, Workload(size=64), 1)
        await serving
    assert results.verdict == "ok", results.examples
    assert results.bytesReceived == 64 == len(told[0])
