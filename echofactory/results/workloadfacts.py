"""
The description of a workload in the results.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class WorkloadFacts:
    """The C{workload} object of the JSON."""

    kind: str
    """C{"messages"}: the messages are a list; C{"generated"}: they are generated."""
    size: int | None
    """Bytes of each generated message; C{None}: the messages are a list."""
    count: int | None
    """Messages per connection; C{None}: the duration decides."""
    bytes: int | None
    """Bytes per connection; C{None}: the duration decides."""
    durationS: float | None
    """Seconds of sending after the warm-up; C{None}: the count decides."""
    window: int | None
    """Messages outstanding per connection; C{None}: no limit."""
    churn: bool
    """Whether the client opens a new connection for every message."""
    halfClose: bool
    """Whether the client closes its sending side after the last message of a connection."""
    holdS: float
    """Seconds that a connection stays open after its last message is back."""
    warmUpS: float = 0.0
    """Seconds of sending before the measurement."""
    reconnect: bool = False
    """Whether the client opens a connection that has failed again."""

    def asJSON(self) -> dict[str, object]:
        """Return the object."""
        return {
            "kind": self.kind,
            "size": self.size,
            "count": self.count,
            "bytes": self.bytes,
            "duration_s": self.durationS,
            "window": self.window,
            "churn": self.churn,
            "half_close": self.halfClose,
            "hold_s": self.holdS,
            "warm_up_s": self.warmUpS,
            "reconnect": self.reconnect,
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "WorkloadFacts":
        """Return what L{asJSON} wrote."""
        return cls(
            kind=written["kind"],
            size=written["size"],
            count=written["count"],
            bytes=written["bytes"],
            durationS=written["duration_s"],
            window=written["window"],
            churn=written["churn"],
            halfClose=written["half_close"],
            holdS=written["hold_s"],
            warmUpS=written["warm_up_s"],
            reconnect=written["reconnect"],
        )
