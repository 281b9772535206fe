"""
Which datagrams an echo over UDP answers.

A datagram's source address can be forged. An echo that answers whatever comes can be
made to talk to another such service, or to itself, without end (CERT CA-1996-01,
CVE-1999-0103, VU#417980), and to send what it is sent on to someone who never asked.
"""

import socket
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum

from echofactory.net.udp import (
    FAR_HOP_LIMIT,
    MAPPED_PREFIX,
    NEAR_HOP_LIMIT,
    NO_PACKET_INFO,
    PacketInfo,
)
from echofactory.values.checks import checkRate, checkWhole

LOWEST_PORT = 1024
"""Below it are the well-known services, many of which answer anything."""
DEFAULT_RATE_PER_SOURCE = 1_000.0
"""Datagrams a second that are answered to one source address, and how many at once."""
MOST_SOURCES = 65_536
"""Source addresses that are answered within a second."""
ANSWERS = range(FAR_HOP_LIMIT - NEAR_HOP_LIMIT + 1, FAR_HOP_LIMIT + 1)
"""What an answer of L{FAR_HOP_LIMIT} arrives with, after fewer than L{NEAR_HOP_LIMIT} hops."""
_PREFIX_SIZE = 8


class DatagramRefusal(StrEnum):
    """Why a datagram is not answered."""

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
    DatagramRefusal.OWN_PORT: "from a port that is echoed here",
    DatagramRefusal.CIRCLES: "in a loop between two such servers",
    DatagramRefusal.RATE: "over the rate of their source",
    DatagramRefusal.SOURCES: "from too many sources at once",
    DatagramRefusal.UNSENT: "that the system would not send",
}
"""What that means."""


ECHOED_PORTS: Counter[int] = Counter()
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

    Two servers of this kind that are set on each other stop soon. Each answer has a hop
    limit of L{FAR_HOP_LIMIT} or of L{NEAR_HOP_LIMIT}, at random. If the path has fewer than
    L{NEAR_HOP_LIMIT} hops, a far answer is known by the hop limit that it arrives with
    (L{ANSWERS}), and is not answered. If the path is longer, a near answer does not arrive.
    So each turn is the last one with a probability of one half. This needs Linux, and a path
    that leaves hop limits alone. A loop with another program that echoes is bounded by the
    rate only.

    @ivar ports: how many sockets echo on each.
    """

    def __init__(
        self,
        rate: float = DEFAULT_RATE_PER_SOURCE,
        sources: int = MOST_SOURCES,
        ports: Counter[int] = ECHOED_PORTS,
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
        self, host: str, port: int, seconds: float, info: PacketInfo = NO_PACKET_INFO
    ) -> DatagramRefusal | None:
        """
        Tell why a datagram is not to be answered; C{None}: it is.

        @param host: where it says that it comes from.
        @param seconds: what time it is.
        @param info: how it came.
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
            # A clock that is set back stands still for that.
            left = min(self._rate, left + self._rate * max(seconds - then, 0.0))
        over = left < 1
        self._buckets[source] = (left if over else left - 1, seconds)
        return DatagramRefusal.RATE if over else None

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
            if not packed.startswith(MAPPED_PREFIX):
                return None if host == "::1" else packed[:_PREFIX_SIZE]
            # IPv4, to a socket of both.
            host = socket.inet_ntoa(packed[len(MAPPED_PREFIX) :])
        return None if host.startswith("127.") else host
