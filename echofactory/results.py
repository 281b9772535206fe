"""
The books of a run: what was asked for, what came of it, and how long it took.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum

from echofactory.latency import Latency

SCHEMA = "echofactory.results/1"


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
    """Not one byte, or not the end of the stream, within the time given."""
    MISMATCH = "mismatch"
    """The peer returned something other than what was sent."""
    EXTRA_BYTES = "extra-bytes"
    """The peer returned more than what was sent."""


@dataclass(frozen=True)
class ConnectionFailure:
    """
    One failed connection.

    @ivar connection: its number, from 1.
    @ivar detail: what happened, for a person; the peer's bytes are escaped.
    """

    connection: int
    kind: FailureKind
    detail: str


@dataclass(kw_only=True)
class Results:
    """
    What came of a run, kept while it goes on.

    The books balance at the end: messages sent = verified + mismatched +
    unanswered; connections requested = completed + failed + unfinished, and
    only an interrupted run leaves connections unfinished.

    @ivar target: the endpoint, as it was given.
    @ivar workload: the C{workload} object of the JSON (C{Workload.asJSON}).
    @ivar requested: connections asked for.
    @ivar established: connections that were made, TLS handshake included.
    @ivar open: established and not yet closed.
    @ivar peakOpen: the most that were open at once.
    @ivar failures: failed connections by kind.
    @ivar examples: the first failure of each kind.
    @ivar sent: messages of which at least one byte was handed to a transport.
    @ivar verified: messages that came back whole.
    @ivar mismatched: messages that came back wrong.
    @ivar unanswered: messages whose connection ended before they were back.
    @ivar bytesSent: handed to the transports.
    @ivar bytesReceived: received, right or wrong.
    @ivar connect: from asking for a connection to being connected.
    @ivar response: from handing a message's first byte to the transport to
        receiving its last byte back.
    @ivar elapsedNs: the whole run, nanoseconds.
    @ivar interrupted: whether it was stopped before its end.
    """

    target: str
    workload: dict[str, object]
    requested: int
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    established: int = 0
    completed: int = 0
    open: int = 0
    peakOpen: int = 0
    failures: Counter[FailureKind] = field(default_factory=Counter)
    examples: dict[FailureKind, ConnectionFailure] = field(default_factory=dict)
    sent: int = 0
    verified: int = 0
    mismatched: int = 0
    unanswered: int = 0
    bytesSent: int = 0
    bytesReceived: int = 0
    connect: Latency = field(default_factory=Latency)
    response: Latency = field(default_factory=Latency)
    elapsedNs: int = 0
    interrupted: bool = False

    @property
    def failed(self) -> int:
        """Failed connections, of all kinds."""
        return self.failures.total()

    @property
    def unfinished(self) -> int:
        """Connections that had neither completed nor failed."""
        return self.requested - self.completed - self.failed

    @property
    def verdict(self) -> str:
        """C{"ok"}, C{"failed"} or C{"interrupted"}."""
        if self.interrupted:
            return "interrupted"
        return "ok" if self.completed == self.requested else "failed"

    def connectionEstablished(self, connectNs: int) -> None:
        """A connection was made, C{connectNs} after it was asked for."""
        self.established += 1
        self.open += 1
        self.peakOpen = max(self.peakOpen, self.open)
        self.connect.record(connectNs)

    def connectionFailed(self, failure: ConnectionFailure) -> None:
        """A connection will not do its job."""
        self.failures[failure.kind] += 1
        self.examples.setdefault(failure.kind, failure)

    def asJSON(self, version: str) -> dict[str, object]:
        """
        Return the object that C{--json} writes, which the package's
        C{results.schema.json} describes.

        @param version: of echofactory.
        """
        elapsed = self.elapsedNs / 1e9
        return {
            "schema": SCHEMA,
            "version": version,
            "started": self.started.isoformat(timespec="milliseconds"),
            "elapsed_s": elapsed,
            "target": self.target,
            "workload": self.workload,
            "connections": {
                "requested": self.requested,
                "established": self.established,
                "completed": self.completed,
                "failed": self.failed,
                "peak_open": self.peakOpen,
            },
            "failures": {str(kind): n for kind, n in sorted(self.failures.items())},
            "messages": {
                "sent": self.sent,
                "verified": self.verified,
                "mismatched": self.mismatched,
                "unanswered": self.unanswered,
            },
            "bytes": {"sent": self.bytesSent, "received": self.bytesReceived},
            "rate": {
                "asked": None,
                "achieved": self.verified / elapsed if elapsed else 0.0,
                "min": None,
                "max": None,
            },
            "tcp": None,
            "response_ns": self.response.asJSON(),
            "service_ns": None,
            "connect_ns": self.connect.asJSON(),
            "send_lag_ns": None,
            "intervals": [],
            "verdict": self.verdict,
        }
