"""
The echo over UDP: what it answers, and what the client finds out about the path.
"""

import errno
import json
import os
import re
import shutil
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from faulty_datagrams import ALTER, FLIPPED, HOLD, LOSE, REPEAT, fate
from hypothesis import given
from hypothesis import strategies as st
from peers import FakeTimeReactor, eventually, noDescriptorLeft, portOf, readFakeClock
from programs import CLIENT, LIMIT, SUPPORT, TWISTD, Program, client, multiecho, running, until
from pytest_twisted import ensureDeferred
from schema import FACTS, validate
from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as ensure
from twisted.internet.error import ConnectionDone, MessageLengthError
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from echofactory import (
    EchoClientFactory,
    EchoFactory,
    EchoService,
    FailureKind,
    Patience,
    Results,
    Trace,
    Workload,
    probe,
)
from echofactory.cli.client import main
from echofactory.cli.server import ServerOptions
from echofactory.client.datagram import DatagramClient
from echofactory.client.target import Target
from echofactory.express.addresstext import hostPortText
from echofactory.net.endpoints import EndpointError, ListenError
from echofactory.net.udp import (
    DATAGRAMS_PER_PASS,
    FAR_HOP_LIMIT,
    NEAR_HOP_LIMIT,
    NO_PACKET_INFO,
    PacketInfo,
    _ConnectedPort,
    packetInfo,
)
from echofactory.results.merge import merged
from echofactory.results.path import Datagrams
from echofactory.server.datagrams import DatagramCounts, EchoDatagrams
from echofactory.server.guard import (
    ANSWERS,
    DEFAULT_RATE_PER_SOURCE,
    UNANSWERED,
    DatagramGuard,
    DatagramRefusal,
)
from echofactory.workload.datagrams import (
    KEPT,
    MAX_DATAGRAM_SIZE,
    DatagramVerifier,
    Sent,
    Verdict,
)
from echofactory.workload.schedule import Rate

pytestmark = pytest.mark.reactors

# Which datagrams are answered


class TestGuard:
    def test_well_known_ports(self) -> None:
        """No port below 1024 is answered, 0 included; from there on all are."""
        guard = DatagramGuard()
        refused = [port for port in range(2000) if guard.refusal("192.0.2.1", port, 0.0)]
        assert refused == list(range(1024))
        assert guard.refusal("2001:db8::1", 19, 0.0) is DatagramRefusal.LOW_PORT

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "192.0.2.1", "::1", "fe80::1"])
    def test_ports_that_are_echoed_here(self, host: str) -> None:
        """They are not answered, at any address: it may be another of this machine's."""
        guard = DatagramGuard(ports=Counter([7007]))
        assert guard.refusal(host, 7007, 0.0) is DatagramRefusal.OWN_PORT
        assert guard.refusal(host, 7008, 0.0) is None

    @pytest.mark.parametrize("rate", [1, 7, 1000])
    def test_the_rate_of_a_source(self, rate: int) -> None:
        """
        A second's worth at once, whatever the port, wherever a second begins; and again
        after a second, and half of that after half of one.
        """
        for began in (0.999, 1.7e9):
            guard = DatagramGuard(rate)
            for after, most in ((0.0, rate), (1.0, rate), (1.5, rate // 2), (9.0, rate)):
                answers = [
                    guard.refusal("192.0.2.1", 2000 + number, began + after)
                    for number in range(rate + 5)
                ]
                assert answers == [None] * most + [DatagramRefusal.RATE] * (rate + 5 - most)
            assert guard.refusal("192.0.2.2", 2000, began) is None

    def test_a_steady_source(self) -> None:
        """Exactly the rate is answered, for as long as it lasts; twice that, by half."""
        guard = DatagramGuard(100)
        for asked, answered in ((100, 1000), (200, 1100)):
            host = f"192.0.2.{asked}"
            times = [1.7e9 + number / asked for number in range(10 * asked)]
            answers = Counter(guard.refusal(host, 2000, each) for each in times)
            assert abs(answers[None] - answered) <= 2

    def test_a_clock_that_is_set_back(self) -> None:
        """A source is not shut out until the clock is where it was."""
        guard = DatagramGuard(2, sources=1)
        assert [guard.refusal("192.0.2.1", 2000, 9000.0) for _ in range(2)] == [None, None]
        assert guard.refusal("192.0.2.1", 2000, 10.0) is DatagramRefusal.RATE
        assert guard.refusal("192.0.2.1", 2000, 11.0) is None
        assert guard.refusal("192.0.2.2", 2000, 1.0) is None

    @pytest.mark.parametrize(
        ("one", "other", "together"),
        [
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("fe80::1%lo", "fe80::2", True),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ],
    )
    def test_who_is_one_source(self, one: str, other: str, together: bool) -> None:
        """A /64 of IPv6, and an IPv4 address however it is written."""
        guard = DatagramGuard(rate=1)
        assert guard.refusal(one, 2000, 0.0) is None
        assert guard.refusal(other, 2000, 0.0) is (DatagramRefusal.RATE if together else None)

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"])
    def test_the_loopback_has_no_limit(self, host: str) -> None:
        """No network can send from there."""
        guard = DatagramGuard(rate=1)
        assert [guard.refusal(host, 2000, 0.0) for _ in range(3)] == [None] * 3

    def test_the_table_is_bounded(self) -> None:
        """What does not fit is not answered; who is in it is, and the next second all are."""
        guard = DatagramGuard(sources=2)
        answers = [guard.refusal(f"192.0.2.{n}", 2000, 5.0) for n in (1, 2, 3, 1, 2, 4)]
        assert answers == [
            None,
            None,
            DatagramRefusal.SOURCES,
            None,
            None,
            DatagramRefusal.SOURCES,
        ]
        assert guard.refusal("192.0.2.3", 2000, 6.0) is None

    def test_nonsense(self) -> None:
        """A rate or a table of nothing is refused."""
        with pytest.raises(ValueError, match="rate: 0 is not 1 or more"):
            DatagramGuard(rate=0)
        with pytest.raises(ValueError, match="sources: -1 is not 1 or more"):
            DatagramGuard(sources=-1)


class Kept:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written: list[tuple[bytes, tuple[str, int]]] = []

    def write(self, datagram: bytes, addr: tuple[str, int], control: object) -> None:
        self.written.append((datagram, addr))


def echoing(clock: Clock, guard: DatagramGuard) -> tuple[EchoDatagrams, DatagramCounts, Any]:
    """Return an echo over a transport that keeps what is written."""
    counts = DatagramCounts(clock)
    echo = EchoDatagrams(guard, counts, clock)
    transport = Kept()
    echo.transport = transport
    return echo, counts, transport


def test_what_is_not_answered_is_counted_and_logged() -> None:
    """By reason, in at most one line per second, with the counts of that second."""
    clock = Clock()
    echo, counts, transport = echoing(clock, DatagramGuard(rate=2))
    with capturedLogs() as events:
        for _ in range(5):
            echo.datagramReceived(b"x", ("192.0.2.1", 2000))
        echo.datagramReceived(b"x", ("192.0.2.1", 19))
        assert events == []
        clock.advance(1.0)
        assert len(events) == 1
        clock.advance(1.0)
        assert len(events) == 1
        # The rate limit admits two more answers.
        for _ in range(3):
            echo.datagramReceived(b"y", ("192.0.2.1", 2000))
        assert len(events) == 1
        counts.close()
    assert transport.written == [
        (each, ("192.0.2.1", 2000)) for each in (b"x", b"x", b"y", b"y")
    ]
    assert counts.answered == 4
    assert counts.refused == {DatagramRefusal.RATE: 4, DatagramRefusal.LOW_PORT: 1}
    assert [formatEvent(event) for event in events] == [
        "did not answer 4 datagrams: 1 from a port below 1024,"
        " 3 over the rate limit of the source; the first from 192.0.2.1:2000",
        "did not answer 1 datagram: 1 over the rate limit of the source;"
        " the first from 192.0.2.1:2000",
    ]
    assert clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENETUNREACH, ""), BlockingIOError(errno.EAGAIN, "")],
)
def test_what_the_system_will_not_send(error: Exception) -> None:
    """It is lost, as any datagram may be, and counted."""
    clock = Clock()
    echo, counts, transport = echoing(clock, DatagramGuard())

    def write(*_: object) -> None:
        raise error

    transport.write = write
    echo.datagramReceived(b"x", ("192.0.2.1", 2000))
    assert counts.refused == {DatagramRefusal.UNSENT: 1}
    counts.close()


