"""
How much is told per connection, and how addresses, bytes and reasons are written.
"""

from enum import IntEnum

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

MAX_TRACED_BYTES = 256
"""Bytes. Of more than this, only the beginning is shown in a trace."""


class Trace(IntEnum):
    """What is told per connection: each level tells also what those below do."""

    NONE = 0
    CONNECTIONS = 1
    DATA = 2


def addressText(address: IAddress | None) -> str:
    """
    Write an address as Python's C{socket} module would: C{('127.0.0.1', 7)}.
    A UNIX socket is its path, C{''} if it has none.
    """
    if isinstance(address, IPv4Address | IPv6Address):
        return repr((address.host, address.port))
    if isinstance(address, UNIXAddress):
        return repr((address.name or b"").decode("utf-8", "backslashreplace"))
    return repr(address)


def dataText(data: bytes) -> str:
    """
    Write bytes as a Python literal: nothing a peer sends reaches a terminal or
    a log unescaped, nor at more than a bounded length.
    """
    if len(data) <= MAX_TRACED_BYTES:
        return repr(data)
    return f"{data[:MAX_TRACED_BYTES]!r}... ({len(data):,} bytes)"


def reasonText(reason: BaseException | None) -> str:
    """Return what an exception says, in one line; its name where it says nothing."""
    if isinstance(reason, KeyError | IndexError):
        return repr(reason)
    match reason:
        case Exception(args=([(_, _, str()), *_] as queue,)):
            # OpenSSL's queue of errors: library, function, reason. Some have no reason.
            return "; ".join(entry[-1] or "unknown error" for entry in queue)
    if isinstance(reason, OSError) and reason.filename2 is not None:
        # Both are the internals of who failed: a UNIX socket's lock.
        return f"[Errno {reason.errno}] {reason.strerror}"
    return " ".join(str(reason).split()) or type(reason).__name__
