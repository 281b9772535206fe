"""
Which connections are idle: no byte has moved either way for some time.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ

from echofactory.net.transport import lowestTransport
from echofactory.server.echo import Echo

LOOKS = 20
"""Times that a connection is looked at within the time after which it is idle."""

_INT = struct.Struct("i")


def unsent(echo: Echo) -> tuple[int, int]:
    """
    Return how many bytes wait for the kernel, and how many wait in it for the peer.
    Only a peer that reads makes either less, and while nothing is sent, neither
    grows but by what the other loses.
    """
    transport = lowestTransport(echo.transport)
    queued = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    unread = 0
    with suppress(OSError, ValueError):
        (unread,) = _INT.unpack(ioctl(transport.fileno(), TIOCOUTQ, bytes(_INT.size)))
    return queued, unread


def _traffic(echo: Echo) -> tuple[int, ...]:
    """
    Return what changes with every byte that moves: those that came, those that were
    sent, and of them those that are still here.
    """
    return echo.bytesIn, echo.bytesOut, *unsent(echo)


class IdleSweep:
    """
    Looks at the connections now and then, and finds those that are idle: a timer
    for each, set anew with every message, would cost more than the message. It counts
    its looks, and does not ask what time it is: while this process, or its machine,
    stands still, nothing becomes idle.
    """

    def __init__(self) -> None:
        # What was seen of each, and at how many looks it has been the same.
        self._seen: dict[Echo, tuple[tuple[int, ...], int]] = {}

    def sweep(self, connections: Iterable[Echo]) -> list[Echo]:
        """
        Return those of which nothing has moved for L{LOOKS} looks.

        @param connections: all that are open.
        """
        seen = {}
        idle = []
        for echo in connections:
            traffic = _traffic(echo)
            before, looks = self._seen.get(echo, (None, 0))
            looks = looks + 1 if before == traffic else 0
            if looks >= LOOKS:
                idle.append(echo)
            seen[echo] = traffic, looks
        self._seen = seen
        return idle

    def forget(self) -> None:
        """None is open any more."""
        self._seen = {}
