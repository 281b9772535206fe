"""
What the kernel saw of a connection: C{TCP_INFO}.
"""

import socket
import struct
from typing import Any, NamedTuple

# Of struct tcp_info (linux/tcp.h), which only ever grows at its end.
_WORD = struct.Struct("=I")
_LOST = 32
_RTT = 68
_RETRANSMITS = 100
_REORDERING = 220
_SIZE = 224


class KernelView(NamedTuple):
    """
    One connection, as it was when it was asked about.

    @ivar retransmits: segments sent again, over the connection's life.
    @ivar lost: segments now held for lost.
    @ivar reordering: times that segments were seen to arrive out of order;
        C{None} from a kernel that does not count them (before Linux 4.19).
    @ivar rttUs: the kernel's own estimate of the round-trip time, in microseconds.
    """

    retransmits: int
    lost: int
    reordering: int | None
    rttUs: int


def parse(info: bytes) -> KernelView:
    """
    Read C{struct tcp_info}.

    @raise ValueError: if it is too short.
    """
    if len(info) < _RETRANSMITS + _WORD.size:
        raise ValueError(f"{len(info)} bytes are no tcp_info")

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
    """Return what the kernel knows of a transport's connection; C{None} if it does not say."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    # The one below TLS, if there is TLS.
    lowest = getattr(transport, "transport", transport)
    try:
        info = lowest.getHandle().getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _SIZE)
    except (AttributeError, OSError):
        # Its socket is closed already, or is none of TCP's.
        return None
    return parse(info)
