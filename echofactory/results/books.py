"""
The books of a run: what was asked for, what came of it, and how long it took.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import median

from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import Interval
from echofactory.results.latency import Latency
from echofactory.results.path import Datagrams, Kernel
from echofactory.results.search import SearchOutcome
from echofactory.results.workloadfacts import WorkloadFacts
from echofactory.values.quantities import percentText

_PACED = 0.95
"""The share of its schedule that a client has to keep, for its figures to be believed."""


@dataclass(kw_only=True)
class Results:
    """
    What came of a run, kept while it goes on.

    The books balance at the end: messages sent = verified + mismatched +
    unanswered; connections requested = completed + failed + unfinished, and
    only an interrupted run leaves connections unfinished.

    @ivar target: the endpoint, as it was given.
    @ivar workload: what was sent.
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
        receiving its last byte back; C{None} without a rate: the response time is that.
    @ivar sendLag: from when a message was due to the client's turning to it: the
        instrument's own error. Nothing without a rate.
    @ivar kernel: what the kernel saw.
    @ivar datagrams: what became of them; C{None}: it was a run of streams.
    @ivar intervals: the run, piece by piece.
    @ivar recent: the response times of the last of them.
    @ivar search: what came of the search that the run belongs to; C{None}: it does not.
    @ivar rateAsked: messages a second, the mean over the run; C{None}: as fast
        as replies come (closed loop).
    @ivar due: messages that the schedule had in the run, sent or not; 0 without a rate.
    @ivar scheduledNs: from the schedule's start to when the message after the last one
        would be due, in nanoseconds; 0 without a rate.
    @ivar paced: which share of the schedule the client kept: messages that it turned to
        in time, whether or not the connection and the window let them be sent.
    @ivar elapsedNs: the whole run, nanoseconds.
    @ivar beganAt: when the run began, by the clock of the next three, in nanoseconds.
    @ivar firstAt: when the schedule started or, without a rate, when the first message
        could be sent; 0: never.
    @ivar lastSentAt: when the first byte of the last message was sent.
    @ivar lastAt: when the last message was verified.
    @ivar intervalNs: how long an interval is that nothing cut off, in nanoseconds; 0:
        not known.
    @ivar interrupted: whether it was stopped before its end.
    @ivar underWay: whether it goes on.
    @ivar forgotten: messages verified whose latencies do not count (L{forgetLatencies}).
    @ivar endedEarly: whether it was ended because its outcome was certain (a search).
    @ivar warnings: sentences that say why a figure of the run is not to be believed.
    """

    target: str
    workload: WorkloadFacts
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
    service: Latency | None = None
    sendLag: Latency = field(default_factory=Latency)
    kernel: Kernel = field(default_factory=Kernel)
    datagrams: Datagrams | None = None
    intervals: list[Interval] = field(default_factory=list)
    recent: Latency = field(default_factory=Latency)
    search: SearchOutcome | None = None
    rateAsked: float | None = None
    due: int = 0
    scheduledNs: int = 0
    paced: float = 1.0
    elapsedNs: int = 0
    beganAt: int = 0
    firstAt: int = 0
    lastSentAt: int = 0
    lastAt: int = 0
    intervalNs: int = 0
    interrupted: bool = False
    underWay: bool = False
    forgotten: int = 0
    endedEarly: bool = False
    warnings: list[str] = field(default_factory=list)
    _closedMessages: int = 0
    _closedBytes: int = 0
    _closedFailures: int = 0
    _leastForgotten: int | None = None

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

    @property
    def leastNs(self) -> int:
        """The least response time, that of settling included; 0 without any."""
        least = self.response.asJSON()["min"]
        return min((ns for ns in (least, self._leastForgotten) if ns is not None), default=0)

    def forgetLatencies(self) -> None:
        """What was measured until now was only to settle."""
        self.forgotten = self.verified
        self._leastForgotten = self.response.asJSON()["min"]
        for latency in (self.response, self.service, self.sendLag):
            if latency is not None:
                latency.clear()

    @property
    def serviceTime(self) -> Latency:
        """The service times; without a rate, the response times are those."""
        return self.response if self.service is None else self.service

    @property
    def overNs(self) -> int:
        """
        The time that the achieved rate is taken over, in nanoseconds.

        Open loop: from the schedule's start to when the message after the last one
        would be due, or to when the last one was sent, if that is later. A late reply
        is latency, and no lower rate. Closed loop: from the first message sent to the
        last reply.
        """
        if self.rateAsked is None:
            return max(0, self.lastAt - self.firstAt)
        return max(self.scheduledNs, self.lastSentAt - self.firstAt)

    @property
    def achieved(self) -> float:
        """Messages verified a second (L{overNs})."""
        return self.verified / (self.overNs / 1e9) if self.overNs else 0.0

    @property
    def bytesPerSecond(self) -> float:
        """Bytes received a second (L{overNs})."""
        return self.bytesReceived / (self.overNs / 1e9) if self.overNs else 0.0

    @property
    def unsent(self) -> int:
        """Messages that were due and that were not sent."""
        return max(0, self.due - self.sent)

    def wholeRates(self) -> list[float]:
        """
        Return the messages a second of each interval that lies within the time of the
        achieved rate, but for a twentieth of its length. An interval in which nothing
        came back is one of them.
        """
        if not self.intervals or not self.overNs or not self.firstAt:
            return []
        wholeNs = self.intervalNs or median(piece.lengthNs for piece in self.intervals)
        begin = self.firstAt - self.beganAt
        end = begin + self.overNs
        within = [
            (min(end, piece.endNs) - max(begin, piece.endNs - piece.lengthNs), piece.messages)
            for piece in self.intervals
        ]
        rates = [count / (ns / 1e9) for ns, count in within if 0 < ns >= 0.95 * wholeNs]
        if end - self.intervals[-1].endNs >= 0.95 * wholeNs:
            # Its connections did not survive as long: nothing came back from then on.
            rates.append(0.0)
        return rates

    @property
    def keptNoSchedule(self) -> bool:
        """Whether the client turned to less than 95 % of the messages in time."""
        return self.paced < _PACED

    def judge(self) -> None:
        """
        Find the reasons not to believe the figures of a run that is over.

        The rule: the client could not keep its schedule, if it turned to less than
        95 % of the messages in time, or if its send lag at p99 is more than half of the
        response time there.
        """
        response, lag = self.response.asJSON()["p99"], self.sendLag.asJSON()["p99"]
        if self.keptNoSchedule:
            self.warnings.append(
                "the client could not keep its schedule: it turned to"
                f" {percentText(self.paced)} of the messages in time, and these figures show"
                " its limit, not the peer's"
            )
        elif response and lag and 2 * lag > response:
            self.warnings.append(
                "the client was the bottleneck: at p99, its send lag is"
                f" {percentText(min(1.0, lag / response))} of the response time"
            )
        if self.unsent and not self.interrupted:
            self.warnings.append(
                f"{self.unsent:,} of {self.due:,} messages"
                f" ({percentText(self.unsent / self.due)}) were due but not sent: "
                + self._whyUnsent()
            )

    def _whyUnsent(self) -> str:
        if self.keptNoSchedule:
            return "the client did not turn to them in time"
        if self.failed:
            return "their connections had failed, or waited for replies"
        return "their connections waited for replies"

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
        if self.search is not None and self.search.found is None:
            return "failed"
        return "ok" if self.completed == self.requested else "failed"

    def connectionEstablished(self, connectNs: int | None) -> None:
        """
        A connection was made, C{connectNs} after it was asked for; C{None}: there is
        nothing to wait for.
        """
        self.established += 1
        self.open += 1
        self.peakOpen = max(self.peakOpen, self.open)
        if connectNs is not None:
            self.connect.record(connectNs)

    def connectionFailed(self, failure: ConnectionFailure) -> None:
        """A connection will not do its job."""
        self.failures[failure.kind] += 1
        self.examples.setdefault(failure.kind, failure)
