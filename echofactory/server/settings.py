"""
What a server is told: its limits, and all else that its processes have in common.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from echofactory.net.keepalive import DEFAULT_KEEP_ALIVE, checkKeepAlive
from echofactory.net.tracing import Trace
from echofactory.server.faults.settings import Faults, Stall
from echofactory.values.checks import checkSeconds, checkType, checkWhole


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What a server takes on.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    connections: int | None = None
    """Open at once; what comes on top is refused. C{None}: no limit."""
    perHost: int | None = None
    """The same, of one host (L{limitKey}). A UNIX socket's peers have none, and no
    limit."""
    idle: float | None = None
    """Seconds without a byte either way, after which a connection is cut; it may
    take a tenth longer. A peer that only refuses to read is idle too. C{None}: no
    limit."""
    keepAlive: float = DEFAULT_KEEP_ALIVE
    """Seconds without a byte, after which the kernel asks whether a TCP peer is still there
    (L{keepAlive}), from 1 to 32,767. 0: it does not ask."""

    def __post_init__(self) -> None:
        for name in ("connections", "perHost"):
            if (value := getattr(self, name)) is not None:
                checkWhole(name, value)
        if self.idle is not None:
            checkSeconds("idle", self.idle)
        checkKeepAlive(self.keepAlive)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """
    How connections are served, whichever process serves them: the command line makes one of
    it, and it travels to the workers as JSON.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    limits: Limits = field(default_factory=Limits)
    """What the server takes on. With workers, each has its share of the connections."""
    trace: Trace = Trace.NONE
    """What the log tells of each connection."""
    drain: float = 5.0
    """Seconds that a stop waits for open connections, before it cuts them; 0: none."""
    faults: Faults | None = None
    """How the server misbehaves on purpose; C{None}: it does not."""
    faultSeed: int | None = None
    """The seed of the faults, from 0 to 10**18; C{None}: a random one."""
    express: bool = True
    """Whether connections are served on the fast lane."""

    def __post_init__(self) -> None:
        checkType("limits", self.limits, Limits)
        checkType("trace", self.trace, Trace)
        checkSeconds("drain", self.drain, zero=True)
        if self.faults is not None:
            checkType("faults", self.faults, Faults)
        if self.faultSeed is not None:
            checkWhole("faultSeed", self.faultSeed, 0)
            if self.faults is None:
                raise ValueError("faultSeed: there are no faults that it could be of")
        checkType("express", self.express, bool, "True or False")

    def asJSON(self) -> dict[str, Any]:
        """Return what L{fromJSON} reads."""
        return asdict(self)

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "ServerSettings":
        """Return the settings that L{asJSON} wrote."""
        faults = written["faults"]
        if faults is not None:
            stall = faults["stall"]
            faults = Faults(**faults | {"stall": stall and Stall(**stall)})
        return cls(
            **written
            | {
                "limits": Limits(**written["limits"]),
                "trace": Trace(written["trace"]),
                "faults": faults,
            }
        )

    def shareOf(self, number: int, count: int) -> "ServerSettings":
        """
        Return the settings of one worker: its share of the connections.

        @param number: of the worker, from 1.
        @param count: of the workers.
        """
        total = self.limits.connections
        if total is None:
            return self
        share = total * number // count - total * (number - 1) // count
        return replace(self, limits=replace(self.limits, connections=share))
