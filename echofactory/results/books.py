"""
The books of a run: requests, outcomes and times.
"""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime

from echofactory.results.connectionfacts import ConnectionFacts
from echofactory.results.expectations import Judgement
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import WHOLE, Interval, usualLengthNs
from echofactory.results.latency import Latency
from echofactory.results.opencounts import OpenCounts
from echofactory.results.partfacts import PartsFacts
from echofactory.results.path import Datagrams, Kernel
from echofactory.results.schedulefacts import ScheduleFacts
from echofactory.results.search import SearchOutcome
from echofactory.results.workloadfacts import WorkloadFacts

_PACED = 0.95
"""The least share of the schedule that the client has to keep. Below it, the run has a
warning."""


@dataclass(kw_only=True)
class Results:
    """
    The results of a run. They are updated while the run goes on.

    At the end of a run, the books balance:

     - messages sent = verified + mismatched + unanswered;
     - connections requested = completed + failed + unfinished. Only an interrupted run has
       unfinished connections.

    @ivar title: what the user calls the run; empty: it has no title.
    @ivar labels: what the user says about the run, by key.
    @ivar target: the endpoint, as the user gave it.
    @ivar workload: the messages that were sent.
    @ivar requested: requested connections.
    @ivar started: when the run began, in UTC.
    @ivar established: established connections. With TLS, the handshake is complete.
    @ivar completed: connections on which every message was verified.
    @ivar open: established connections that are not closed yet.
    @ivar reconnects: requested connections that took the place of one that had failed.
    @ivar missing: with C{reconnect}, the share of the connections' time in which they were
        not established, from 0 to 1, while messages were sent.
    @ivar peakOpen: the highest number of connections that were open at the same time.
    @ivar openCounts: the number of open connections over time; C{None}: it is not kept.
    @ivar failures: failed connections by kind.
    @ivar examples: the first failure of each kind.
    @ivar latest: the latest failure of each kind, and when it was, in UTC. Not known of
        results that were read.
    @ivar sent: messages of which the client handed at least one byte to a transport.
    @ivar verified: messages of which every byte came back.
    @ivar mismatched: messages that came back with wrong bytes.
    @ivar unanswered: messages whose connection ended before all of their bytes were back.
    @ivar bytesSent: bytes handed to the transports.
    @ivar bytesReceived: received bytes, right or wrong.
    @ivar connect: connect times: from asking for a connection to being connected.
    @ivar response: response times: from when a message was due to receiving its last byte.
        Without a rate, a message is due when the transport gets its first byte.
    @ivar service: service times: from handing a message's first byte to the transport to
        receiving its last byte; C{None} without a rate, because they are the response times.
    @ivar sendLag: from when a message was due to when the client handled it. It is the
        client's own error. Empty without a rate.
    @ivar connectionFacts: the addresses, TLS sessions and socket options of the established
        connections.
    @ivar receiveLag: from when the kernel received the last segment of a reply to when the
        client read it, of one reply in 64; C{None}: the kernel does not tell when data
        arrives, as over UNIX sockets.
    @ivar receiveLagDropped: readings of the receive lag that were dropped, because the wall
        clock was set.
    @ivar spin: whether the client kept a core awake, to send on time.
    @ivar kernel: the kernel's view of the connections.
    @ivar datagrams: lost, repeated and reordered datagrams; C{None}: a run over streams.
    @ivar intervals: the intervals of the run, in order.
    @ivar recent: the response times of the last interval.
    @ivar parts: the parts that made the run; C{None}: it was made by one process.
    @ivar search: the outcome of the search to which the run belongs; C{None}: no search.
    @ivar expectations: the expectations that the run was judged by, and whether it met them.
    @ivar rateAsked: the mean of the scheduled rate, in messages a second, without the
        warm-up; C{None}: no schedule (closed loop).
    @ivar schedule: the stages and the arrivals of the schedule; C{None}: there is none, or it
        is not known.
    @ivar due: scheduled messages, sent or not; 0 without a rate.
    @ivar scheduledNs: from the schedule's start, without the warm-up, to when the message
        after the last one would be due, in nanoseconds; 0 without a rate.
    @ivar paced: the share of the scheduled messages that the client handled in time, from 0
        to 1. It counts a message even if the connection or the window delays the send.
    @ivar elapsedNs: the duration of the whole run, in nanoseconds.
    @ivar beganAt: when the run began, in nanoseconds of the client's clock. The next three
        fields have the same clock and unit.
    @ivar firstAt: when the schedule started; without a rate, when the first message could be
        sent; 0: never. With a warm-up: when the warm-up ended.
    @ivar lastSentAt: when the first byte of the last message was sent.
    @ivar lastAt: when the last message was verified.
    @ivar intervalNs: the length of a complete interval, in nanoseconds; 0: not known.
    @ivar interrupted: whether the run was stopped before its end.
    @ivar underWay: whether the run goes on.
    @ivar uncounted: verified messages of the warm-up. They do not count in latencies and
        rates. With a rate, these are the messages that were due in the warm-up; otherwise,
        those whose replies came in it.
    @ivar leastUncounted: the lowest response time of the warm-up, in nanoseconds; C{None}:
        there is none.
    @ivar uncountedDue: scheduled messages of the warm-up.
    @ivar uncountedBytes: bytes that were received in the warm-up.
    @ivar countsFrom: with a rate, messages that were due before do not count, in nanoseconds
        of the client's clock.
    @ivar warmingUp: whether the warm-up goes on.
    @ivar endedEarly: whether a search ended the run because a goal was certainly missed.
    @ivar warnings: sentences, each with a reason not to believe a figure of the run.
    """

    target: str
    workload: WorkloadFacts
    requested: int
    title: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    established: int = 0
    completed: int = 0
    open: int = 0
    peakOpen: int = 0
    openCounts: OpenCounts | None = None
    reconnects: int = 0
    missing: float = 0.0
    failures: Counter[FailureKind] = field(default_factory=Counter)
    examples: dict[FailureKind, ConnectionFailure] = field(default_factory=dict)
    latest: dict[FailureKind, tuple[datetime, ConnectionFailure]] = field(default_factory=dict)
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
    connectionFacts: ConnectionFacts = field(default_factory=ConnectionFacts)
    receiveLag: Latency | None = None
    receiveLagDropped: int = 0
    spin: bool = False
    kernel: Kernel = field(default_factory=Kernel)
    datagrams: Datagrams | None = None
    intervals: list[Interval] = field(default_factory=list)
    recent: Latency = field(default_factory=Latency)
    parts: PartsFacts | None = None
    search: SearchOutcome | None = None
    expectations: list[Judgement] = field(default_factory=list)
    rateAsked: float | None = None
    schedule: ScheduleFacts | None = None
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
    uncounted: int = 0
    leastUncounted: int | None = None
    uncountedDue: int = 0
    uncountedBytes: int = 0
    countsFrom: int = 0
    warmingUp: bool = False
    endedEarly: bool = False
    warnings: list[str] = field(default_factory=list)
    _closedMessages: int = 0
    _closedBytes: int = 0
    _closedFailures: int = 0

    def closeInterval(self, elapsedNs: int) -> None:
        """
        End an interval of the run.

        @param elapsedNs: nanoseconds since the run's beginning.
        """
        before = self.intervals
        self.setAside()
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
        """Nanoseconds: the lowest response time, warm-up included; 0: no reading."""
        least = self.response.asJSON()["min"]
        return min((ns for ns in (least, self.leastUncounted) if ns is not None), default=0)

    def leaveOut(self, elapsedNs: int) -> None:
        """
        Note a message that was due in the warm-up, and came back.

        @param elapsedNs: its response time.
        """
        self.uncounted += 1
        if self.leastUncounted is None or elapsedNs < self.leastUncounted:
            self.leastUncounted = elapsedNs

    def setAside(self) -> None:
        """
        While the warm-up goes on: what was received until now does not count. With a rate,
        messages are left out one by one (L{leaveOut}), because they can come back later.
        """
        if not self.warmingUp:
            return
        self.uncountedBytes = self.bytesReceived
        if self.service is None:
            least = self.response.asJSON()["min"]
            if least is not None:
                self.leastUncounted = min(least, self.leastUncounted or least)
            self.uncounted = self.verified
            self.response.clear()

    def endWarmUp(self, now: int) -> None:
        """
        The warm-up is over.

        @param now: the time, in nanoseconds of the client's clock.
        """
        self.setAside()
        self.warmingUp = False
        if self.receiveLag is not None:
            self.receiveLag.clear()
        if self.service is None:
            self.firstAt = now

    @property
    def serviceTime(self) -> Latency:
        """The service times. Without a rate, they are the response times."""
        return self.response if self.service is None else self.service

    @property
    def overNs(self) -> int:
        """
        The time over which the achieved rate is calculated, in nanoseconds.

         - Open loop: from the schedule's start to when the message after the last one would
           be due. If the last message was sent later, the time ends then. A late reply is
           latency, not a lower rate.
         - Closed loop: from the first message sent to the last reply.
        """
        if self.rateAsked is None:
            return max(0, self.lastAt - self.firstAt)
        return max(self.scheduledNs, self.lastSentAt - self.firstAt)

    @property
    def achieved(self) -> float:
        """Verified messages a second, over L{overNs}, without those of the warm-up."""
        return self.counted / (self.overNs / 1e9) if self.overNs else 0.0

    @property
    def counted(self) -> int:
        """Verified messages, without those of the warm-up."""
        return self.verified - self.uncounted

    @property
    def bytesPerSecond(self) -> float:
        """Received bytes a second, over L{overNs}, without those of the warm-up."""
        received = self.bytesReceived - self.uncountedBytes
        return received / (self.overNs / 1e9) if self.overNs else 0.0

    @property
    def unsent(self) -> int:
        """Messages that were due but not sent."""
        return max(0, self.due - self.sent)

    def wholeRates(self) -> list[float]:
        """
        Return the rate of each interval, in messages a second. Only intervals count of which
        at least 95 % lie within L{overNs}. Intervals without a reply count.
        """
        if not self.intervals or not self.overNs or not self.firstAt:
            return []
        wholeNs = usualLengthNs(self.intervals, self.intervalNs)
        begin = self.firstAt - self.beganAt
        end = begin + self.overNs
        within = [
            (min(end, piece.endNs) - max(begin, piece.endNs - piece.lengthNs), piece.messages)
            for piece in self.intervals
        ]
        rates = [count / (ns / 1e9) for ns, count in within if 0 < ns >= WHOLE * wholeNs]
        if end - self.intervals[-1].endNs >= WHOLE * wholeNs:
            # All connections ended before the schedule: there were no replies after that.
            rates.append(0.0)
        return rates

    @property
    def keptNoSchedule(self) -> bool:
        """Whether the client handled less than 95 % of the scheduled messages in time."""
        return self.paced < _PACED

    @property
    def failed(self) -> int:
        """Failed connections of all kinds."""
        return self.failures.total()

    @property
    def unfinished(self) -> int:
        """Connections that have neither completed nor failed."""
        return self.requested - self.completed - self.failed

    @property
    def verdict(self) -> str:
        """
        C{"ok"}, C{"failed"}, C{"unmet"} or C{"interrupted"}. Unmet: every message was verified,
        but an expectation was not met.
        """
        if self.interrupted:
            return "interrupted"
        if self.search is not None and self.search.found is None:
            return "failed"
        if self.parts is not None and self.parts.lost:
            return "failed"
        if self.completed != self.requested and (not self.workload.reconnect or _lost(self)):
            return "failed"
        return "ok" if all(each.met for each in self.expectations) else "unmet"

    def connectionEstablished(self, connectNs: int | None) -> None:
        """
        Count an established connection.

        @param connectNs: its connect time, in nanoseconds; C{None}: over UDP there is none.
        """
        self.established += 1
        self.open += 1
        self.peakOpen = max(self.peakOpen, self.open)
        if self.openCounts is not None:
            self.openCounts.note(self.open)
        if connectNs is not None:
            self.connect.record(connectNs)

    def connectionClosed(self) -> None:
        """Count an established connection that is closed."""
        self.open -= 1
        if self.openCounts is not None:
            self.openCounts.note(self.open)

    def connectionFailed(self, failure: ConnectionFailure) -> None:
        """Count a failed connection, and keep the first and the latest of each kind."""
        self.failures[failure.kind] += 1
        self.latest[failure.kind] = (datetime.now(UTC), failure)
        self.examples.setdefault(failure.kind, failure)


def _lost(results: Results) -> bool:
    """
    Tell whether the failures of a run that reconnects have cost a message. A connection that
    failed while no message was outstanding has cost nothing.
    """
    wrong = results.failures[FailureKind.MISMATCH] + results.failures[FailureKind.EXTRA_BYTES]
    lost = results.mismatched + results.unanswered + results.unsent
    return bool(wrong or lost or results.unfinished or not results.verified)


def measured(results: Results) -> Latency:
    """
    Return the response times that count. In a warm-up without a rate there are none yet,
    whatever has been recorded: it is removed later, and a metric must not decrease.
    """
    return Latency() if results.warmingUp and results.service is None else results.response
