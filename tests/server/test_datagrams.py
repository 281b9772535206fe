"""
The echo over UDP: what is answered, counted and logged.
"""

import errno
import os
import re
import signal
import socket
import struct
import sys
import time
from collections import Counter
from typing import Any

import pytest
from datagrams import ask, datagramSocket, echoingOverUDP, forRoot, number, serving
from peers import eventually
from programs import LIMIT
from pytest_twisted import ensureDeferred
from twisted.internet.defer import ensureDeferred as ensure
from twisted.internet.task import Clock, deferLater
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs, formatEvent

from echofactory import (
    EchoClientFactory,
    Patience,
    Workload,
)
from echofactory.client.datagram import DatagramClient
from echofactory.net.packetinfo import (
    FAR_HOP_LIMIT,
    NEAR_HOP_LIMIT,
    NO_PACKET_INFO,
    PacketInfo,
    packetInfo,
)
from echofactory.net.udp import DATAGRAMS_PER_PASS
from echofactory.server.datagrams import DatagramCounts, EchoDatagrams
from echofactory.server.guard import (
    ANSWERS,
    UNANSWERED,
    DatagramGuard,
    DatagramRefusal,
)
from echofactory.workload.datagrams import (
    MAX_DATAGRAM_SIZE,
)

pytestmark = pytest.mark.reactors


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
