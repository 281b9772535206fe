"""
What a run of the client is told about time and about opening connections.
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
    How long to wait, in seconds; what takes longer has failed. The connections are
    looked at ten times in the shorter of the two, so that a timeout can fire up to 10 %
    late. If this process did not run for some time, it first reads what has come
    meanwhile: a failure is never its own standstill.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    connect: float = 10.0
    """From asking for a connection to being connected, TLS handshake included."""
    reply: float = 10.0
    """For the next byte, while something is outstanding."""
    keepAlive: float = DEFAULT_KEEP_ALIVE
    """Seconds without a byte, after which the kernel asks whether a TCP peer is still there
    (L{keepAlive<echofactory.net.keepalive.keepAlive>}), from 1 to 32,767. 0: it does not."""

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
    """So many a second; C{None}: all at once."""
    addresses: tuple[str, ...] = ()
    """This machine's, to connect from in turn; none: the system chooses."""

    def __post_init__(self) -> None:
        if self.rate is not None:
            checkRate("rate", self.rate)
        checkType("addresses", self.addresses, tuple, "a tuple of IP addresses")
        checkItems("addresses", self.addresses, "IP addresses", checkAddress)
