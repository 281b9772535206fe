"""
The books of a run: what was asked for, what came of it, and how long it took.
"""

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from importlib.resources import files
from statistics import median
from typing import Any

from echofactory.results.intervals import Interval, intervalsFromJSON, mergedIntervals
from echofactory.results.latency import Latency
from echofactory.values.quantities import percentText

SCHEMA = "echofactory.results/2"
_FIRST = "echofactory.results/1"

_PACED = 0.95
"""The share of its schedule that a client has to keep, for its figures to be believed."""


def _mistake(written: dict[str, Any]) -> str | None:
    """
    Say where JSON does not follow the schema in the package; C{None}: it does. Of the
    intervals, L{intervalsFromJSON} says so.
    """
    if isinstance(written.get("intervals"), list):
        written = written | {"intervals": []}
    # Late, for only who reads results needs it.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    schema = files("echofactory").joinpath("results.schema.json").read_text("utf-8")
    mistake = best_match(Draft202012Validator(json.loads(schema)).iter_errors(written))
    if mistake is None:
        return None
    # What is wrong may be long: the whole object, say.
    return f"{mistake.json_path}: {mistake.message[:200]}"


def _fromFirst(written: dict[str, Any]) -> dict[str, Any]:
    """
    Return the results that the first version wrote as those of the present one.

    It did not keep when the last message was sent, nor what was due and not sent. The
    last reply stands for the former, and nothing for the latter.
    """
    with suppress(KeyError, TypeError, OverflowError):
        # What is not there is told by the schema, below.
        rate, messages = written["rate"], written["messages"]
        asked, sent = rate["asked"], messages["sent"]
        overS = max(0.0, (rate["to_s"] or 0.0) - (rate["from_s"] or 0.0))
        if asked:
            overS = max(overS, sent / asked)
        due = None if asked is None else sent
        search = written["find_rate"]
        if search is not None:
            steps = [step | {"ended_early": False} for step in search["steps"]]
            search = search | {"steps": steps}
        written = written | {
            "rate": rate | {"over_s": overS},
            "messages": messages | {"due": due, "unsent": 0},
            "find_rate": search,
            "interval_s": None,
            "warnings": [],
        }
    return written | {"schema": SCHEMA}


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


@dataclass(kw_only=True)
class Kernel:
    """
    What the kernel saw, summed over the connections that it was asked about just
    before they closed (L{echofactory.net.tcpinfo}).
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
        self.merge(
            Kernel(
                connections=1,
                retransmits=retransmits,
                lost=lost,
                reordering=reordering,
                rttUsLeast=rttUs,
                rttUsTotal=rttUs,
                rttUsMost=rttUs,
            )
        )

    def merge(self, other: "Kernel") -> None:
        """Add what it saw of other connections."""
        if not other.connections:
            return
        if not self.connections or other.rttUsLeast < self.rttUsLeast:
            self.rttUsLeast = other.rttUsLeast
        self.rttUsMost = max(self.rttUsMost, other.rttUsMost)
        self.rttUsTotal += other.rttUsTotal
        self.connections += other.connections
        self.retransmits += other.retransmits
        self.lost += other.lost
        if other.reordering is not None:
            self.reordering = (self.reordering or 0) + other.reordering

    def asJSON(self) -> dict[str, object] | None:
        """Return the JSON's C{tcp}; C{None} if the kernel said nothing."""
        if not self.connections:
            return None
        return {
            "connections": self.connections,
            "retransmits": self.retransmits,
            "lost": self.lost,
            "reordering": self.reordering,
            "rtt_us": {
                "min": self.rttUsLeast,
                "mean": self.rttUsTotal / self.connections,
                "max": self.rttUsMost,
            },
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any] | None) -> "Kernel":
        """Return what C{asJSON} wrote."""
        if written is None:
            return cls()
        rtt = written["rtt_us"]
        return cls(
            connections=written["connections"],
            retransmits=written["retransmits"],
            lost=written["lost"],
            reordering=written["reordering"],
            rttUsLeast=rtt["min"],
            rttUsTotal=round(rtt["mean"] * written["connections"]),
            rttUsMost=rtt["max"],
        )


