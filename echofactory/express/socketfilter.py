"""
Linux's socket filters: which segments a TCP socket takes (socket(7), C{SO_ATTACH_FILTER}).
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
"""Takes no segment."""

NO_SYN = (
    _code(0x30, 0, 0, 13),  # Load the byte of the flags,
    _code(0x54, 0, 0, 0x12),  # of which SYN and ACK are looked at.
    _code(0x15, 0, 1, 0x02),
    _DROP,
    _TAKE,
)
"""Takes no SYN without ACK: nobody can begin a handshake, but one under way can end."""


def attachFilter(handle: socket.socket, codes: tuple[bytes, ...]) -> None:
    """
    Have a socket take only what the filter lets through. Elsewhere than on Linux, it takes
    all, as before.

    @raise OSError: if the kernel does not have filters.
    """
    if sys.platform != "linux":
        return
    instructions = ctypes.create_string_buffer(b"".join(codes))
    program = struct.pack("HP", len(codes), ctypes.addressof(instructions))
    handle.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
