"""
The trace levels, and how a trace writes addresses, bytes and reasons.
"""

from enum import IntEnum

from service_identity import CertificateError
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress
from twisted.logger import LogEvent
from twisted.python.filepath import UnlistableError

from echofactory.express.addresstext import addressText

MAX_TRACED_BYTES = 256
"""Bytes. A trace shows only the first bytes of longer data."""


class Trace(IntEnum):
    """What the log says of each connection. A higher level includes the lower ones."""

    NONE = 0
    CONNECTIONS = 1
    DATA = 2


def tracedAddressText(address: IAddress | None, trace: Trace) -> str:
    """
    Write an address of a trace. At L{Trace.DATA}, the lines are those of the tutorial that
    the package began as, which writes C{('127.0.0.1', 7)}. At any other level, and with any
    other address than an IP address, the text is that of L{addressText}.
    """
    if trace >= Trace.DATA and isinstance(address, IPv4Address | IPv6Address):
        return repr((address.host, address.port))
    return addressText(address)


def dataText(data: bytes) -> str:
    """
    Write bytes as a Python literal: escaped, and at most L{MAX_TRACED_BYTES} of them. A peer
    can then neither control a terminal nor fill a log.
    """
    if len(data) <= MAX_TRACED_BYTES:
        return repr(data)
    return f"{data[:MAX_TRACED_BYTES]!r}... ({len(data):,} bytes)"


def rejectedCertificateText(event: LogEvent) -> str | None:
    """
    Return what an event of Twisted's log says of a rejected certificate. Twisted logs a
    traceback for each connection. Empty: the failure of the connection says it. C{None}: the
    event is about something else.
    """
    failure = event.get("log_failure")
    if event.get("log_namespace") != "twisted.internet._sslverify" or failure is None:
        return None
    # A certificate without a name.
    if isinstance(failure.value, CertificateError):
        return ""
    return f"the certificate was rejected: {reasonText(failure.value)}"


def reasonText(reason: BaseException | None) -> str:
    """Return an exception's message, in one line; without a message, the class's name."""
    if isinstance(reason, UnlistableError):
        reason = reason.originalException
    if isinstance(reason, KeyError | IndexError):
        return repr(reason)
    match reason:
        case Exception(args=([(_, _, str()), *_] as queue,)):
            # OpenSSL's queue of errors: library, function, reason. Some entries have no reason.
            return "; ".join(entry[-1] or "unknown error" for entry in queue)
    if isinstance(reason, OSError) and reason.strerror:
        # Two file names are internal to Twisted: the lock of a UNIX socket.
        path = reason.filename if reason.filename2 is None else None
        return f"{path!r}: {reason.strerror}" if isinstance(path, str) else reason.strerror
    return " ".join(str(reason).split()) or type(reason).__name__
