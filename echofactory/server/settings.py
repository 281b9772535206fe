"""
The settings of a server: its limits, and what else all its processes share.
"""

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from echofactory.net.keepalive import DEFAULT_KEEP_ALIVE, checkKeepAlive
from echofactory.net.socketoptions import SocketOptions
from echofactory.net.tracing import Trace
from echofactory.server.faults.settings import Faults, Stall
from echofactory.values.checks import checkSeconds, checkType, checkWhole


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    The limits of a server.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    connections: int | None = None
    """Maximum number of open connections, 1 or more. Further connections are refused.
    C{None} (default): no limit."""
    perHost: int | None = None
    """Maximum number of open connections of one host (L{limitKey}), 1 or more. Peers of a
    UNIX socket have no host and no limit. Each worker counts its own connections. C{None}
    (default): no limit."""
    idle: float | None = None
    """Idle timeout: seconds without a byte in either direction, more than 0, after which a
    connection is aborted. It is aborted up to 10 % later. A peer that does not read is idle,
    too. C{None} (default): no timeout."""
    keepAlive: float = DEFAULT_KEEP_ALIVE
    """The longest time in seconds without a byte before the kernel sends a keepalive probe to a
    TCP peer (L{keepAlive}), from 1 to 32,767. 0: no probes. Default: 60."""

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
    The settings that all processes of a server share. The command line makes them, and the
    workers receive them as JSON.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    limits: Limits = field(default_factory=Limits)
    """The limits on connections. With workers, each has its share of
    L{Limits.connections}, and one that is full leaves connections to the others. Default:
    those of L{Limits}."""
    trace: Trace = Trace.NONE
    """What is logged of each connection. Default: nothing."""
    drain: float = 5.0
    """Seconds that a stop waits for open connections before it aborts them, 0 or more.
    Default: 5."""
    faults: Faults | None = None
    """Faults on purpose. C{None} (default): none."""
    faultSeed: int | None = None
    """Seed of the faults, from 0 to 10**18. C{None} (default): a random seed."""
    express: bool = True
    """Whether connections are served on the fast lane (L{echofactory.express}).
    Default: yes."""
    sockets: SocketOptions = field(default_factory=SocketOptions)
    """The options of the sockets. Default: the kernel's."""

    def __post_init__(self) -> None:
        checkType("limits", self.limits, Limits)
        checkType("trace", self.trace, Trace)
        checkSeconds("drain", self.drain, zero=True)
        if self.faults is not None:
            checkType("faults", self.faults, Faults)
        if self.faultSeed is not None:
            checkWhole("faultSeed", self.faultSeed, 0)
            if self.faults is None:
                raise ValueError("faultSeed: a seed needs faults")
        checkType("express", self.express, bool, "True or False")
        checkType("sockets", self.sockets, SocketOptions)

    def asJSON(self) -> dict[str, Any]:
        """Return the settings as a JSON object, which L{fromJSON} reads."""
        return asdict(self)

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "ServerSettings":
        """Return the settings from the JSON object that L{asJSON} returned."""
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
                "sockets": SocketOptions(**written["sockets"]),
            }
        )

    def shareOf(self, number: int, count: int) -> "ServerSettings":
        """
        Return the settings of one worker, with its share of the connection limit.

        @param number: number of the worker, from 1.
        @param count: number of workers.
        """
        total = self.limits.connections
        if total is None:
            return self
        share = total * number // count - total * (number - 1) // count
        return replace(self, limits=replace(self.limits, connections=share))
