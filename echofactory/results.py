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


@dataclass(frozen=True, kw_only=True)
class Interval:
    """
    A piece of a run.

    @ivar endNs: when it ended, in nanoseconds from the run's beginning.
    @ivar lengthNs: how long it was.
    @ivar open: connections, at its end.
    @ivar messages: verified in it.
    @ivar bytes: received in it.
    @ivar p50Ns: of the response times in it; C{None} if there were none.
    @ivar p99Ns: the same.
    @ivar failures: connections that failed in it.
    """

    endNs: int
    lengthNs: int
    open: int
    messages: int
    bytes: int
    p50Ns: int | None
    p99Ns: int | None
    failures: int

    @property
    def perSecond(self) -> float:
        """Messages a second."""
        return self.messages / (self.lengthNs / 1e9)

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{intervals}."""
        return {
            "t_s": self.endNs / 1e9,
            "open": self.open,
            "messages": self.messages,
            "bytes": self.bytes,
            "p50_ns": self.p50Ns,
            "p99_ns": self.p99Ns,
            "failures": self.failures,
        }


@dataclass(kw_only=True)
class Kernel:
    """
    What the kernel saw, summed over the connections that it was asked about just
    before they closed (L{echofactory.client.kernel}).
    """

    connections: int = 0
    retransmits: int = 0
    lost: int = 0
    reordering: int | None = None
    rttUsLeast: int = 0
    rttUsTotal: int = 0
    rttUsMost: int = 0

    def add(self, retransmits: int, lost: int, reordering: int | None, rttUs: int) -> None:
        """Add what it saw of one connection."""
        self.rttUsLeast = min(self.rttUsLeast, rttUs) if self.connections else rttUs
        self.rttUsMost = max(self.rttUsMost, rttUs)
        self.rttUsTotal += rttUs
        self.connections += 1
        self.retransmits += retransmits
        self.lost += lost
        if reordering is not None:
            self.reordering = (self.reordering or 0) + reordering

    def asJSON(self) -> dict[str, object] | None:
        """Return the JSON's C{tcp}; C{None} if the kernel said nothing."""
        if not self.connections:
            return None
        return {
            "retransmits": self.retransmits,
            "lost": self.lost,
            "reordering": self.reordering,
            "rtt_us": {
                "min": self.rttUsLeast,
                "mean": self.rttUsTotal / self.connections,
                "max": self.rttUsMost,
            },
        }


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
    @ivar response: from when a message was due to receiving its last byte back;
        without a rate, it is due when its first byte is handed to the transport.
    @ivar service: from handing a message's first byte to the transport to
        receiving its last byte back.
    @ivar sendLag: from when a message was due to the client's turning to it: the
        instrument's own error. Nothing without a rate.
    @ivar kernel: what the kernel saw.
    @ivar intervals: the run, piece by piece.
    @ivar recent: the response times of the last of them.
    @ivar findRate: the JSON's C{find_rate}, if the run belongs to a search.
    @ivar rateAsked: messages a second, the mean over the run; C{None}: as fast
        as replies come.
    @ivar elapsedNs: the whole run, nanoseconds.
    @ivar firstAt: when the first message could be sent; C{perf_counter_ns}.
    @ivar lastAt: when the last one was verified.
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
    service: Latency = field(default_factory=Latency)
    sendLag: Latency = field(default_factory=Latency)
    kernel: Kernel = field(default_factory=Kernel)
    intervals: list[Interval] = field(default_factory=list)
    recent: Latency = field(default_factory=Latency)
    findRate: dict[str, object] | None = None
    rateAsked: float | None = None
    elapsedNs: int = 0
    firstAt: int = 0
    lastAt: int = 0
    interrupted: bool = False
    _closedMessages: int = 0
    _closedBytes: int = 0
    _closedFailures: int = 0

    def closeInterval(self, elapsedNs: int) -> None:
        """
        End a piece of the run.

        @param elapsedNs: since the run's beginning.
        """
        before = self.intervals
        self.recent = self.response.rotate()
        p50, p99 = self.recent.percentiles(50.0, 99.0)
        before.append(
            Interval(
                endNs=elapsedNs,
                lengthNs=elapsedNs - (before[-1].endNs if before else 0),
                open=self.open,
                messages=self.verified - self._closedMessages,
                bytes=self.bytesReceived - self._closedBytes,
                p50Ns=p50,
                p99Ns=p99,
                failures=self.failed - self._closedFailures,
            )
        )
        self._closedMessages = self.verified
        self._closedBytes = self.bytesReceived
        self._closedFailures = self.failed

    def forgetLatencies(self) -> None:
        """What was measured until now was only to settle."""
        for latency in (self.response, self.service, self.sendLag):
            latency.clear()

    @property
    def achieved(self) -> float:
        """Messages verified a second, while there were any to send or to await."""
        active = self.lastAt - self.firstAt
        return self.verified / (active / 1e9) if active > 0 else 0.0

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
        if self.findRate is not None and self.findRate["found"] is None:
            return "failed"
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
        # The last one, cut off by the end, and those with nothing in them say nothing.
        rates = [interval.perSecond for interval in self.intervals[:-1] if interval.messages]
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
                "asked": self.rateAsked,
                "achieved": self.achieved,
                "min": min(rates, default=None),
                "max": max(rates, default=None),
            },
            "tcp": self.kernel.asJSON(),
            "response_ns": self.response.asJSON(),
            "service_ns": self.service.asJSON(),
            "connect_ns": self.connect.asJSON(),
            "send_lag_ns": self.sendLag.asJSON(),
            "intervals": [interval.asJSON() for interval in self.intervals],
            "find_rate": self.findRate,
            "verdict": self.verdict,
        }
