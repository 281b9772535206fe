"""
Which connections are idle: no byte has moved either way for some time.
"""

import struct
from collections.abc import Iterable
from contextlib import suppress
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from echofactory.echo import Echo

_INT = struct.Struct("i")


def _traffic(echo: "Echo") -> tuple[int, ...]:
    """
    Return what changes with every byte that moves: those that came, those that were
    sent, of them those that wait for the kernel, and those that wait in it for the
    peer. Only a peer that reads
    makes either of the last two less, and while nothing is sent, neither grows but
    by what the other loses.
    """
    transport: Any = echo.transport
    # TLS and haproxy: have a transport of their own.
    while (below := getattr(transport, "transport", None)) is not None:
        transport = below
    queued = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    unread = 0
    with suppress(OSError, ValueError):
        (unread,) = _INT.unpack(ioctl(transport.fileno(), TIOCOUTQ, bytes(_INT.size)))
    return echo.bytesIn, echo.bytesOut, queued, unread


class IdleSweep:
    """
    Looks at the connections now and then, and finds those that are idle: a timer
    for each, set anew with every message, would cost more than the message.
    """

    def __init__(self, timeout: float) -> None:
        """
        @param timeout: seconds.
        """
        self.timeout = timeout
        # What was seen of each, and when that was seen first.
        self._seen: dict[Echo, tuple[tuple[int, ...], float]] = {}

    def sweep(self, connections: Iterable["Echo"], now: float) -> "list[Echo]":
        """
        Return those of which nothing has moved for the whole timeout.

        @param connections: all that are open.
        @param now: seconds.
        """
        seen = {}
        idle = []
        for echo in connections:
            traffic = _traffic(echo)
            before, since = self._seen.get(echo, (None, now))
            if before != traffic:
                since = now
            elif now - since >= self.timeout:
                idle.append(echo)
            seen[echo] = traffic, since
        self._seen = seen
        return idle
