"""
Retransmission, loss and reordering on the path, as the kernel and the replies show them.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class Kernel:
    """
    The kernel's view of TCP connections (L{echofactory.net.tcpinfo}), summed over the
    connections. The kernel is asked just before a connection closes.

    @ivar connections: connections about which the kernel was asked.
    @ivar retransmits: retransmitted segments.
    @ivar lost: segments that the kernel considered lost.
    @ivar reordering: how often segments arrived out of order; C{None}: not known.
    @ivar rttUsLeast: the lowest estimate of the round-trip time, in microseconds.
    @ivar rttUsTotal: the sum of the estimates, in microseconds.
    @ivar rttUsMost: the highest estimate, in microseconds.
    """

    connections: int = 0
    retransmits: int = 0
    lost: int = 0
    reordering: int | None = None
    rttUsLeast: int = 0
    rttUsTotal: int = 0
    rttUsMost: int = 0

    def add(self, retransmits: int, lost: int, reordering: int | None, rttUs: int) -> None:
        """Add the kernel's view of one connection."""
        self.merge(
            Kernel(
                connections=1,
                retransmits=retransmits,
                lost=lost,
                reordering=reordering,
                rttUsLeast=rttUs,
                rttUsTotal=rttUs,
                rttUsMost=rttUs,
            )
        )

    def merge(self, other: "Kernel") -> None:
        """Add the kernel's view of other connections."""
        if not other.connections:
            return
        if not self.connections or other.rttUsLeast < self.rttUsLeast:
            self.rttUsLeast = other.rttUsLeast
        self.rttUsMost = max(self.rttUsMost, other.rttUsMost)
        self.rttUsTotal += other.rttUsTotal
        self.connections += other.connections
        self.retransmits += other.retransmits
        self.lost += other.lost
        if other.reordering is not None:
            self.reordering = (self.reordering or 0) + other.reordering

    def asJSON(self) -> dict[str, object] | None:
        """Return the JSON's C{tcp}; C{None}: the kernel was not asked."""
        if not self.connections:
            return None
        return {
            "connections": self.connections,
            "retransmits": self.retransmits,
            "lost": self.lost,
            "reordering": self.reordering,
            "rtt_us": {
                "min": self.rttUsLeast,
                "mean": self.rttUsTotal / self.connections,
                "max": self.rttUsMost,
            },
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any] | None) -> "Kernel":
        """Read the JSON's C{tcp}."""
        if written is None:
            return cls()
        rtt = written["rtt_us"]
        return cls(
            connections=written["connections"],
            retransmits=written["retransmits"],
            lost=written["lost"],
            reordering=written["reordering"],
            rttUsLeast=rtt["min"],
            rttUsTotal=round(rtt["mean"] * written["connections"]),
            rttUsMost=rtt["max"],
        )


@dataclass(kw_only=True)
class Datagrams:
    """
    Loss, repetition and reordering of datagrams.

    @ivar lost: messages without a reply within the reply timeout.
    @ivar repeated: replies that arrived more than once (RFC 5560).
    @ivar reordered: replies that arrived after the reply to a later message (RFC 4737).
    """

    lost: int = 0
    repeated: int = 0
    reordered: int = 0

    def merge(self, other: "Datagrams") -> None:
        """Add the counts of another run."""
        self.lost += other.lost
        self.repeated += other.repeated
        self.reordered += other.reordered
