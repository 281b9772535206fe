"""
The settings of a run of the client: its timeouts, and how it opens connections.
"""

from dataclasses import dataclass

from echofactory.net.keepalive import DEFAULT_KEEP_ALIVE, checkKeepAlive
from echofactory.values.checks import (
    checkAddress,
    checkItems,
    checkRate,
    checkSeconds,
    checkType,
)


@dataclass(frozen=True, kw_only=True)
class Patience:
    """
    The timeouts of a connection. If something takes longer, the connection fails.

    The connections are looked at ten times within the shorter timeout, so a timeout can fire
    up to 10 % of it late. Time in which this process did not run does not count.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    connect: float = 10.0
    """Seconds to establish a connection, TLS handshake included: more than 0, at most 1e9, by
    default 10."""
    reply: float = 10.0
    """Seconds to receive the next byte while a message is outstanding: more than 0, at
    most 1e9, by default 10."""
    keepAlive: float = DEFAULT_KEEP_ALIVE
    """The longest time in seconds without a byte, after which the kernel probes whether a TCP
    peer is alive (L{keepAlive<echofactory.net.keepalive.keepAlive>}): from 1 to 32,767, by
    default 60. 0: it does not probe."""

    def __post_init__(self) -> None:
        checkKeepAlive(self.keepAlive)
        for name in ("connect", "reply"):
            checkSeconds(name, getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Opening:
    """
    How connections are asked for.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    rate: float | None = None
    """Connections a second; C{None}, the default: as fast as the reactor takes them."""
    addresses: tuple[str, ...] = ()
    """Source addresses, used in turn; none, the default: the kernel chooses."""

    def __post_init__(self) -> None:
        if self.rate is not None:
            checkRate("rate", self.rate)
        checkType("addresses", self.addresses, tuple, "a tuple of IP addresses")
        checkItems("addresses", self.addresses, "IP addresses", checkAddress)
