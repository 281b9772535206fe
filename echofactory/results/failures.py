"""
Why connections fail, and what is kept of each failure.
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a connection did not do its job."""

    DNS = "dns"
    """The host's name has no address."""
    REFUSED = "refused"
    """Nobody listens there."""
    UNREACHABLE = "unreachable"
    """There is no way there: no route, no such socket file, no permission."""
    CONNECT_TIMEOUT = "connect-timeout"
    """Not connected within the time given for it."""
    NO_LOCAL_PORT = "no-local-port"
    """This machine has no port left for another connection there."""
    TOO_MANY_FILES = "too-many-files"
    """This process has no descriptor left."""
    TLS = "tls"
    """The handshake failed, a certificate did not verify, or TLS broke off."""
    RESET = "reset"
    """The peer or the path cut an established connection."""
    CLOSED_EARLY = "closed-early"
    """The peer ended its stream before every byte was back."""
    REPLY_TIMEOUT = "reply-timeout"
    """Not one byte, or not the end of the stream, within the time given; over UDP,
    replies to some of the messages."""
    MISMATCH = "mismatch"
    """The peer returned something other than what was sent."""
    EXTRA_BYTES = "extra-bytes"
    """The peer returned more than what was sent; over UDP, a reply again."""


@dataclass(frozen=True)
class ConnectionFailure:
    """
    One failed connection.

    @ivar connection: its number, from 1.
    @ivar peer: the address at its other end, or the target, if there was none yet.
    @ivar detail: what happened, for a person; the peer's bytes are escaped.
    """

    connection: int
    peer: str
    kind: FailureKind
    detail: str

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{examples}."""
        return {"connection": self.connection, "peer": self.peer, "detail": self.detail}
