"""
Which datagrams an echo over UDP answers.

A datagram's source address can be forged. With forged addresses, an echo that answers every
datagram can be made to:

 - exchange datagrams without end with another such service, or with itself (CERT
   CA-1996-01, CVE-1999-0103, VU#417980);
 - send unwanted datagrams to a third party.
"""

import socket
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from echofactory.net.packetinfo import (
    FAR_HOP_LIMIT,
    MAPPED_PREFIX,
    NEAR_HOP_LIMIT,
    NO_PACKET_INFO,
    PacketInfo,
)
from echofactory.values.checks import checkRate, checkWhole

LOWEST_PORT = 1024
"""The lowest source port that is answered. Below it are the well-known services, and many of
them answer every datagram."""
DEFAULT_RATE_PER_SOURCE = 1_000.0
"""Maximum number of answers per second to one source address, and the largest burst."""
MAX_SOURCES = 65_536
"""Maximum number of source addresses that are answered within one second."""
ANSWERS = range(FAR_HOP_LIMIT - NEAR_HOP_LIMIT + 1, FAR_HOP_LIMIT + 1)
"""The hop limits that an answer sent with L{FAR_HOP_LIMIT} can arrive with, if the path has
fewer than L{NEAR_HOP_LIMIT} hops."""
_PREFIX_SIZE = 8
"""Bytes of a /64 prefix."""


class DatagramRefusal(StrEnum):
    """Why a datagram is not answered: L{UNANSWERED} explains each."""

    TO_MANY = "to-many"
    LOW_PORT = "low-port"
    OWN_PORT = "own-port"
    CIRCLES = "circles"
    RATE = "rate"
    SOURCES = "sources"
    UNSENT = "unsent"


UNANSWERED: Mapping[str, str] = {
    DatagramRefusal.TO_MANY: "to a broadcast or multicast address",
    DatagramRefusal.LOW_PORT: "from a port below 1024",
    DatagramRefusal.OWN_PORT: "from a port that this server echoes on",
    DatagramRefusal.CIRCLES: "in a loop between two echo servers",
    DatagramRefusal.RATE: "over the rate limit of the source",
    DatagramRefusal.SOURCES: "over the limit on sources",
    DatagramRefusal.UNSENT: "because the system did not send the answer",
}
"""Each reason in words."""


ECHOED_PORTS: Counter[int] = Counter()
"""Number of sockets of this process that echo on each port."""


class DatagramGuard:
    """
    Decides which datagrams are answered. These are not answered:

     - datagrams to a broadcast or multicast address. All hosts that receive one would answer
       the same address, and that address can be forged. Only Linux reports the destination.
     - datagrams from a port below L{LOWEST_PORT}.
     - datagrams from a port that this server echoes on, at any address. The machine can have
       many addresses, and two machines that echo on the same port would answer each other
       without end.
     - datagrams over the rate limit: C{rate} per second for each source. A source is an IPv4
       address or an IPv6 /64, because a single host can have a /64. The limit is a token
       bucket: after a second without datagrams, a burst of C{rate} is answered. Loopback
       addresses have no rate limit, because no network can send from them.

    A loop between two of these servers ends soon. Each answer has a hop limit of
    L{FAR_HOP_LIMIT} or of L{NEAR_HOP_LIMIT}, at random. If the path has fewer than
    L{NEAR_HOP_LIMIT} hops, a far answer is recognized by the hop limit that it arrives with
    (L{ANSWERS}), and is not answered. If the path is longer, a near answer does not arrive.
    So each answer ends the loop with a probability of one half. This needs Linux, and a path
    that does not change hop limits. A loop with another echo program is bounded only by the
    rate.

    @ivar ports: number of sockets that echo on each port.
    """

    def __init__(
        self,
        rate: float = DEFAULT_RATE_PER_SOURCE,
        sources: int = MAX_SOURCES,
        ports: Counter[int] = ECHOED_PORTS,
    ) -> None:
        """
        @param rate: maximum number of answers per second to one source, 1 or more.
            Default: 1,000.
        @param sources: maximum number of sources that are answered within one second, 1 or
            more. Memory is proportional to it. Default: 65,536.
        @param ports: number of sockets that echo on each port. Default: those of this
            process.
        @raise TypeError: if C{rate} or C{sources} is of another type.
        @raise ValueError: if C{rate} or C{sources} is out of its range.
        """
        checkRate("rate", rate, 1)
        checkWhole("sources", sources)
        self.ports = ports
        self._rate = rate
        self._sources = sources
        # Of each source: the tokens in its bucket, and the time of its last datagram. After
        # a second without datagrams, a bucket is full, and can be removed.
        self._buckets: dict[str | bytes, tuple[float, float]] = {}
        self._tidiedAt = 0.0

    def refusal(
        self, host: str, port: int, seconds: float, info: PacketInfo = NO_PACKET_INFO
    ) -> DatagramRefusal | None:
        """
        Return why a datagram is not answered. C{None}: answer it.

        @param host: the source address, which can be forged.
        @param port: the source port.
        @param seconds: the current time.
        @param info: the destination and the hop limit, where the system reports them.
        """
        if info.toMany:
            return DatagramRefusal.TO_MANY
        if port < LOWEST_PORT:
            return DatagramRefusal.LOW_PORT
        if self.ports[port]:
            return DatagramRefusal.OWN_PORT
        if info.hopLimit in ANSWERS:
            return DatagramRefusal.CIRCLES
        source = self._source(host)
        return None if source is None else self._overRate(source, seconds)

    def _overRate(self, source: str | bytes, seconds: float) -> DatagramRefusal | None:
        bucket = self._buckets.get(source)
        if bucket is None:
            if not self._hasRoom(seconds):
                return DatagramRefusal.SOURCES
            left = self._rate
        else:
            left, then = bucket
            # If the clock is set back, no time has passed.
            left = min(self._rate, left + self._rate * max(seconds - then, 0.0))
        over = left < 1
        self._buckets[source] = (left if over else left - 1, seconds)
        return DatagramRefusal.RATE if over else None

    def _hasRoom(self, seconds: float) -> bool:
        """
        Return whether there is room for another source. Once a second, full buckets are
        removed to make room.
        """
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
        """Return the source that the rate limit counts for. C{None}: there is no limit."""
        if ":" in host:
            packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
            if not packed.startswith(MAPPED_PREFIX):
                return None if host == "::1" else packed[:_PREFIX_SIZE]
            # An IPv4 address, as an IPv6 socket reports it.
            host = socket.inet_ntoa(packed[len(MAPPED_PREFIX) :])
        return None if host.startswith("127.") else host