@dataclass(kw_only=True)
class Datagrams:
    """
    What became of datagrams on their way.

    @ivar lost: messages that had no reply within the time given.
    @ivar repeated: replies that came again (RFC 5560).
    @ivar reordered: replies that came after that to a later message (RFC 4737).
    """

    lost: int = 0
    repeated: int = 0
    reordered: int = 0

    def merge(self, other: "Datagrams") -> None:
        """Add what became of others."""
        self.lost += other.lost
        self.repeated += other.repeated
        self.reordered += other.reordered


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
    @ivar datagrams: what became of them; C{None}: it was a run of streams.
    @ivar intervals: the run, piece by piece.
    @ivar recent: the response times of the last of them.
    @ivar findRate: the JSON's C{find_rate}, if the run belongs to a search.
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
    datagrams: Datagrams | None = None
    intervals: list[Interval] = field(default_factory=list)
    recent: Latency = field(default_factory=Latency)
    findRate: dict[str, object] | None = None
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
            latency.clear()

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

    def _wholeRates(self) -> list[float]:
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
        if self.findRate is not None and self.findRate["found"] is None:
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

    def asJSON(self, version: str) -> dict[str, object]:
        """
        Return the object that C{--json} writes, which the package's
        C{results.schema.json} describes.

        @param version: of echofactory.
        """
        elapsed = self.elapsedNs / 1e9
        rates = self._wholeRates()
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
            "examples": {str(kind): e.asJSON() for kind, e in sorted(self.examples.items())},
            "messages": {
                "due": self.due if self.rateAsked is not None else None,
                "unsent": self.unsent,
                "sent": self.sent,
                "verified": self.verified,
                "mismatched": self.mismatched,
                "unanswered": self.unanswered,
            },
            "bytes": {"sent": self.bytesSent, "received": self.bytesReceived},
            "rate": {
                "asked": self.rateAsked,
                "achieved": self.achieved,
                "over_s": self.overNs / 1e9,
                "from_s": (self.firstAt - self.beganAt) / 1e9 if self.firstAt else None,
                "to_s": (self.lastAt - self.beganAt) / 1e9 if self.lastAt else None,
                "min": min(rates, default=None),
                "max": max(rates, default=None),
            },
            "tcp": self.kernel.asJSON(),
            "datagrams": asdict(self.datagrams) if self.datagrams is not None else None,
            "response_ns": self.response.asJSON(),
            "service_ns": self.service.asJSON(),
            "connect_ns": self.connect.asJSON(),
            "send_lag_ns": self.sendLag.asJSON(),
            "histograms": {
                "response": self.response.encoded(),
                "service": self.service.encoded(),
                "connect": self.connect.encoded(),
                "send_lag": self.sendLag.encoded(),
            },
            "interval_s": self.intervalNs / 1e9 if self.intervalNs else None,
            "intervals": [interval.asJSON() for interval in self.intervals],
            "find_rate": self.findRate,
            "warnings": self.warnings,
            "verdict": self.verdict,
        }

    @classmethod
    def fromJSON(cls, written: Any) -> "Results":
        """
        Return what L{asJSON} wrote, of this version or an older one.

        @raise ValueError: if it is something else.
        """
        if not isinstance(written, dict) or written.get("schema") not in (_FIRST, SCHEMA):
            raise ValueError(f"not the results of a run ({SCHEMA})")
        if written["schema"] == _FIRST:
            written = _fromFirst(written)
        if (mistake := _mistake(written)) is not None:
            raise ValueError(f"not the results of a run: {mistake}")
        try:
            return cls._fromJSON(written)
        except ValueError as error:
            raise ValueError(f"not the results of a run: {error}") from error

    @classmethod
    def _fromJSON(cls, written: dict[str, Any]) -> "Results":
        connections, messages = written["connections"], written["messages"]
        rate = written["rate"]
        datagrams = written["datagrams"]
        due, asked = messages["due"] or 0, rate["asked"]
        if asked is not None and due > asked * 1e9:
            raise ValueError("$.messages.due: more than 1e9 s at the rate that was asked")
        if (search := written["find_rate"]) is not None:
            _refuseContradiction(search)
        firstAt = round((rate["from_s"] or 0) * 1e9)
        return cls(
            target=written["target"],
            workload=written["workload"],
            requested=connections["requested"],
            started=_started(written["started"]),
            established=connections["established"],
            completed=connections["completed"],
            peakOpen=connections["peak_open"],
            failures=Counter(
                {FailureKind(kind): count for kind, count in written["failures"].items()}
            ),
            examples={
                FailureKind(kind): ConnectionFailure(kind=FailureKind(kind), **example)
                for kind, example in written["examples"].items()
            },
            sent=messages["sent"],
            verified=messages["verified"],
            mismatched=messages["mismatched"],
            unanswered=messages["unanswered"],
            bytesSent=written["bytes"]["sent"],
            bytesReceived=written["bytes"]["received"],
            connect=_latency(written, "connect"),
            response=_latency(written, "response"),
            service=_latency(written, "service"),
            sendLag=_latency(written, "send_lag"),
            kernel=Kernel.fromJSON(written["tcp"]),
            datagrams=Datagrams(**datagrams) if datagrams is not None else None,
            intervals=intervalsFromJSON(written["intervals"]),
            findRate=search,
            rateAsked=asked,
            due=due,
            scheduledNs=round(due / asked * 1e9) if asked is not None else 0,
            elapsedNs=round(written["elapsed_s"] * 1e9),
            firstAt=firstAt,
            lastSentAt=firstAt + round(rate["over_s"] * 1e9),
            lastAt=round((rate["to_s"] or 0) * 1e9),
            intervalNs=round((written["interval_s"] or 0) * 1e9),
            interrupted=written["verdict"] == "interrupted",
            warnings=list(written["warnings"]),
        )


