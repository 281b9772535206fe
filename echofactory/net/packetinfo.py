"""
What the kernel reports with a datagram: its destination and its hop limit. Pure: it reads and
makes control messages.
"""

import socket
import struct
from functools import lru_cache
from typing import NamedTuple

FAR_HOP_LIMIT = 194
"""Hop limit of half of the answers, chosen at random. Hosts send with 64, 128 or 255. Over at
most 60 hops, only such an answer can arrive with a hop limit from 131 to 194."""
NEAR_HOP_LIMIT = 64
"""Hop limit of the other half. These answers reach only hosts fewer than 64 hops away."""

MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""The prefix of an IPv4-mapped IPv6 address (RFC 4291, section 2.5.5.2)."""

# Options of Linux. Python has no names for some of them. The structure of IP_PKTINFO is
# the interface, the local address for an answer, and the destination address.
PKTINFO = (socket.IPPROTO_IP, 8)
_INFO = struct.Struct("=I4s4s")
_PKTINFO_6 = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
_INFO_6 = struct.Struct("=16sI")
_TTL = (socket.IPPROTO_IP, socket.IP_TTL)
RECVTTL = (socket.IPPROTO_IP, 12)
_HOPLIMIT = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)
_HOPS = struct.Struct("=i")

Control = tuple[int, int, bytes]
"""A control message of a socket: level, type and data."""


class PacketInfo(NamedTuple):
    """
    How a datagram arrived.

    @ivar toMany: whether the destination is a broadcast or multicast address.
    @ivar hopLimit: the hop limit with which the datagram arrived; C{None}: not known.
    @ivar replyControl: the control messages of an answer, for L{NEAR_HOP_LIMIT} and for
        L{FAR_HOP_LIMIT}. Both set the source address to the destination of the datagram.
    """

    toMany: bool = False
    hopLimit: int | None = None
    replyControl: tuple[tuple[Control, ...], tuple[Control, ...]] = ((), ())


NO_PACKET_INFO = PacketInfo()
"""For a system that reports nothing with a datagram."""


@lru_cache(maxsize=1024)
def packetInfo(*control: Control) -> PacketInfo:
    """Read the control messages of a datagram."""
    toMany = False
    hops = None
    back: list[Control] = []
    near: list[Control] = []
    far: list[Control] = []
    for level, kind, value in control:
        if (level, kind) == PKTINFO:
            # For a broadcast, the local address for an answer is another address.
            _, local, to = _INFO.unpack(value)
            toMany |= local != to
            back.append((level, kind, _INFO.pack(0, local, bytes(4))))
        elif (level, kind) == _PKTINFO_6 and not value.startswith(MAPPED_PREFIX):
            to, interface = _INFO_6.unpack(value)
            toMany |= to[0] == 0xFF
            # The route is free, except for a link-local address, which needs its link.
            linkLocal = to[0] == 0xFE and to[1] & 0xC0 == 0x80
            back.append((level, kind, _INFO_6.pack(to, interface if linkLocal else 0)))
        elif (level, kind) in (_TTL, _HOPLIMIT):
            (hops,) = _HOPS.unpack(value)
            near.append((level, kind, _HOPS.pack(NEAR_HOP_LIMIT)))
            far.append((level, kind, _HOPS.pack(FAR_HOP_LIMIT)))
    return PacketInfo(toMany, hops, ((*back, *near), (*back, *far)))
