"""
The echo over UDP (RFC 862).

A datagram's source address can be forged. An echo that answers whatever comes can be
made to talk to another such service, or to itself, without end (CERT CA-1996-01,
CVE-1999-0103, VU#417980), and to send what it is sent on to someone who never asked.
So some are not answered: L{DatagramGuard} says which.

What is touched of Twisted that is not public, each with its reason:

 - C{Port._bindSocket}: Twisted's drops the scope of a link-local address.
 - C{Port._realPortNumber}: which port the system chose.
"""

import socket
import struct
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from enum import StrEnum
from functools import lru_cache
from random import getrandbits
from typing import Any, NamedTuple

from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReactorTime
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.logger import Logger

from echofactory.net.tracing import Trace, dataText
from echofactory.values.checks import checkRate, checkWhole
from echofactory.values.quantities import counted

_log = Logger()

LOWEST_PORT = 1024
"""Below it are the well-known services, many of which answer anything."""
RATE = 1_000.0
"""Datagrams a second that are answered to one source address, and how many at once."""
SOURCES = 65_536
"""Source addresses that are answered within a second."""
BUFFER_SIZE = 65_536
"""Bytes: no datagram is longer."""
AT_ONCE = 64
"""Datagrams that one socket reads before others have their turn. Twisted reads 256 KiB,
which small ones never come to."""
ROOM = 4 << 20
"""Bytes, asked of the kernel for datagrams that wait to be read. Its own choice holds
some 250 small ones; it grants up to C{net.core.rmem_max}."""

FAR = 194
"""Hop limit of every other answer. Hosts begin with 64, 128 or 255, so that after up to 60
hops, nothing but such an answer arrives with 131 to 194."""
NEAR = 64
"""Hop limit of the other half. It reaches no host that is 64 hops away, or more."""
ANSWERS = range(FAR - NEAR + 1, FAR + 1)
"""What an answer of L{FAR} arrives with, after fewer than L{NEAR} hops."""

_MAPPED = bytes(10) + b"\xff\xff"
_PREFIX_SIZE = 8

# Linux's; Python has no names for some of them yet. The first two hold the
# interface, this machine's address for an answer, and the one that was sent to.
_PKTINFO = (socket.IPPROTO_IP, 8)
_INFO = struct.Struct("=I4s4s")
_PKTINFO_6 = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
_INFO_6 = struct.Struct("=16sI")
_TTL = (socket.IPPROTO_IP, socket.IP_TTL)
_RECVTTL = (socket.IPPROTO_IP, 12)
_HOPLIMIT = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)
_HOPS = struct.Struct("=i")
_CONTROL_SIZE = 256
"""Bytes: room for all that is asked for, of both families."""

Control = tuple[int, int, bytes]
"""A control message of a socket: its level, its type, and its data."""


def makeRoom(handle: socket.socket) -> None:
    """Have a socket hold the datagrams that come in a burst, as many as it may."""
    # Linux grants less without a word; others grant nothing.
    with suppress(OSError):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)


class Way(NamedTuple):
    """
    How a datagram came.

    @ivar toMany: whether it was sent to a broadcast or multicast address.
    @ivar hops: how many it might have gone through still.
    @ivar back: what has an answer sent from the address that was asked, with a hop limit of
        L{NEAR}; and the same with L{FAR}.
    """

    toMany: bool = False
    hops: int | None = None
    back: tuple[tuple[Control, ...], tuple[Control, ...]] = ((), ())


UNKNOWN = Way()
"""Where the system does not tell."""


@lru_cache(maxsize=1024)
def wayOf(*control: Control) -> Way:
    """Read what the system tells with a datagram."""
    toMany = False
    hops = None
    back: list[Control] = []
    near: list[Control] = []
    far: list[Control] = []
    for level, kind, value in control:
        if (level, kind) == _PKTINFO:
            # What this machine would answer a broadcast from is another address.
            _, local, to = _INFO.unpack(value)
            toMany |= local != to
            back.append((level, kind, _INFO.pack(0, local, bytes(4))))
        elif (level, kind) == _PKTINFO_6 and not value.startswith(_MAPPED):
            to, interface = _INFO_6.unpack(value)
            toMany |= to[0] == 0xFF
            # By whatever way; but an address of a link is one only on that link.
            linkLocal = to[0] == 0xFE and to[1] & 0xC0 == 0x80
            back.append((level, kind, _INFO_6.pack(to, interface if linkLocal else 0)))
        elif (level, kind) in (_TTL, _HOPLIMIT):
            (hops,) = _HOPS.unpack(value)
            near.append((level, kind, _HOPS.pack(NEAR)))
            far.append((level, kind, _HOPS.pack(FAR)))
    return Way(toMany, hops, ((*back, *near), (*back, *far)))


class Refusal(StrEnum):
    """Why a datagram is not answered."""

    TO_MANY = "to-many"
    LOW_PORT = "low-port"
    OWN_PORT = "own-port"
    CIRCLES = "circles"
    RATE = "rate"
    SOURCES = "sources"
    UNSENT = "unsent"


