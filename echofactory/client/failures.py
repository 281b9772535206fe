"""
From what Twisted and OpenSSL report to the kinds that the results count.
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
    # Of a source address of which every port is taken.
    errno.EADDRINUSE: FailureKind.NO_LOCAL_PORT,
    # Connected, and cut before this side turned to it.
    errno.ECONNRESET: FailureKind.RESET,
    errno.EMFILE: FailureKind.TOO_MANY_FILES,
    errno.ENFILE: FailureKind.TOO_MANY_FILES,
}

_LOST_WHILE_CONNECTING = {
    # Over TCP, Twisted does not ask for the error that ICMP has brought.
    False: (FailureKind.UNREACHABLE, "the network rejected the connection (ICMP)"),
    # A UNIX socket's answer to a connection it cannot queue is EAGAIN, which Twisted
    # takes for a connection in progress, and then loses.
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
