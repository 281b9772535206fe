"""
The kind of failure for each error that Twisted and OpenSSL report.
"""

import errno

from OpenSSL.SSL import Connection as TLSConnection
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

from echofactory.express.openssl import verification
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

_AUTHORITY_UNKNOWN = {2, 19, 20, 21}
"""C{X509_V_ERR_...}: the authority of the certificate is not one that is trusted."""

_NOT_TLS = (
    "http request",
    "packet length too long",
    "record layer failure",
    "unexpected message",
    "unexpected record",
    "wrong version number",
)
"""OpenSSL's words for what a server without TLS sends. An echo sends the client's own greeting
back."""

_ALERT = b"\x15\x03"
"""The first bytes of an alert of TLS (RFC 8446, section 5.1): its type, and the version."""


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


def handshakeText(reason: BaseException | None, transport: object) -> str:
    """
    Return why a connection was lost before its handshake of TLS was complete.

    @param transport: the transport over TLS. In C{connectionLost}, it still has its handle.
    """
    kind, detail = classify(reason)
    if kind is not FailureKind.TLS:
        return reasonText(reason)
    if "certificate verify failed" in detail:
        handle = getattr(transport, "getHandle", lambda: None)()
        if not isinstance(handle, TLSConnection):
            return detail
        number, why = verification(handle)
        if number:
            unknown = " (unknown authority)" if number in _AUTHORITY_UNKNOWN else ""
            detail += f": {why}{unknown}"
    elif any(words in detail for words in _NOT_TLS):
        detail += " (the server may not speak TLS)"
    return detail


def replyHint(data: bytes) -> str:
    """
    Return what the first bytes of a wrong reply suggest, as the end of a sentence.

    @param data: received on a connection without TLS.
    """
    return " (a TLS alert came: the server may expect TLS)" if data[:2] == _ALERT else ""