UNANSWERED: Mapping[str, str] = {
    Refusal.TO_MANY: "to a broadcast or multicast address",
    Refusal.LOW_PORT: "from a port below 1024",
    Refusal.OWN_PORT: "from a port that is echoed here",
    Refusal.CIRCLES: "in a loop between two such servers",
    Refusal.RATE: "over the rate of their source",
    Refusal.SOURCES: "from too many sources at once",
    Refusal.UNSENT: "that the system would not send",
}
"""What that means."""


PORTS: Counter[int] = Counter()
"""How many sockets of this process echo on each port."""


class DatagramGuard:
    """
    Decides which datagrams are answered.

    Not those to a broadcast or multicast address, as far as the system tells (Linux
    does): all who hear them would answer one address, which may be forged. Not those
    from a port below L{LOWEST_PORT}. Nor those from a port that is echoed here,
    whatever the address: this machine has many, and two machines that echo on one port
    would answer each other for ever. Nor more than C{rate} a second to one address, or
    to one /64 of IPv6, which is what a single host may have: that is kept by a token
    bucket, so that after a pause a second's worth may come at once. The loopback
    interface's own addresses have no such limit: no network can send from them.

    Two servers of this kind that are set on each other, wherever they are, stop soon. Each
    answer has a hop limit of L{FAR} or of L{NEAR}, by chance. If the path has fewer than
    L{NEAR} hops, an answer of L{FAR} is known by what it arrives with (L{ANSWERS}), and is
    not answered. If the path is longer, an answer of L{NEAR} does not arrive. So each turn is
    the last with a chance of one half. This takes Linux, and a path that leaves hop limits
    alone. Other programs that echo are unknown: the rate is what bounds a loop with one.

    @ivar ports: how many sockets echo on each.
    """

    def __init__(
        self, rate: float = RATE, sources: int = SOURCES, ports: Counter[int] = PORTS
    ) -> None:
        """
        @param rate: datagrams a second for one source, 1 or more.
        @param sources: within a second, 1 or more; memory is bounded by that.
        @raise TypeError: if one of them is of another type.
        @raise ValueError: if one of them is out of its range.
        """
        checkRate("rate", rate, 1)
        checkWhole("sources", sources)
        self.ports = ports
        self._rate = rate
        self._sources = sources
        # Of each source: how many may come at once, and when that was so. After a
        # second it is as if nothing had come.
        self._buckets: dict[str | bytes, tuple[float, float]] = {}
        self._tidiedAt = 0.0

    def refusal(
        self, host: str, port: int, seconds: float, way: Way = UNKNOWN
    ) -> Refusal | None:
        """
        Tell why a datagram is not to be answered; C{None}: it is.

        @param host: where it says that it comes from.
        @param seconds: what time it is.
        @param way: how it came.
        """
        if way.toMany:
            return Refusal.TO_MANY
        if port < LOWEST_PORT:
            return Refusal.LOW_PORT
        if self.ports[port]:
            return Refusal.OWN_PORT
        if way.hops in ANSWERS:
            return Refusal.CIRCLES
        source = self._source(host)
        return None if source is None else self._overRate(source, seconds)

    def _overRate(self, source: str | bytes, seconds: float) -> Refusal | None:
        bucket = self._buckets.get(source)
        if bucket is None:
            if not self._hasRoom(seconds):
                return Refusal.SOURCES
            left = self._rate
        else:
            left, then = bucket
            # A clock that is set back stands still for that.
            left = min(self._rate, left + self._rate * max(seconds - then, 0.0))
        over = left < 1
        self._buckets[source] = (left if over else left - 1, seconds)
        return Refusal.RATE if over else None

    def _hasRoom(self, seconds: float) -> bool:
        """Tell whether there is room for another source; look for some once a second."""
        if len(self._buckets) >= self._sources and abs(seconds - self._tidiedAt) >= 1:
            self._tidiedAt = seconds
            self._buckets = {
                source: (left, then)
                for source, (left, then) in self._buckets.items()
                if abs(seconds - then) < 1
            }
        return len(self._buckets) < self._sources

    @staticmethod
    def _source(host: str) -> str | bytes | None:
        """Return what the limit is kept for; C{None}: there is none."""
        if ":" in host:
            packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
            if not packed.startswith(_MAPPED):
                return None if host == "::1" else packed[:_PREFIX_SIZE]
            # IPv4, to a socket of both.
            host = socket.inet_ntoa(packed[len(_MAPPED) :])
        return None if host.startswith("127.") else host


