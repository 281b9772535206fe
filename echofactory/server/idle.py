"""
Which connections are idle: no byte has moved in either direction for some time.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ

from echofactory.express.tls import LaneTLS
from echofactory.net.transport import lowestTransport
from echofactory.server.echo import Echo

CHECKS = 20
"""Checks of a connection in one idle timeout. A connection is idle if nothing has changed
at this many checks in a row."""

_INT = struct.Struct("i")


def unsent(echo: Echo) -> tuple[int, int]:
    """
    Return how many bytes wait in the transport, and how many wait in the kernel for the
    peer (C{TIOCOUTQ}, see tcp(7)). If nothing is sent, the sum only shrinks, and only if
    the peer reads.
    """
    unread = 0
    with suppress(OSError, ValueError):
        descriptor = lowestTransport(echo.transport).fileno()
        (unread,) = _INT.unpack(ioctl(descriptor, TIOCOUTQ, bytes(_INT.size)))
    return queuedBytes(echo), unread


def queuedBytes(echo: Echo) -> int:
    """Return how many bytes wait in the transport."""
    transport = lowestTransport(echo.transport)
    queued: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    if isinstance(echo.transport, LaneTLS):
        queued += echo.transport.queuedBytes
    return queued


def _traffic(echo: Echo) -> tuple[int, ...]:
    """
    Return numbers that change with every byte that moves: bytes received, bytes sent, and
    the L{unsent} bytes.
    """
    return echo.bytesIn, echo.bytesOut, *unsent(echo)


class IdleDetector:
    """
    Finds idle connections by checking all of them at intervals. A timer per connection
    costs more: each message would have to reset it.

    The detector counts checks and reads no clock. If the process or the machine is
    suspended, no connection becomes idle.
    """

    def __init__(self) -> None:
        # Of each connection: the numbers at the last check, and how many checks in a row
        # have found the same numbers.
        self._seen: dict[Echo, tuple[tuple[int, ...], int]] = {}

    def check(self, connections: Iterable[Echo]) -> list[Echo]:
        """
        Return the connections on which nothing has moved at L{CHECKS} checks in a row.

        @param connections: all open connections.
        """
        seen = {}
        idle = []
        for echo in connections:
            traffic = _traffic(echo)
            before, unchanged = self._seen.get(echo, (None, 0))
            unchanged = unchanged + 1 if before == traffic else 0
            if unchanged >= CHECKS:
                idle.append(echo)
            seen[echo] = traffic, unchanged
        self._seen = seen
        return idle

    def clear(self) -> None:
        """Forget all connections. Call this when no connection is open."""
        self._seen = {}
