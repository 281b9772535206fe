"""
The kind of failure for each error that Twisted and OpenSSL report.
"""

import errno

from OpenSSL.SSL import Error as TLSError
from service_identity import VerificationError
from twisted.internet.error import (
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.python.failure import Failure

from echofactory.net.tracing import reasonText
from echofactory.results.failures import FailureKind

_BY_ERRNO = {
    errno.EADDRNOTAVAIL: FailureKind.NO_LOCAL_PORT,
    # Every port of the source address is taken.
    errno.EADDRINUSE: FailureKind.NO_LOCAL_PORT,
    # The peer reset the connection before the reactor noticed that it was established.
    errno.ECONNRESET: FailureKind.RESET,
    errno.EMFILE: FailureKind.TOO_MANY_FILES,
    errno.ENFILE: FailureKind.TOO_MANY_FILES,
}

_LOST_WHILE_CONNECTING = {
    # Over TCP, Twisted does not read the error that an ICMP message has left.
    False: (FailureKind.UNREACHABLE, "the network rejected the connection (ICMP)"),
    # If the queue of a UNIX socket is full, connecting fails with EAGAIN. Twisted takes
    # that for a connection in progress.
    True: (FailureKind.REFUSED, "not accepted; the listener's queue may be full"),
}


def _asked(reason: VerificationError) -> str:
    """Return the names that a certificate should have been for."""
    names = []
    for mismatch in reason.errors:
        name = getattr(mismatch.mismatched_id, "hostname", b"this address")
        names.append(
            name.decode("ascii", "backslashreplace") if isinstance(name, bytes) else name
        )
    return ", ".join(names) or "this host"


def classify(reason: BaseException | None, overUNIX: bool = False) -> tuple[FailureKind, str]:
    """
    Return the kind of a failure to connect, or of the loss of a connection
    that had not done its job, and a text for a person.

    @param overUNIX: whether it was a UNIX socket that was to be connected.
    """
    match reason:
        case DNSLookupError():
            kind = FailureKind.DNS
        case ConnectionRefusedError():
            kind = FailureKind.REFUSED
        case TCPTimedOutError() | TimeoutError():
            kind = FailureKind.CONNECT_TIMEOUT
        case ConnectError(args=(Failure(),)):
            return _LOST_WHILE_CONNECTING[overUNIX]
        case ConnectError():
            kind = _BY_ERRNO.get(reason.osError, FailureKind.UNREACHABLE)
        case ConnectionDone():
            return FailureKind.CLOSED_EARLY, "the peer closed before every byte was back"
        case ConnectionLost():
            return FailureKind.RESET, "the connection was reset"
        case VerificationError():
            kind = FailureKind.TLS
            return kind, f"the certificate is not for {_asked(reason)}"
        case TLSError():
            kind = FailureKind.TLS
        case _:
            kind = FailureKind.UNREACHABLE
    return kind, reasonText(reason)