class DatagramCounts:
    """
    What came of the datagrams of one service. It logs what is not answered, in a line
    a second at most: who sends them has no say in how much is logged.

    @ivar answered: datagrams.
    @ivar refused: those not answered, by reason.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.answered = 0
        self.refused: Counter[Refusal] = Counter()
        self._clock = clock
        self._untold: Counter[Refusal] = Counter()
        self._last = ""
        self._pause: IDelayedCall | None = None

    def note(self, refusal: Refusal, host: str, port: int) -> None:
        """Count a datagram that is not answered."""
        self.refused[refusal] += 1
        self._untold[refusal] += 1
        self._last = repr((host, port))
        if self._pause is None:
            self._tell()

    def close(self) -> None:
        """Tell what is not told yet; no more will come."""
        if self._pause is not None:
            self._pause.cancel()
            self._tell()
            assert self._pause is not None
            self._pause.cancel()
            self._pause = None

    def _tell(self) -> None:
        self._pause = self._clock.callLater(1.0, self._resume)
        if self._untold:
            _log.warn(
                "did not answer {what}: {reasons}; the last from {peer}",
                what=counted(self._untold.total(), "datagram"),
                reasons=", ".join(
                    f"{count} {UNANSWERED[why]}" for why, count in sorted(self._untold.items())
                ),
                peer=self._last,
            )
            self._untold.clear()

    def _resume(self) -> None:
        self._pause = None
        if self._untold:
            self._tell()


class EchoDatagrams(DatagramProtocol):
    """
    Sends back every datagram that the guard lets through. What the system will not
    send is lost, as any datagram may be. Its transport is an L{EchoPort}.
    """

    noisy = False
    transport: Any

    def __init__(
        self,
        guard: DatagramGuard,
        counts: DatagramCounts,
        clock: IReactorTime,
        trace: Trace = Trace.NONE,
    ) -> None:
        """
        @param guard: shared by all ports of a service.
        @param counts: shared as well.
        """
        self._guard = guard
        self._counts = counts
        self._clock = clock
        self._tracing = trace >= Trace.DATA

    def startProtocol(self) -> None:
        self._port = self.transport.getHost().port
        self._guard.ports[self._port] += 1

    def stopProtocol(self) -> None:
        self._guard.ports[self._port] -= 1

    def datagramReceived(
        self, datagram: bytes, addr: tuple[Any, ...], way: Way = UNKNOWN
    ) -> None:
        # Of IPv6 there is more, which an answer needs: which link it is.
        host, port, *_ = addr
        refusal = self._guard.refusal(host, port, self._clock.seconds(), way)
        if refusal is None:
            if self._tracing:
                _log.info(
                    "echoing {data} to {peer}", data=dataText(datagram), peer=repr((host, port))
                )
            try:
                self.transport.write(datagram, addr, way.back[getrandbits(1)])
            except OSError:
                # No way there, no room in the queue, or a firewall of this machine's.
                refusal = Refusal.UNSENT
        if refusal is None:
            self._counts.answered += 1
        else:
            self._counts.note(refusal, host, port)


class EchoPort(Port):
    """
    A UDP port for L{EchoDatagrams}, which says how each datagram came, and reads
    L{AT_ONCE} at most before others have their turn.
    """

    def __init__(
        self, reactor: IReactorFDSet, address: tuple[Any, ...], protocol: EchoDatagrams
    ) -> None:
        """
        @param address: this machine's, as a socket takes it; port 0 has the system
            choose.
        """
        host, number, *_ = address
        super().__init__(number, protocol, host, BUFFER_SIZE, reactor)
        self._address = address

    def createInternetSocket(self) -> socket.socket:
        """Make the socket; before it is bound, so that nothing comes without its way."""
        made = super().createInternetSocket()
        makeRoom(made)
        if sys.platform == "linux":
            # A socket of IPv6 may have both.
            made.setsockopt(*_PKTINFO, 1)
            made.setsockopt(*_RECVTTL, 1)
            if self.addressFamily == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        return made

    def _bindSocket(self) -> None:
        # Twisted's leaves out which link an address is one of.
        made = self.createInternetSocket()
        try:
            made.bind(self._address)
        except OSError as error:
            made.close()
            raise CannotListenError(self.interface, self.port, error) from error
        self.socket: Any = made
        self.fileno: Any = made.fileno
        self._realPortNumber = made.getsockname()[1]
        self.connected = True

    def doRead(self) -> None:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        for _ in range(AT_ONCE):
            try:
                datagram, control, _, addr = self.socket.recvmsg(BUFFER_SIZE, _CONTROL_SIZE)
            except (BlockingIOError, ConnectionRefusedError):
                return
            try:
                self.protocol.datagramReceived(datagram, addr, wayOf(*control))
            except Exception:
                # One datagram's fault is not the others'.
                _log.failure("while a datagram was answered")

    def write(
        self,
        datagram: bytes,
        addr: tuple[Any, ...] | None = None,
        control: Iterable[Control] = (),
    ) -> None:
        """
        Send a datagram.

        @param control: what to tell the system of it.
        @raise OSError: if it does not take it.
        """
        self.socket.sendmsg([datagram], control, 0, addr)