# The server


def datagramSocket(address: tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(LIMIT)
    made.bind(address)
    return made


def ask(peer: socket.socket, data: bytes, to: tuple[str, int]) -> bytes:
    """Send a datagram, and return the one that comes back."""
    peer.sendto(data, to)
    return peer.recv(1 << 16)


@contextmanager
def echoingOverUDP(*arguments: str) -> Iterator[tuple[Program, int]]:
    """Run C{twistd multiecho --udp 127.0.0.1:0}; return it and the port."""
    listen = ["127.0.0.1", "0", "--udp", "127.0.0.1:0"]
    with multiecho(*listen, "--trace", "none", *arguments) as (server, _):
        match = server.waitFor(r"listening on udp 127\.0\.0\.1:(\d+)$")
        yield server, int(match[1])


def test_the_server_answers() -> None:
    """Datagrams of every size, an empty one too, whole and to whom they came from."""
    with echoingOverUDP("--udp", "[::1]:0") as (server, port):
        other = int(server.waitFor(r"listening on udp \[::1\]:(\d+)$")[1])
        with (
            datagramSocket() as one,
            datagramSocket() as two,
            datagramSocket(("::1", 0)) as six,
        ):
            for size in (0, 1, 512, 1473, MAX_DATAGRAM_SIZE):
                data = os.urandom(size)
                assert ask(one, data, ("127.0.0.1", port)) == data
                assert ask(six, data, ("::1", other)) == data
            one.sendto(b"one", ("127.0.0.1", port))
            assert ask(two, b"two", ("127.0.0.1", port)) == b"two"
            assert one.recv(9) == b"one"
        assert server.end() == -signal.SIGTERM
    # The ports are free again.
    datagramSocket(("127.0.0.1", port)).close()


def test_low_ports_and_its_own_are_not_answered() -> None:
    """
    Neither a port below 1024, nor the server's own port at another address of the
    machine; the log says how many and why, and others are served after it.
    """
    forRoot()
    with echoingOverUDP() as (server, port):
        to = ("127.0.0.1", port)
        with lowPort() as low, datagramSocket(("127.0.0.2", port)) as own:
            low.sendto(b"x", to)
            own.sendto(b"x", to)
            with datagramSocket() as high:
                # Answered after those, had they been answered.
                assert ask(high, b"z", to) == b"z"
            for refused in (low, own):
                refused.setblocking(False)
                with pytest.raises(BlockingIOError):
                    refused.recv(9)
        server.waitFor("did not answer .*1 from a port below 1024[,;]")
        server.waitFor("did not answer .*1 from a port that this server echoes on; the first")


def forRoot() -> None:
    """Skip what only root may do, except where that would hide that it is not done."""
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("only root binds a port below 1024, or forges a datagram")


def lowPort() -> socket.socket:
    """Return a socket on a port below 1024 that happens to be free."""
    for port in range(1023, 600, -1):
        try:
            return datagramSocket(("127.0.0.1", port))
        except OSError as error:
            if isinstance(error, PermissionError):
                raise
    raise AssertionError("no port below 1024 is free")


def forge(source: tuple[str, int], to: tuple[str, int], data: bytes) -> None:
    """Send a datagram that says that it is from somewhere else; only root can."""
    size = 8 + len(data)
    ip = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + size, 0, 0, 64, socket.IPPROTO_UDP, 0,
        socket.inet_aton(source[0]), socket.inet_aton(to[0]),
    )  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(ip + struct.pack(">HHHH", source[1], to[1], size, 0) + data, to)


def test_forged_sources() -> None:
    """
    Bound to 0.0.0.0, the server answers neither its own port at any address, which
    would go on without end, nor the well-known services of others.
    """
    forRoot()
    with echoingOverUDP("--udp", "0.0.0.0:0") as (server, other):
        one = int(server.waitFor(r"listening on udp 0\.0\.0\.0:(\d+)$")[1])
        with datagramSocket() as peer:
            for source in (
                ("127.0.0.1", one), ("127.0.0.1", other), ("127.0.0.2", one),
                ("127.0.0.1", 7), ("127.0.0.1", 19),
            ):  # fmt: skip
                forge(source, ("127.0.0.1", one), b"loop")
            forge(peer.getsockname(), ("127.0.0.1", one), b"forged as well")
            assert peer.recv(99) == b"forged as well"
        assert server.end() == -signal.SIGTERM
    told = "\n".join(line for line in server.out if "did not answer" in line)
    counts = Counter[str]()
    for count, reason in re.findall(r"(\d+) (from a port [a-z0-9 ]+)", told):
        counts[reason] += int(count)
    assert counts == {
        UNANSWERED[DatagramRefusal.OWN_PORT]: 3,
        UNANSWERED[DatagramRefusal.LOW_PORT]: 2,
    }


