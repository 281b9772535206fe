"""
The kinds of failed connections, and the record of a failure.
"""

from dataclasses import dataclass
from enum import StrEnum


class FailureKind(StrEnum):
    """Why a connection failed."""

    DNS = "dns"
    """The host's name has no address."""
    REFUSED = "refused"
    """No process listens at the address."""
    UNREACHABLE = "unreachable"
    """The address cannot be reached: no route, no such socket file, or no permission."""
    CONNECT_TIMEOUT = "connect-timeout"
    """The connection was not established within the connect timeout."""
    NO_LOCAL_PORT = "no-local-port"
    """This machine has no ephemeral port left for another connection to the address."""
    TOO_MANY_FILES = "too-many-files"
    """This process has reached its limit of open descriptors."""
    TLS = "tls"
    """The handshake failed, a certificate did not verify, or TLS reported an error."""
    RESET = "reset"
    """The peer or the path reset an established connection."""
    CLOSED_EARLY = "closed-early"
    """The peer closed its side before every byte was back."""
    REPLY_TIMEOUT = "reply-timeout"
    """Within the reply timeout, no byte arrived, or the stream did not end. Over UDP, some
    messages had no reply."""
    MISMATCH = "mismatch"
    """The peer returned other bytes than those that were sent."""
    EXTRA_BYTES = "extra-bytes"
    """The peer returned more bytes than were sent. Over UDP, a reply arrived twice."""
    PART_LOST = "part-lost"
    """The part of the run that had the connection is lost: nobody knows how it ended."""


@dataclass(frozen=True)
class ConnectionFailure:
    """
    One failed connection.

    @ivar connection: the number of the connection, from 1.
    @ivar peer: the peer's address; the target, if the connection was not established.
    @ivar kind: why the connection failed.
    @ivar detail: a description for a person. Bytes of the peer are escaped.
    """

    connection: int
    peer: str
    kind: FailureKind
    detail: str

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{examples}."""
        return {"connection": self.connection, "peer": self.peer, "detail": self.detail}
