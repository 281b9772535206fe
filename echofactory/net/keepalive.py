"""
TCP keepalive (RFC 9293, section 3.8.4). It ends a connection whose peer no longer exists.
Without keepalive, such a connection stays open for ever.
"""

import socket
from contextlib import suppress
from itertools import count
from math import ceil
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

from echofactory.net.transport import IEchoTransport, lowestTransport
from echofactory.values.checks import checkNumber

DEFAULT_KEEP_ALIVE = 60.0
"""Seconds. The default of Linux is two hours."""

PROBES = 4
"""Number of unanswered probes after which the kernel closes the connection."""

MAX_KEEP_ALIVE = 32_767.0
"""Seconds: the limit of Linux."""

# Linux has these options. Other systems may lack some.
_IDLE = getattr(socket, "TCP_KEEPIDLE", None)
_INTERVAL = getattr(socket, "TCP_KEEPINTVL", None)
_COUNT = getattr(socket, "TCP_KEEPCNT", None)

_turns = count()


def checkKeepAlive(seconds: float) -> None:
    """
    @raise TypeError: if the value is not a number.
    @raise ValueError: if the value is neither 0 nor from 1 to L{MAX_KEEP_ALIVE} seconds.
    """
    checkNumber(
        "keepAlive",
        seconds,
        lambda number: number == 0 or 1 <= number <= MAX_KEEP_ALIVE,
        f"0 s, or from 1 s to {MAX_KEEP_ALIVE:,.0f} s",
    )


def keepAlive(transport: IEchoTransport, seconds: float) -> None:
    """
    Make the kernel probe a silent TCP peer. If L{PROBES} probes have no answer, the kernel
    closes the connection. While bytes wait for the peer, the kernel retransmits them instead
    of sending probes. It gives up after C{tcp_retries2} retransmissions.

    C{TCP_USER_TIMEOUT} (RFC 5482) is not set. It would give up sooner, but Linux would then
    also close the connection of a live peer that does not read. A server with backpressure
    has to wait for such a peer.

    @param seconds: the longest idle time before the first probe (L{spreadProbes}). The time
        between two probes is a quarter of it, and at least 1 s. 0: no probes.
    """
    lowest: Any = lowestTransport(transport)
    if not seconds or not isinstance(lowest.getPeer(), IPv4Address | IPv6Address):
        return
    handle: socket.socket = lowest.getHandle()
    # Over a UNIX socket, a proxy may name a TCP peer.
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    keepSocketAlive(handle, seconds, _ownIdle(seconds))


def spreadProbes(handle: socket.socket, seconds: float) -> None:
    """
    Give a connection a first probe of its own time: after half of C{seconds} or later.

    Otherwise, the connections that became silent together send their probes together. From
    the loopback interface, and between containers, the kernel then drops all but 1,000
    (C{net.core.netdev_max_backlog}). Of 19,000 silent connections, 14,967 were lost after two
    minutes, although their peer was there.

    @param seconds: the longest idle time before the first probe; 0: no probes.
    """
    if not seconds or _IDLE is None:
        return
    # The peer may have reset the connection.
    with suppress(OSError):
        handle.setsockopt(socket.IPPROTO_TCP, _IDLE, _ownIdle(seconds))


def _ownIdle(seconds: float) -> int:
    """Return the idle time before the first probe of the next connection, in seconds."""
    longest = ceil(seconds)
    return longest - next(_turns) % (longest // 2 + 1)


def keepSocketAlive(handle: socket.socket, seconds: float, idle: int | None = None) -> None:
    """
    Set the options of a TCP socket. On Linux, connections inherit them from a listening socket.

    @param seconds: as for L{keepAlive}.
    @param idle: the idle time before the first probe, in seconds; C{None}: the longest.
    @raise OSError: if the kernel refuses an option.
    """
    if not seconds:
        return
    interval = ceil(seconds / PROBES)
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (_IDLE, idle or ceil(seconds)),
        (_INTERVAL, interval),
        (_COUNT, PROBES),
    ):
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