@pytest.mark.parametrize("local", ["127.0.0.1", "::1"])
@ensureDeferred
async def test_the_hop_limit_of_answers(reactor: Any, local: str) -> None:
    """It is one of two, whatever a datagram arrived with."""
    async with serving(reactor, local) as (_, port):
        with datagramSocket((local, 0)) as peer:
            level, option, received = (
                (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_RECVHOPLIMIT)
                if ":" in local
                else (socket.IPPROTO_IP, socket.IP_TTL, 12)
            )
            peer.setsockopt(level, received, 1)
            found = set()
            # Chance does not choose the same one 64 times.
            for hops in range(1, 65):
                peer.setsockopt(level, option, hops)
                peer.sendto(b"x", (local, port))
                _, ((_, _, value),), _, _ = await deferToThread(peer.recvmsg, 9, 99)
                found.add(int.from_bytes(value, sys.byteorder))
            assert found == {NEAR_HOP_LIMIT, FAR_HOP_LIMIT}


@pytest.mark.parametrize("local", ["127.0.0.1", "::1"])
@ensureDeferred
async def test_an_answer_of_such_a_server(reactor: Any, local: str) -> None:
    """It is known by the hops that are left, and not answered."""
    async with serving(reactor, local) as (service, port):
        with datagramSocket((local, 0)) as peer:
            level, option = (
                (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
                if ":" in local
                else (socket.IPPROTO_IP, socket.IP_TTL)
            )
            for hops in ANSWERS:
                peer.setsockopt(level, option, hops)
                peer.sendto(b"loop", (local, port))
            peer.setsockopt(level, option, 64)
            peer.sendto(b"next", (local, port))
            assert await deferToThread(peer.recv, 9) == b"next"
        assert service.datagramCounts.refused == {DatagramRefusal.CIRCLES: len(ANSWERS)}


def test_a_loop_may_end_at_each_turn() -> None:
    """Of the two kinds of answers, one does not arrive, or is not answered, on any path."""
    for path in range(256):
        assert any(
            hops <= 0 or hops in ANSWERS
            for hops in (NEAR_HOP_LIMIT - path, FAR_HOP_LIMIT - path)
        ), path


@pytest.mark.parametrize("begins", [64, 128, 255])
def test_a_client_that_is_far_away(begins: int) -> None:
    """Up to 60 hops away, it is answered, and both kinds of answers reach it."""
    guard = DatagramGuard()
    for path in range(61):
        assert guard.refusal("192.0.2.1", 5000, 0.0, PacketInfo(hopLimit=begins - path)) is None
        assert min(NEAR_HOP_LIMIT, FAR_HOP_LIMIT) - path > 0


@ensureDeferred
async def test_two_services_of_a_process(reactor: Any) -> None:
    """Neither answers the other, and a port is known until the last that had it stops."""
    forRoot()
    async with serving(reactor) as (one, port), serving(reactor) as (two, other):
        async with serving(reactor, "127.0.0.2", number=port):
            pass
        forge(("127.0.0.1", other), ("127.0.0.1", port), b"loop")
        forge(("127.0.0.1", port), ("127.0.0.1", other), b"loop")
        with datagramSocket() as peer:
            for number in (port, other):
                peer.sendto(b"x", ("127.0.0.1", number))
                assert await deferToThread(peer.recv, 9) == b"x"
        for service in (one, two):
            assert service.datagramCounts.answered == 1
            assert service.datagramCounts.refused == {DatagramRefusal.OWN_PORT: 1}


def test_two_servers_of_a_machine() -> None:
    """What one is made to send to the other comes to its end, and that is told."""
    forRoot()
    with echoingOverUDP() as (one, port), echoingOverUDP() as (server, other):
        forge(("127.0.0.1", other), ("127.0.0.1", port), b"round")
        # Either may be the one that does not answer.
        ends = "did not answer 1 datagram: 1 in a loop between two echo servers; the first"
        deadline = time.monotonic() + LIMIT
        while not any(ends in line for each in (one, server) for line in list(each.out)):
            assert time.monotonic() < deadline, (one.out, server.out)
            time.sleep(0.02)


def test_peers_that_are_gone() -> None:
    """The ICMP errors that their closed ports cause do not hurt the server."""
    with echoingOverUDP() as (server, port):
        to = ("127.0.0.1", port)
        for _ in range(20):
            with datagramSocket() as gone:
                gone.sendto(b"x" * 100, to)
        with datagramSocket() as peer:
            assert ask(peer, b"y", to) == b"y"
        server.end()
    assert not any("Traceback" in line for line in server.out)


@asynccontextmanager
async def serving(
    reactor: Any, host: str = "127.0.0.1", number: int = 0, **settings: Any
) -> AsyncIterator[tuple[EchoService, int]]:
    """Echo over UDP in this process; the service and the port."""
    service = EchoService(reactor, [], EchoFactory(), datagrams=[(host, number)], **settings)
    service.startService()
    try:
        yield service, portOf(service.addresses[0])
    finally:
        await service.stopService()


@pytest.mark.parametrize("size", [0, 1])
@ensureDeferred
async def test_a_flood_of_small_datagrams(
    reactor: Any, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    It leaves the rest of the process its turn, at the server as at a client, and all
    are read in the end.
    """
    flood = 3 * DATAGRAMS_PER_PASS
    async with serving(reactor) as (service, port):
        with datagramSocket() as peer:
            for _ in range(flood):
                peer.sendto(bytes(size), ("127.0.0.1", port))
            await deferLater(reactor, 0)
            await deferLater(reactor, 0)
            assert service.datagramCounts.answered <= 2 * DATAGRAMS_PER_PASS
            for _ in range(flood):
                assert await deferToThread(peer.recv, 9) == bytes(size)

    with datagramSocket() as peer:
        target = f"udp:127.0.0.1:{peer.getsockname()[1]}"
        factory = EchoClientFactory(reactor, Workload(size=64), 1, Patience(reply=LIMIT))
        running = ensure(factory.run(target))
        _, address = await deferToThread(peer.recvfrom, 1 << 16)
        read = Counter[bytes]()
        monkeypatch.setattr(
            DatagramClient, "datagramReceived", lambda _, datagram, __: read.update([datagram])
        )
        for _ in range(flood):
            peer.sendto(bytes(size), address)
        await deferLater(reactor, 0)
        await deferLater(reactor, 0)
        assert read.total() <= 2 * DATAGRAMS_PER_PASS
        await eventually(reactor, lambda: read.total() == flood)
        factory.interrupt()
        await running


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
@ensureDeferred
async def test_what_is_sent_to_many(reactor: Any, host: str) -> None:
    """A broadcast is not answered, and counted; each address of its own is."""
    async with serving(reactor, host) as (service, port):
        with datagramSocket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            peer.sendto(b"all", ("127.255.255.255", port))
            for asked in ("127.0.0.1", "127.0.0.9"):
                peer.sendto(b"one", (asked, port))
                assert await deferToThread(peer.recvfrom, 9) == (b"one", (asked, port))
            assert service.datagramCounts.refused == {DatagramRefusal.TO_MANY: 1}


def test_the_way_that_a_datagram_came() -> None:
    """An answer goes back from the address that was asked, by whatever interface."""
    v4, v6 = (socket.IPPROTO_IP, 8), (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
    own, all4 = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.255")
    six, all6 = (socket.inet_pton(socket.AF_INET6, each) for each in ("2001:db8::1", "ff02::1"))
    mapped = bytes(10) + b"\xff\xff" + own
    two = struct.pack("=I", 2)
    back4, back6 = (*v4, bytes(4) + own + bytes(4)), (*v6, six + bytes(4))
    assert (
        packetInfo()
        == NO_PACKET_INFO
        == PacketInfo(toMany=False, hopLimit=None, replyControl=((), ()))
    )
    assert packetInfo((*v4, two + own + own)) == PacketInfo(replyControl=((back4,), (back4,)))
    assert packetInfo((*v6, mapped + two), (*v4, two + own + own)) == PacketInfo(
        replyControl=((back4,), (back4,))
    )
    assert packetInfo((*v6, six + two)) == PacketInfo(replyControl=((back6,), (back6,)))
    # One of a link, by that link.
    link = socket.inet_pton(socket.AF_INET6, "fe80::1")
    assert packetInfo((*v6, link + two)).replyControl[0] == ((*v6, link + two),)
    assert packetInfo((*v4, two + own + all4)).toMany
    assert packetInfo((*v6, all6 + two)).toMany


def test_the_hops_that_are_left() -> None:
    """They are told, and an answer has one of two hop limits of the same family."""
    ttl, limit = (socket.IPPROTO_IP, socket.IP_TTL), (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)
    for kind in (ttl, limit):
        answers = ((*kind, number(NEAR_HOP_LIMIT)),), ((*kind, number(FAR_HOP_LIMIT)),)
        assert packetInfo((*kind, number(9))) == PacketInfo(hopLimit=9, replyControl=answers)


def number(value: int) -> bytes:
    return struct.pack("=i", value)


def test_trace_data_tells_of_each_datagram() -> None:
    """As of what comes over TCP."""
    with echoingOverUDP("--trace", "data") as (server, port), datagramSocket() as peer:
        assert ask(peer, b"\x1b[31m", ("127.0.0.1", port)) == b"\x1b[31m"
        server.waitFor(re.escape(rf"echoing b'\x1b[31m' to 127.0.0.1:{peer.getsockname()[1]}"))


def failing(*arguments: str) -> Program:
    """Run a server that is to end by itself."""
    with running([*TWISTD, "multiecho", *arguments]) as program:
        program.finish()
    return program


def test_a_taken_port() -> None:
    """All or none: one line, exit 1, and the TCP port is not kept either."""
    with datagramSocket() as taken, socket.create_server(("127.0.0.1", 0)) as once:
        port, tcp = taken.getsockname()[1], once.getsockname()[1]
        once.close()
        done = failing("127.0.0.1", str(tcp), "--udp", f"127.0.0.1:{port}")
    assert done.process.returncode == 1
    assert done.err == [
        f"multiecho: --udp: cannot listen on udp 127.0.0.1:{port}:"
        " [Errno 98] Address already in use"
    ]
    socket.create_server(("127.0.0.1", tcp)).close()


# Twisted leaves the socket that it could not bind to be closed by its destructor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@ensureDeferred
async def test_a_service_that_cannot_bind_can_be_started_later(reactor: Any) -> None:
    """Nothing is left listening, and a privileged start binds once."""
    with datagramSocket() as taken:
        port = taken.getsockname()[1]
        service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", port)])
        with pytest.raises(ListenError, match=f"udp 127.0.0.1:{port}: .*in use"):
            service.startService()
        assert service.addresses == []
    service.privilegedStartService()
    service.startService()
    (address,) = service.addresses
    results = await probe(reactor, f"udp:127.0.0.1:{portOf(address)}", Workload())
    assert results.verdict == "ok", results.examples
    assert service.datagramCounts.answered == 4
    await service.stopService()


@pytest.mark.parametrize(
    "value", ["", "7", ":7", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:7", "a:b:7",
              "[]:7", "127.0.0.1:-1", "127.0.0.1:x"],
)  # fmt: skip
def test_malformed_addresses(refusal: Callable[..., str], value: str) -> None:
    """One line that names the option, the value and what is accepted."""
    assert refusal(ServerOptions().parseOptions, "--udp", value) == (
        f"multiecho: --udp: {value!r} is not HOST:PORT, such as 127.0.0.1:7007 or [::1]:7007,"
        " with a port from 0 to 65535"
    )


def test_a_host_without_an_address() -> None:
    """It cannot be listened on: one line, exit 1."""
    done = failing("127.0.0.1", "0", "--udp", "nowhere.invalid:7")
    assert done.process.returncode == 1
    (line,) = done.err
    assert line.startswith("multiecho: --udp: cannot listen on udp nowhere.invalid:7: ")


def test_the_help_says_why() -> None:
    """What is not answered, at what rate, and for what reason."""
    text = " ".join(str(ServerOptions()).split())
    assert "A forged source address can turn an echo over UDP into a loop" in text
    assert "Maximum number of datagrams per second that the server answers to one" in text
    assert f"Default: {DEFAULT_RATE_PER_SOURCE / 1000:g}k." in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--udp", "127.0.0.1:0", "--udp-rate", value], f"--udp-rate: {value!r} is not a rate")
        for value in ("0", "0.5", "-1", "11M", "fast")
    ]
    + [(["--udp-rate", "5k"], "--udp-rate: give --udp too")],
)
def test_rates_that_are_none(
    refusal: Callable[..., str], arguments: list[str], line: str
) -> None:
    """One line, exit 2."""
    told = refusal(ServerOptions().parseOptions, *arguments)
    assert told.startswith(f"multiecho: {line}")


def foreign() -> str:
    """Return an address of this machine's that is not of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        try:
            # Nothing is sent.
            probing.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address")
        address: str = probing.getsockname()[0]
    return address


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_the_rate_is_the_operators(workers: list[str]) -> None:
    """The option reaches what echoes, with workers beside it too; the log tells of it."""
    host = foreign()
    with echoingOverUDP("--udp", f"{host}:0", "--udp-rate", "5", *workers) as (server, _):
        port = int(
            server.waitFor(rf"listening on udp {re.escape(hostPortText(host, 0))[:-1]}(\d+)$")[
                1
            ]
        )
        with datagramSocket((host, 0)) as peer:
            # Of those that come at once, the first five are answered.
            for _ in range(5):
                peer.sendto(b"x", (host, port))
                assert peer.recv(9) == b"x"

            def refused() -> bool:
                for _ in range(30):
                    peer.sendto(b"x", (host, port))
                return any("over the rate limit of the source" in line for line in server.out)

            until(refused)


def test_a_service_with_no_rate(reactor: Any) -> None:
    """It is refused when it is made."""
    with pytest.raises(ValueError, match=r"datagramRate: 0\.5 is not 1 or more"):
        EchoService(reactor, [], EchoFactory(), datagramRate=0.5)


# The check of what comes back


def verifierOf(workload: Workload, messages: int) -> tuple[DatagramVerifier, list[bytes]]:
    """Return a verifier of which so many messages went out, and those."""
    script = workload.script(1)
    verifier = DatagramVerifier(script, workload.numbered)
    for number in range(messages):
        verifier.sent(Sent(number, number))
    return verifier, [script.block(index) for index in range(messages)]


def verdicts(verifier: DatagramVerifier, datagrams: Sequence[bytes]) -> Counter[Verdict]:
    return Counter(verifier.feed(data).verdict for data in datagrams)


NUMBERED = Workload(size=12)


@given(st.lists(st.integers(0, 29), max_size=90), st.integers(30, 40))
def test_any_order_any_loss_any_repetition(arrivals: list[int], sent: int) -> None:
    """The counts are those of the arrivals, and what is left is lost."""
    verifier, blocks = verifierOf(NUMBERED, sent)
    replies = [verifier.feed(blocks[index]) for index in arrivals]
    seen: list[int] = []
    for index, reply in zip(arrivals, replies, strict=True):
        assert reply.place == index
        if index in seen:
            assert reply.verdict is Verdict.REPEATED
            continue
        assert reply.verdict is Verdict.ANSWER
        assert reply.sent == Sent(index, index)
        assert reply.reordered == (index < max(seen, default=-1))
        seen.append(index)
    assert verifier.giveUp(sent) == sorted(set(range(sent)) - set(seen))
    assert verifier.out == {}
    # What comes now is late the first time, and repeated the second.
    for index in range(sent):
        expected = [Verdict.REPEATED if index in seen else Verdict.LATE, Verdict.REPEATED]
        assert [verifier.feed(blocks[index]).verdict for _ in range(2)] == expected


@given(st.lists(st.sampled_from((b"a", b"b", b"c")), min_size=1, max_size=5), st.data())
def test_messages_that_are_alike(messages: list[bytes], data: st.DataObject) -> None:
    """
    Of messages without numbers, as many are answered as came back of each content;
    what came on top was repeated.
    """
    count = data.draw(st.integers(1, 20))
    verifier, blocks = verifierOf(Workload(messages=tuple(messages)), count)
    arrivals = data.draw(st.lists(st.sampled_from(blocks), max_size=40))
    found = verdicts(verifier, arrivals)
    sent, came = Counter(blocks), Counter(arrivals)
    assert found[Verdict.ANSWER] == (sent & came).total()
    assert found[Verdict.REPEATED] == (came - sent).total()
    assert len(verifier.giveUp(count)) == (sent - came).total()
    left = sent - came
    assert verdicts(verifier, list(left.elements())) == Counter({Verdict.LATE: left.total()})
    if left:
        assert verifier.feed(next(iter(left))).verdict is Verdict.REPEATED


@given(st.integers(0, 9), st.binary(min_size=1, max_size=4), st.integers(0, 63), st.data())
def test_an_altered_reply(index: int, other: bytes, at: int, data: st.DataObject) -> None:
    """It is known for what it was, wherever it was altered, its number included."""
    verifier, blocks = verifierOf(Workload(size=64), 10)
    for earlier in data.draw(st.sets(st.integers(0, 9).filter(lambda each: each != index))):
        verifier.feed(blocks[earlier])
    block = blocks[index]
    changed = (block[:at] + other + block[at + len(other) :])[: len(block)]
    reply = verifier.feed(changed)
    if changed == block:
        assert reply.verdict is Verdict.ANSWER
        return
    assert (reply.verdict, reply.place) == (Verdict.ALTERED, index)
    assert index not in verifier.out
    first = next(i for i in range(64) if block[i] != changed[i])
    fault: Any = reply.fault
    assert (fault.message, fault.offset) == (index + 1, first)
    assert fault.expected == block[first : first + fault.SHOWN]
    assert fault.received == changed[first : first + fault.SHOWN]
    # The right one, if it comes as well, is one too many.
    assert verifier.feed(block).verdict is Verdict.REPEATED


def test_replies_cut_short_or_too_long() -> None:
    """They are altered; the offset is where one of them ends."""
    verifier, blocks = verifierOf(Workload(size=64), 2)
    cut, longer = verifier.feed(blocks[0][:50]), verifier.feed(blocks[1] + b"more")
    assert str(cut.fault) == (
        f"message 1, offset 50: expected {blocks[0][50:]!r}, received b''"
    )
    assert str(longer.fault) == "message 2, offset 64: expected b'', received b'more'"


def test_what_nobody_asked_for() -> None:
    """With nothing out, it is too many bytes; an empty datagram is nothing special."""
    for workload in (NUMBERED, Workload()):
        verifier, _ = verifierOf(workload, 0)
        reply = verifier.feed(b"")
        assert (reply.verdict, str(reply.fault)) == (
            Verdict.UNASKED, "after message 0: received b'' unasked",
        )  # fmt: skip


def test_an_altered_reply_that_comes_again() -> None:
    """It takes no message that is out: its number says that it had been answered."""
    verifier, blocks = verifierOf(Workload(size=64), 3)
    verifier.feed(blocks[0])
    reply = verifier.feed(blocks[0][:-1] + b"\0")
    assert (reply.verdict, reply.place, reply.sent) == (Verdict.ALTERED, 0, None)
    assert list(verifier.out) == [1, 2]


@pytest.mark.parametrize("workload", [NUMBERED, Workload(size=4), Workload()])
def test_memory_of_what_is_lost_is_bounded(workload: Workload) -> None:
    """What is too long ago is not called repeated, which it may not be."""
    verifier, blocks = verifierOf(workload, 3 * KEPT)
    assert len(verifier.giveUp(3 * KEPT)) == 3 * KEPT
    assert len(verifier._past) <= KEPT
    assert verifier.feed(blocks[-1]).verdict is Verdict.LATE
    if workload.numbered:
        assert verifier.feed(blocks[0]).verdict is Verdict.LATE


# The client


@contextmanager
def faulty(seed: int, last: int) -> Iterator[str]:
    """Run faulty_datagrams.py; return its endpoint."""
    script = [sys.executable, str(SUPPORT / "faulty_datagrams.py"), str(seed), str(last)]
    with running(script) as peer:
        port = peer.waitFor(r"listening on (\d+)")[1]
        yield f"udp:127.0.0.1:{port}"


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The endpoint of a server for all the runs that are to find nothing wrong."""
    with echoingOverUDP() as (_, port):
        yield f"udp:127.0.0.1:{port}"


def measured(*arguments: str) -> tuple[Program, Any]:
    """Run the client; return it and its JSON."""
    done = client(*arguments, "--json", "-")
    return done, validate(json.loads("\n".join(done.out)))


def balanced(results: Results) -> bool:
    return (
        results.sent == results.verified + results.mismatched + results.unanswered
        and results.requested == results.completed + results.failed + results.unfinished
        and results.open == 0
    )


def test_both_command_lines(served: str) -> None:
    """Everything verified, nothing lost; the report has a row for datagrams."""
    done, results = measured("--connect", served, "-n", "20", "--size", "1k", "--count", "100")
    assert done.process.returncode == 0, done.err
    assert results["messages"] == {
        "due": None, "unsent": 0,
        "sent": 2000, "verified": 2000, "mismatched": 0, "unanswered": 0,
    }  # fmt: skip
    assert results["bytes"] == {"sent": 2_048_000, "received": 2_048_000}
    assert results["datagrams"] == {"lost": 0, "repeated": 0, "reordered": 0}
    assert results["tcp"] is None
    assert results["connect_ns"]["count"] == 0
    assert results["response_ns"]["count"] == 2000
    assert "datagrams      0 lost, 0 repeated, 0 reordered" in done.err
    assert done.err[-1] == "verdict        ok: every byte came back"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--message", "same", "--message", "same", "--count", "40", "--window", "5"],
        ["--size", "3", "--count", "200", "--window", "10"],
        ["--size", str(MAX_DATAGRAM_SIZE), "--count", "20", "--window", "2"],
        ["--churn", "--size", "64", "--count", "10"],
        ["--bind", "127.0.0.2", "--bind", "127.0.0.3", "--connect-rate", "100"],
    ],
)
def test_every_kind_of_workload(served: str, arguments: list[str]) -> None:
    """The tutorial's list, messages alike, short ones, the longest, one per socket."""
    done, results = measured("--connect", served, "--reply-timeout", "60s", *arguments)
    assert done.process.returncode == 0, done.err
    assert results["messages"]["sent"] == results["messages"]["verified"] > 0


def test_the_open_loop(served: str) -> None:
    """Every message of the schedule is sent, and every latency is reported."""
    done, results = measured(
        "--connect", served, "-n", "5", "--size", "64", "--rate", "1k", "--duration", "500ms"
    )
    assert done.process.returncode == 0, done.err
    assert results["messages"]["verified"] == 500
    assert results["elapsed_s"] >= 0.49
    for name in ("response_ns", "service_ns", "send_lag_ns"):
        assert results[name]["count"] == 500
    assert 0 < results["service_ns"]["p50"] <= results["response_ns"]["p50"]


@ensureDeferred
async def test_a_faulty_path(reactor: Any) -> None:
    """
    What is lost, repeated, reordered and altered is counted to the message, and every
    connection has its worst fault named.
    """
    seed, messages, connections = 1, 120, 4
    fates = {
        connection: Counter(
            fate(seed, messages, connection, number) for number in range(1, messages + 1)
        )
        for connection in range(1, connections + 1)
    }
    total: Counter[int] = sum(fates.values(), Counter())
    assert min(total[each] for each in (LOSE, REPEAT, HOLD, ALTER)) > 10
    fake: Any = FakeTimeReactor(reactor)
    workload = Workload(size=64, count=messages, window=messages)
    factory = EchoClientFactory(
        fake, workload, connections, Patience(reply=0.5), Trace.CONNECTIONS, fake.ns
    )
    results = factory.results
    with faulty(seed, messages) as target, capturedLogs() as events:
        running = ensure(factory.run(target))
        # No window holds a message back: all that comes, comes before time passes.
        await eventually(
            reactor,
            lambda: (
                results.verified + results.mismatched == results.sent - total[LOSE]
                and factory.results.datagrams is not None
                and factory.results.datagrams.repeated == total[REPEAT]
            ),
        )
        fake.advance(0.6)
        await running
    assert results.datagrams == Datagrams(
        lost=total[LOSE], repeated=total[REPEAT], reordered=total[HOLD]
    )
    assert results.sent == connections * messages
    assert results.mismatched == total[ALTER]
    assert results.unanswered == total[LOSE]
    assert results.failures == {"mismatch": connections}
    assert balanced(results)
    told = [formatEvent(event) or "" for event in events]
    for connection, counts in fates.items():
        numbers = range(1, messages + 1)
        altered = next(n for n in numbers if fate(seed, messages, connection, n) == ALTER)
        lost = next(n for n in numbers if fate(seed, messages, connection, n) == LOSE)
        (line,) = [line for line in told if line.startswith(f"connection {connection} to ")]
        assert f"failed: mismatch: message {altered}, offset {FLIPPED}: expected b" in line
        assert f"; {counts[REPEAT]} messages answered again, first " in line
        assert (
            f"; {counts[LOSE]} of {messages} messages lost, the first message {lost}:"
            " no reply within 0.5 s" in line
        )


@contextmanager
def answering(*answers: Sequence[int]) -> Iterator[tuple[str, list[bytes]]]:
    """
    Run, in a thread, a peer that answers the datagrams of one socket in this order.

    @param answers: for each that comes, the numbers of those to send back.
    @return: its endpoint, and the datagrams that it has dealt with so far.
    """
    peer = datagramSocket()
    dealtWith: list[bytes] = []

    def serve() -> None:
        came = []
        for each in answers:
            data, address = peer.recvfrom(1 << 16)
            came.append(data)
            for number in each:
                peer.sendto(came[number - 1], address)
            dealtWith.append(data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"udp:127.0.0.1:{peer.getsockname()[1]}", dealtWith
    finally:
        # A test that failed has not sent all that the peer waits for.
        with datagramSocket() as other:
            for _ in answers:
                other.sendto(b"", peer.getsockname())
        thread.join()
        peer.close()


HASTY = Patience(reply=0.3)
"""Less than a message is lost for, by a fake clock."""


def begun(
    fake: Any, target: str, workload: Workload, connections: int = 1
) -> tuple[EchoClientFactory, Deferred[Results]]:
    """Begin a run whose time is that of the fake clock."""
    factory = EchoClientFactory(fake, workload, connections, HASTY, clock=fake.ns)
    return factory, ensure(factory.run(target))


@pytest.mark.parametrize(
    ("answers", "failures", "detail", "datagrams"),
    [
        ([[1], [2], [3], [4]], {}, "", Datagrams()),
        ([[], [2, 1], [], [4, 3]], {}, "", Datagrams(reordered=2)),
        (
            [[1], [2, 2], [3], [4]], {"extra-bytes": 1},
            "1 message answered again, first 2", Datagrams(repeated=1),
        ),
        (
            [[1], [], [], [4]], {"reply-timeout": 1},
            "2 of 4 messages lost, the first message 2: no reply within 0.3 s",
            Datagrams(lost=2),
        ),
        (
            [[], [2, 2], [3], [4]], {"extra-bytes": 1},
            "1 message answered again, first 2; 1 of 4 messages lost, the first message 1:"
            " no reply within 0.3 s", Datagrams(lost=1, repeated=1),
        ),
    ],
)  # fmt: skip
@ensureDeferred
async def test_each_fault(
    reactor: Any,
    answers: Sequence[Sequence[int]],
    failures: dict[str, int],
    detail: str,
    datagrams: Datagrams,
) -> None:
    """Its kind, its words and its count; what is only out of order is no failure."""
    fake: Any = FakeTimeReactor(reactor)
    with answering(*answers) as (target, dealtWith):
        factory, running = begun(fake, target, Workload(size=64, count=4, window=4))
        await eventually(
            reactor,
            lambda: (
                len(dealtWith) == 4
                and factory.results.bytesReceived == 64 * sum(map(len, answers))
            ),
        )
        fake.advance(0.4)
        results = await running
    assert results.failures == failures
    assert [each.detail for each in results.examples.values()] == [detail] * len(failures)
    assert results.datagrams == datagrams
    assert results.unanswered == datagrams.lost
    assert balanced(results)


@ensureDeferred
async def test_a_lost_datagram_makes_room(reactor: Any) -> None:
    """With a window of one, the next message goes out when the last one is lost."""
    fake: Any = FakeTimeReactor(reactor)
    with answering([], [2], [], [4]) as (target, dealtWith):
        factory, running = begun(fake, target, Workload(size=64, count=4, window=1))
        await eventually(reactor, lambda: len(dealtWith) == 1)
        assert factory.results.sent == 1
        fake.advance(0.4)
        await eventually(reactor, lambda: len(dealtWith) == 3)
        assert (factory.results.sent, factory.results.verified) == (3, 1)
        fake.advance(0.4)
        results = await running
    assert (results.verified, results.unanswered) == (2, 2)
    assert results.failures == {"reply-timeout": 1}


@ensureDeferred
async def test_loss_and_the_open_loop(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule goes on, and each latency is that of its own message."""
    fake: Any = FakeTimeReactor(reactor)
    readFakeClock(monkeypatch, fake)
    with answering([], [2], [], [4], [5]) as (target, dealtWith):
        factory, running = begun(fake, target, Workload(size=64, count=5, rate=Rate(4, 4)))
        results = factory.results
        for number, verified in enumerate((0, 1, 1, 2, 3), 1):
            # 10 ms after it is due, in steps as short as the patience is looked after.
            while fake.seconds() < (number - 1) / 4 + 0.01:
                fake.advance(0.01)
            await eventually(reactor, partial(reached, results, dealtWith, number, verified))
        fake.advance(0.4)
        await running
    assert (results.verified, results.unanswered) == (3, 2)
    assert results.response.count == results.serviceTime.count == 3
    # Not from when a lost one was due, 250 ms before.
    for latency in (results.response, results.serviceTime):
        (most,) = latency.percentiles(100.0)
        assert most is not None
        assert most < 50e6
    assert results.datagrams == Datagrams(lost=2)
    assert balanced(results)


def reached(results: Results, dealtWith: Sequence[bytes], came: int, verified: int) -> bool:
    return (len(dealtWith), results.verified) == (came, verified)


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
    port: Any = _ConnectedPort(reactor, handle, ("127.0.0.1", 7), hearing)
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


@ensureDeferred
async def test_interrupted_with_faults(reactor: Any) -> None:
    """What is known to be wrong is told; what is out is unanswered, and not lost."""
    fake: Any = FakeTimeReactor(reactor)
    with answering([1, 1], [2]) as (target, _):
        factory, running = begun(fake, target, Workload(size=64, count=100, window=2))
        await eventually(reactor, lambda: factory.results.verified == 2)
        factory.interrupt()
        results = await running
    assert results.verdict == "interrupted"
    assert results.failures == {"extra-bytes": 1}
    assert (results.verified, results.datagrams) == (2, Datagrams(repeated=1))
    assert balanced(results)


def test_an_interrupt(served: str) -> None:
    """Ctrl-C: the report, exit 130, the books balanced."""
    arguments = ["--connect", served, "-n", "3", "--size", "64", "--count", "999999999"]
    told = ["--json", "-", "--trace", "connections"]
    with running([*CLIENT, *arguments, *told]) as program:
        program.waitFor(r"starting connection 3 to udp 127\.0\.0\.1:\d+", program.err)
        assert program.end(signal.SIGINT) == 130
    results = validate(json.loads("\n".join(program.out)))
    assert results["verdict"] == "interrupted"
    assert results["connections"]["completed"] == results["connections"]["failed"] == 0
    assert program.err[-1] == "verdict        interrupted: 3 connections not done"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("udp:127.0.0.1:7 --size 65508", "--size: 65,508 bytes are more than a datagram holds"),
        ("udp:127.0.0.1", "--connect: udp:127.0.0.1: not udp:HOST:PORT"),
        ("udp::7", "--connect: udp::7: not udp:HOST:PORT"),
        ("udp:127.0.0.1:7 --message-file FILE", "--message-file: 70,000 bytes are more than"),
        ("udp:127.0.0.1:7 --half-close", "--half-close: over UDP there is no stream to end"),
    ],
)
def test_bad_usage(
    refusal: Callable[..., str], arguments: str, line: str, tmp_path: Path
) -> None:
    """One line that says what is wrong; exit 2."""
    path = tmp_path / "file"
    path.write_bytes(bytes(70_000))
    told = refusal(main, "--connect", *arguments.replace("FILE", str(path)).split())
    assert told.startswith(f"echofactory.client: {line}")


@pytest.mark.parametrize(
    ("description", "line"),
    [
        ("udp:127.0.0.1", "not udp:HOST:PORT, with or without :bindAddress=ADDRESS"),
        ("udp:127.0.0.1:7:timeout=3", "not udp:HOST:PORT"),
        ("udp:127.0.0.1:7:127.0.0.1:5:6", "not udp:HOST:PORT"),
        ("udp:::1:7", "not udp:HOST:PORT"),
        ("udp:[fe80::1:7", "not udp:HOST:PORT"),
        ("udp::7", "not udp:HOST:PORT"),
        ("udp:", "not udp:HOST:PORT"),
        ("udp:127.0.0.1:0", "port 0 is not from 1 to 65535"),
        ("udp:127.0.0.1:65536", "port 65536 is not from 1 to 65535"),
        ("udp:127.0.0.1:abc", "port 'abc' is not from 1 to 65535"),
        ("udp:127.0.0.1:-7", "port '-7' is not from 1 to 65535"),
        ("udp:127.0.0.1:7:bindAddress=foo", "bindAddress 'foo' is not an IPv4 or IPv6 address"),
        ("udp:127.0.0.1:7:bindAddress=", "bindAddress '' is not an IPv4 or IPv6 address"),
        ("express:udp:127.0.0.1:7", "the fast lane carries no datagrams"),
    ],
)
def test_bad_targets(reactor: Any, description: str, line: str) -> None:
    """One line, which begins with the string."""
    with pytest.raises(EndpointError) as caught:
        Target(reactor, description, 1.0)
    assert str(caught.value).startswith(f"{description}: {line}")


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        (
            Workload(size=MAX_DATAGRAM_SIZE + 1),
            "size: 65,508 bytes; a datagram has at most",
        ),
        (Workload(messages=(b"x" * 70_000,)), "messages: 70,000 bytes; a datagram has"),
        (Workload(halfClose=True), "halfClose: UDP has no stream to close"),
    ],
)
@ensureDeferred
async def test_workloads_that_do_not_fit(reactor: Any, workload: Workload, text: str) -> None:
    """The same from a program: a mistake in the call raises."""
    with pytest.raises(ValueError, match=text):
        await probe(reactor, "udp:127.0.0.1:7", workload)


@ensureDeferred
async def test_brackets_and_escapes(reactor: Any) -> None:
    """
    An IPv6 address may stand in brackets, with its zone if it has one, or with its
    colons escaped.
    """
    async with serving(reactor, "::1") as (_, port):
        for host in ("[::1]", "[::1%1]", r"\:\:1"):
            results = await probe(reactor, f"udp:{host}:{port}", Workload())
            assert results.verdict == "ok", results.examples


def ofALink() -> str:
    """Return an address of this machine's that is one on a link only, with its zone."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, scope, _, name = line.split()
        if scope == "20":
            return f"{ip_address(bytes.fromhex(digits))}%{name}"
    pytest.skip("this machine has no address of a link")


@pytest.mark.parametrize("served", ["own", "::"])
@ensureDeferred
async def test_an_address_of_a_link(reactor: Any, served: str) -> None:
    """It is asked on its link, and answers from there."""
    host = ofALink()
    async with serving(reactor, host if served == "own" else served) as (_, port):
        for target in (f"udp:[{host}]:{port}", f"udp:[{host}]:{port}:bindAddress=[{host}]"):
            results = await probe(reactor, target, Workload(), 1)
            assert results.verdict == "ok", results.examples


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::aBc%r1", "fe80::1%wg-a.7"])
def test_zones(reactor: Any, host: str) -> None:
    """That of an address is the name of an interface, whatever that is."""
    for text in (f"[{host}]", host.replace(":", r"\:")):
        assert Target(reactor, f"udp:{text}:7007", 1.0).text == f"udp [{host}]:7007"


@ensureDeferred
async def test_the_trace(reactor: Any) -> None:
    """What goes out and comes in is told as over TCP."""
    service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", 0)])
    service.startService()
    port = portOf(service.addresses[0])
    with capturedLogs() as events:
        factory = EchoClientFactory(reactor, Workload(messages=(b"hi",)), 1, trace=Trace.DATA)
        await factory.run(f"udp:127.0.0.1:{port}")
    assert [formatEvent(e) for e in events if e["log_namespace"].startswith("echof")] == [
        f"starting connection 1 to udp 127.0.0.1:{port}",
        "sending b'hi' to connection 1",
        "received b'hi' from connection 1",
        "closing connection 1",
    ]
    await service.stopService()


def test_runs_merged() -> None:
    """Their counts add up; a run of streams does not belong to them."""

    def run(target: str, datagrams: Datagrams | None) -> Results:
        return Results(
            target=target, workload=FACTS, requested=0, elapsedNs=10**9, datagrams=datagrams
        )

    runs = [run("udp:127.0.0.1:7", Datagrams(lost=n)) for n in (1, 2)]
    assert merged(runs).datagrams == Datagrams(lost=3)
    streams = run("tcp:127.0.0.1:7", None)
    with pytest.raises(ValueError, match="some of the runs are over UDP"):
        merged([*runs, streams])


# Peers that nobody here wrote

needsSocat = pytest.mark.skipif(
    shutil.which("socat") is None and "CI" not in os.environ, reason="not installed: socat"
)


@needsSocat
def test_socat_asks() -> None:
    """The server answers it."""
    with echoingOverUDP() as (_, port):
        command = ["socat", "SYSTEM:echo hello; cat >&2", f"UDP:127.0.0.1:{port}"]
        with running(command) as asking:
            asking.waitFor("^hello$", asking.err)


@needsSocat
def test_socat_answers() -> None:
    """The client is content with it: a process for each of its sockets."""
    with datagramSocket() as once:
        port = once.getsockname()[1]
    command = ["socat", "-d", "-d", f"UDP-LISTEN:{port},bind=127.0.0.1,fork", "PIPE"]
    # Of its own, so that the processes it forks can be ended too.
    with running(command, start_new_session=True) as serving:
        try:
            serving.waitFor("listening on UDP", serving.err)
            done, results = measured(
                "--connect",
                f"udp:127.0.0.1:{port}",
                "-n",
                "1",
                "--size",
                "512",
                "--count",
                "20",
            )
        finally:
            os.killpg(serving.process.pid, signal.SIGKILL)
    assert done.process.returncode == 0, done.err
    assert results["messages"]["verified"] == 20
