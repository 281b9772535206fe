"""
TCP keepalive (RFC 9293, section 3.8.4). It ends a connection whose peer has vanished: such
a connection stays open for ever otherwise.
"""

import socket
from math import ceil
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address

from echofactory.net.transport import IEchoTransport, lowestTransport
from echofactory.values.checks import checkNumber

DEFAULT_KEEP_ALIVE = 60.0
"""Seconds. Linux's own choice is two hours."""

PROBES = 4
"""Probes without an answer, after which the connection is lost."""

MAX_KEEP_ALIVE = 32_767.0
"""Seconds: Linux takes no more."""

# Linux's; not every system has them.
_IDLE = getattr(socket, "TCP_KEEPIDLE", None)
_INTERVAL = getattr(socket, "TCP_KEEPINTVL", None)
_COUNT = getattr(socket, "TCP_KEEPCNT", None)


def checkKeepAlive(seconds: float) -> None:
    """
    @raise TypeError: if it is no number.
    @raise ValueError: if it is neither 0 nor from 1 to L{MAX_KEEP_ALIVE} seconds.
    """
    checkNumber(
        "keepAlive",
        seconds,
        lambda number: number == 0 or 1 <= number <= MAX_KEEP_ALIVE,
        f"0 s, nor from 1 s to {MAX_KEEP_ALIVE:,.0f} s",
    )


def keepAlive(transport: IEchoTransport, seconds: float) -> None:
    """
    Have the kernel probe a TCP peer from which nothing comes, and give the connection up
    if L{PROBES} probes have no answer. While bytes wait for the peer, the kernel sends those
    again instead, and gives up when it has done so often enough (C{tcp_retries2}).

    C{TCP_USER_TIMEOUT} (RFC 5482) would end that sooner. But Linux also ends the connection
    of a peer that lives and only does not read, and a server with backpressure waits for one.

    @param seconds: without a byte before the first probe; the time between two probes is a
        quarter of that, 1 s at least. 0: no probes.
    """
    lowest: Any = lowestTransport(transport)
    if not seconds or not isinstance(lowest.getPeer(), IPv4Address | IPv6Address):
        return
    handle: socket.socket = lowest.getHandle()
    # A proxy may name such a peer over a UNIX socket.
    if handle.family not in (socket.AF_INET, socket.AF_INET6):
        return
    idle = ceil(seconds)
    interval = ceil(seconds / PROBES)
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (_IDLE, idle),
        (_INTERVAL, interval),
        (_COUNT, PROBES),
    ):
        if option is not None:
            handle.setsockopt(socket.IPPROTO_TCP, option, value)
