"""
The kernel's view of a TCP connection: C{TCP_INFO} (tcp(7)).
"""

import socket
import struct
from typing import Any, NamedTuple

# Offsets in struct tcp_info (linux/tcp.h). New fields are added only at its end.
_WORD = struct.Struct("=I")
_LOST = 32
_RTT = 68
_RETRANSMITS = 100
_REORDERING = 220
_SIZE = 224


class KernelView(NamedTuple):
    """
    The state of one connection at the time of the call.

    @ivar retransmits: retransmitted segments since the connection was made.
    @ivar lost: segments that the kernel now considers lost.
    @ivar reordering: how often segments arrived out of order. C{None}: the kernel does not
        count them (Linux before 4.19).
    @ivar rttUs: the kernel's estimate of the round-trip time, in microseconds.
    """

    retransmits: int
    lost: int
    reordering: int | None
    rttUs: int


def parse(info: bytes) -> KernelView:
    """
    Read C{struct tcp_info}.

    @raise ValueError: if the data is too short.
    """
    if len(info) < _RETRANSMITS + _WORD.size:
        raise ValueError(f"{len(info)} bytes are too short for tcp_info")

    def word(at: int) -> int:
        value: int = _WORD.unpack_from(info, at)[0]
        return value

    return KernelView(
        word(_RETRANSMITS),
        word(_LOST),
        word(_REORDERING) if len(info) >= _REORDERING + _WORD.size else None,
        word(_RTT),
    )


def kernelView(transport: Any) -> KernelView | None:
    """Return the kernel's view of a transport's connection; C{None}: it is not available."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    # The transport below TLS, if there is TLS.
    lowest = getattr(transport, "transport", transport)
    try:
        info = lowest.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except (AttributeError, OSError):
        # The socket is closed already, or is not a TCP socket.
        return None
    return parse(info)
