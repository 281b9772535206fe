"""
What became of segments and datagrams on their way, as the kernel and the replies tell.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(kw_only=True)
class Kernel:
    """
    What the kernel saw, summed over the connections that it was asked about just
    before they closed (L{echofactory.net.tcpinfo}).
    """

    connections: int = 0
    retransmits: int = 0
    lost: int = 0
    reordering: int | None = None
    rttUsLeast: int = 0
    rttUsTotal: int = 0
    rttUsMost: int = 0

    def add(self, retransmits: int, lost: int, reordering: int | None, rttUs: int) -> None:
        """Add what it saw of one connection."""
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
        """Add what it saw of other connections."""
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
        """Return the JSON's C{tcp}; C{None} if the kernel said nothing."""
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
        """Return what C{asJSON} wrote."""
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
    What became of datagrams on their way.

    @ivar lost: messages that had no reply within the time given.
    @ivar repeated: replies that came again (RFC 5560).
    @ivar reordered: replies that came after that to a later message (RFC 4737).
    """

    lost: int = 0
    repeated: int = 0
    reordered: int = 0

    def merge(self, other: "Datagrams") -> None:
        """Add what became of others."""
        self.lost += other.lost
        self.repeated += other.repeated
        self.reordered += other.reordered
