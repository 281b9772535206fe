"""
Socket filters of Linux (socket(7), C{SO_ATTACH_FILTER}): which segments a TCP socket accepts.
"""

import ctypes
import socket
import struct
import sys

_SO_ATTACH_FILTER = 26


def _code(operation: int, ifTrue: int, ifFalse: int, operand: int) -> bytes:
    return struct.pack("HBBI", operation, ifTrue, ifFalse, operand)


_DROP = _code(0x06, 0, 0, 0)
_TAKE = _code(0x06, 0, 0, 0xFFFFFFFF)

NOTHING = (_DROP,)
"""Accepts no segment."""

NO_SYN = (
    _code(0x30, 0, 0, 13),  # Load the byte of the flags.
    _code(0x54, 0, 0, 0x12),  # Keep SYN and ACK.
    _code(0x15, 0, 1, 0x02),
    _DROP,
    _TAKE,
)
"""Drops a SYN without ACK. No handshake can begin, but a handshake under way can complete."""


def attachFilter(handle: socket.socket, codes: tuple[bytes, ...]) -> None:
    """
    Attach a filter to a socket. On other systems than Linux, do nothing.

    @raise OSError: if the kernel does not support socket filters.
    """
    if sys.platform != "linux":
        return
    instructions = ctypes.create_string_buffer(b"".join(codes))
    program = struct.pack("HP", len(codes), ctypes.addressof(instructions))
    handle.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