def _started(text: str) -> datetime:
    """
    Read when a run began.

    @raise ValueError: if it is no time, or one of no time zone.
    """
    try:
        started = datetime.fromisoformat(text)
        if started.tzinfo is None:
            raise ValueError("of no time zone")
        return started.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"$.started: {error}") from error


def _latency(written: dict[str, Any], name: str) -> Latency:
    """
    Read a latency from its histogram.

    @raise ValueError: if it is none, or not of the readings that are counted.
    """
    try:
        latency = Latency.decoded(written["histograms"][name])
    except ValueError as error:
        raise ValueError(f"$.histograms.{name}: {error}") from error
    if latency.count != written[f"{name}_ns"]["count"]:
        raise ValueError(
            f"$.histograms.{name}: it does not have the readings that are counted in {name}_ns"
        )
    return latency


def _refuseContradiction(search: dict[str, Any]) -> None:
    """
    Check that a search has what its ending says that it has.

    @raise ValueError: if it does not.
    """
    ending = search["ended_by"]
    if ending == "found" and search["found"] is None:
        raise ValueError("$.find_rate.found: null, though ended_by is found")
    if ending == "client" and all(step["kept"] for step in search["steps"]):
        raise ValueError("$.find_rate.steps: each is kept, though ended_by is client")


_SUMMED = (
    "requested",
    "established",
    "completed",
    "open",
    "peakOpen",
    "sent",
    "verified",
    "mismatched",
    "unanswered",
    "bytesSent",
    "bytesReceived",
    "due",
)


def _difference(one: Results, other: Results) -> str:
    """Say in what the workloads of two runs differ."""
    for name in sorted(one.workload.keys() | other.workload.keys()):
        values = one.workload.get(name), other.workload.get(name)
        if values[0] != values[1]:
            return f"{name} {values[0]} and {values[1]}"
    return "one has a rate, another none"


def merged(runs: Sequence[Results]) -> Results:
    """
    Return the books of one run made of several that went on side by side: what
    they counted together, from the beginning of the first to the end of the last.
    The connections open at once are the sum of each run's most: no more than those.
    A schedule that began later than another is taken as one that began with it: the
    achieved rate is over the longest time of them.

    @raise ValueError: if they did not go on side by side, had not the same workload,
        one is a search, or some are of datagrams and others of streams.
    """
    latest = max(run.started for run in runs)
    if any(latest - run.started > timedelta(microseconds=run.elapsedNs / 1000) for run in runs):
        raise ValueError("they did not go on side by side")
    first = min(runs, key=lambda run: run.started)
    whole = Results(
        target=", ".join(dict.fromkeys(run.target for run in runs)),
        workload=first.workload,
        started=first.started,
        requested=0,
        interrupted=any(run.interrupted for run in runs),
    )
    if first.datagrams is not None:
        whole.datagrams = Datagrams()
    pieces = []
    firsts, lasts = [], []
    for number, run in enumerate(runs, 1):
        whole.warnings += [f"run {number}: {each}" for each in run.warnings]
        if run.findRate is not None:
            raise ValueError("a search for a rate is no part of another run")
        if run.workload != first.workload or (run.rateAsked is None) != (
            first.rateAsked is None
        ):
            raise ValueError(f"the workloads differ: {_difference(run, first)}")
        if (run.datagrams is None) != (first.datagrams is None):
            raise ValueError("one is of datagrams, another of streams")
        for name in _SUMMED:
            setattr(whole, name, getattr(whole, name) + getattr(run, name))
        whole.failures += run.failures
        whole.examples = run.examples | whole.examples
        whole.connect.add(run.connect)
        whole.response.add(run.response)
        whole.service.add(run.service)
        whole.sendLag.add(run.sendLag)
        whole.kernel.merge(run.kernel)
        if whole.datagrams is not None and run.datagrams is not None:
            whole.datagrams.merge(run.datagrams)
        offset = (run.started - first.started) // timedelta(microseconds=1) * 1000
        pieces.append((offset, run.intervals))
        whole.elapsedNs = max(whole.elapsedNs, offset + run.elapsedNs)
        whole.scheduledNs = max(whole.scheduledNs, run.scheduledNs)
        if run.firstAt:
            firsts.append(offset + run.firstAt - run.beganAt)
        if run.lastAt:
            lasts.append(offset + run.lastAt - run.beganAt)
    whole.intervalNs = max(run.intervalNs for run in runs)
    whole.firstAt, whole.lastAt = min(firsts, default=0), max(lasts, default=0)
    if first.rateAsked is not None:
        whole.rateAsked = _askedTogether(runs, whole)
        whole.lastSentAt = whole.firstAt + max(run.overNs for run in runs)
    whole.intervals = mergedIntervals(pieces, whole.intervalNs)
    return whole


def _askedTogether(runs: Sequence[Results], whole: Results) -> float:
    """Return the messages a second that the schedules of several runs ask for together."""
    rates = [run.rateAsked or 0.0 for run in runs]
    if whole.due and any(run.scheduledNs != whole.scheduledNs for run in runs):
        return whole.due / (whole.scheduledNs / 1e9)
    return sum(rates)
