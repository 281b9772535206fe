"""
The settings of a workload.
"""

from dataclasses import dataclass
from functools import cached_property, partial

from echofactory.results.books import Results
from echofactory.results.latency import Latency
from echofactory.results.schedulefacts import ScheduleFacts, StageFacts
from echofactory.results.workloadfacts import WorkloadFacts
from echofactory.values.checks import (
    MAX_SIZE,
    MAX_WHOLE,
    checkItems,
    checkSeconds,
    checkType,
    checkWhole,
)
from echofactory.workload.arrivals import Poisson, PoissonSchedule
from echofactory.workload.schedule import DueTimes, Rate, Schedule
from echofactory.workload.script import (
    NUMBERED_SIZE,
    GeneratedScript,
    ListScript,
    Piece,
    Script,
    piecesOf,
)
from echofactory.workload.share import WHOLE_RUN, Share
from echofactory.workload.stages import StagedSchedule, Stages, WarmedUp

DEFAULT_MESSAGES = (b"Message 1 from client.", b"Message 2 from client.")

MAX_MESSAGE_SIZE = MAX_SIZE
"""Bytes. The block numbers of a generated message can count more."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """
    The messages of every connection, and when they are sent.

    @raise TypeError: from the constructor, if a field has another type.
    @raise ValueError: from the constructor, if a field is out of range or contradicts another.
        The message names the field and the value. It has C{=} after the name of another field.
    """

    messages: tuple[bytes, ...] = DEFAULT_MESSAGES
    """The list of messages, which are sent in turn. No message is empty. C{size} replaces the
    list."""
    size: int | None = None
    """Bytes of each generated message (L{generatedBlock}), from 1 to C{MAX_MESSAGE_SIZE}.
    C{None}: send the list."""
    count: int | None = None
    """Messages per connection, 1 or more. C{None}: C{duration} decides. Without a duration,
    each message of the list once, or one generated message."""
    duration: float | None = None
    """Seconds of sending. They begin when every connection is established or has failed, and
    the warm-up is over. C{None}: C{count} decides, or the stages of C{rate}."""
    rate: Rate | Stages | None = None
    """The schedule, over all connections in turn, independent of replies (open loop). A L{Rate}
    needs a count or a duration. L{Stages} have neither. C{None}: send when a reply makes room
    in the window (closed loop)."""
    arrivals: Poisson | None = None
    """Random gaps between the messages of the schedule. C{None}: even gaps."""
    warmUp: float = 0.0
    """Seconds of sending before the measurement. Messages are verified in this time, but do not
    count in latencies and rates. With a rate, they are due at its first rate, with even gaps.
    It needs a duration or stages. 0: no warm-up."""
    window: int | None = None
    """Outstanding messages per connection, 1 or more. C{None}: no limit with C{rate}; otherwise
    the length of the list, or 1 with C{size}. Not with C{churn}."""
    churn: bool = False
    """Whether to open a new connection for every message."""
    reconnect: bool = False
    """Whether to open a connection that has failed again, until the sending ends. It needs a
    duration, stages or a rate. Not with C{churn}."""
    halfClose: bool = False
    """Whether to close the sending side after the last message, and to expect the end of the
    stream after the last byte."""
    hold: float = 0.0
    """Seconds to keep a connection open after its last message is back. Not with
    C{halfClose}."""

    def __post_init__(self) -> None:
        checkType("messages", self.messages, tuple, "a tuple of bytes")
        checkItems("messages", self.messages, "bytes", partial(checkType, kind=bytes))
        if self.size is None and not self.messages:
            raise ValueError("messages: empty: there is nothing to send")
        if self.size is None and b"" in self.messages:
            raise ValueError(
                f"messages: number {self.messages.index(b'') + 1} is empty:"
                " an empty message cannot come back"
            )
        if self.size is not None:
            checkWhole("size", self.size, 1, MAX_MESSAGE_SIZE, "byte")
        for name in ("count", "window"):
            if (value := getattr(self, name)) is not None:
                checkWhole(name, value)
        if self.duration is not None:
            checkSeconds("duration", self.duration)
        if self.rate is not None:
            checkType("rate", self.rate, (Rate, Stages), "a Rate, such as Rate(500, 500)")
        if self.arrivals is not None:
            checkType("arrivals", self.arrivals, Poisson, "None, or Poisson arrivals")
        checkSeconds("warmUp", self.warmUp, zero=True)
        for name in ("churn", "reconnect", "halfClose"):
            checkType(name, getattr(self, name), bool, "True or False")
        checkSeconds("hold", self.hold, zero=True)
        self._refuseContradictions()

    def _refuseContradictions(self) -> None:
        """
        @raise ValueError: if fields do not go together, naming one of them.
        """
        if isinstance(self.rate, Stages):
            for name in ("count", "duration"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name}: the stages of rate= have their own durations")
        elif self.rate is not None and self.count is None and self.duration is None:
            raise ValueError("rate: give duration= or count= too")
        if self.arrivals is not None and self.rate is None:
            raise ValueError("arrivals: give rate= too")
        if self.warmUp and self.seconds is None:
            raise ValueError("warmUp: give duration= too, or stages in rate=")
        if self.count is not None and self.duration is not None:
            raise ValueError("duration: give duration= or count=, not both")
        if self.hold and self.halfClose:
            raise ValueError(
                "hold: not with halfClose=: a half-closed connection cannot be kept open"
            )
        if self.reconnect and self.seconds is None and self.rate is None:
            raise ValueError(
                "reconnect: give duration= or rate= too, which say when the sending ends"
            )
        if self.reconnect and self.churn:
            raise ValueError(
                "reconnect: not with churn=, which opens a new connection for each message"
            )
        if self.churn and self.window is not None:
            raise ValueError("window: not with churn=: a connection has one message")
        if (self.bytesPerConnection or 0) > MAX_WHOLE:
            raise ValueError(
                f"count: the messages of a connection have more than {MAX_WHOLE:,} bytes"
            )

    @property
    def seconds(self) -> float | None:
        """Seconds of sending after the warm-up; C{None}: the count decides."""
        return self.rate.seconds if isinstance(self.rate, Stages) else self.duration

    @property
    def sending(self) -> float | None:
        """Seconds of sending, with the warm-up; C{None}: the count decides."""
        return None if self.seconds is None else self.warmUp + self.seconds

    @property
    def messagesPerConnection(self) -> int | None:
        """Messages per connection; C{None}: the duration decides."""
        if self.seconds is not None:
            return None
        if self.count is not None:
            return self.count
        return len(self.messages) if self.size is None else 1

    @property
    def bytesPerConnection(self) -> int | None:
        """Bytes per connection; C{None}: the duration decides."""
        total = self.messagesPerConnection
        if total is None:
            return None
        if self.size is not None:
            return total * self.size
        rounds, rest = divmod(total, len(self.messages))
        lengths = [len(message) for message in self.messages]
        return rounds * sum(lengths) + sum(lengths[:rest])

    @property
    def longest(self) -> int:
        """Bytes of the longest message."""
        return self.size if self.size is not None else max(map(len, self.messages))

    @property
    def numbered(self) -> bool:
        """Whether the messages carry their numbers (L{messageNumber})."""
        return self.size is not None and self.size >= NUMBERED_SIZE

    @property
    def outstanding(self) -> int | None:
        """The effective window, in messages; C{None}: no limit."""
        if self.window is not None:
            return self.window
        if self.churn:
            return 1
        if self.rate is not None:
            return None
        return len(self.messages) if self.size is None else 1

    def schedule(self, connections: int, share: Share = WHOLE_RUN) -> DueTimes | None:
        """
        Return the schedule of a run; C{None}: replies decide (closed loop).

        @param connections: the number of connections of the whole run.
        @param share: whose messages the schedule has.
        """
        rate = self.rate
        if rate is None:
            return None
        measured: DueTimes
        if isinstance(rate, Stages):
            measured = StagedSchedule(rate)
        elif self.duration is not None:
            measured = Schedule.lasting(rate, self.duration)
        else:
            assert self.messagesPerConnection is not None
            measured = Schedule.of(rate, self.messagesPerConnection * connections)
        if self.arrivals is not None:
            measured = PoissonSchedule(measured, self.arrivals.seed, self.seconds is None)
        if self.warmUp:
            warmUp = Schedule.lasting(Rate(rate.first, rate.first), self.warmUp)
            measured = WarmedUp(warmUp, measured)
        # With churn, each message has a connection of its own.
        return share.schedule(measured, share.parts if self.churn else connections)

    def script(self, connection: int) -> Script:
        """
        Return the script of one connection.

        @param connection: the number of the connection, from 1.
        """
        if self.size is None:
            return ListScript(self._pieces)
        return GeneratedScript(connection, self.size)

    @cached_property
    def _pieces(self) -> list[Piece]:
        """The blocks of the list of messages."""
        return piecesOf(self.messages)

    def facts(self) -> WorkloadFacts:
        """Return the description for the results."""
        return WorkloadFacts(
            kind="messages" if self.size is None else "generated",
            size=self.size,
            count=self.messagesPerConnection,
            bytes=self.bytesPerConnection,
            durationS=self.seconds,
            warmUpS=self.warmUp,
            reconnect=self.reconnect,
            window=self.outstanding,
            churn=self.churn,
            halfClose=self.halfClose,
            holdS=self.hold,
        )

    def books(self, requested: int, interval: float) -> Results:
        """
        Return the books of a run that has not begun.

        @param requested: the number of connections.
        @param interval: seconds; the results are kept by pieces of this length.
        """
        return Results(
            target="",
            workload=self.facts(),
            requested=0 if self.churn else requested,
            intervalNs=int(interval * 1e9),
            service=Latency() if self.rate is not None else None,
            schedule=self.scheduleFacts(),
        )

    def scheduleFacts(self) -> ScheduleFacts | None:
        """Return the description of the schedule for the results; C{None}: there is none."""
        rate = self.rate
        if rate is None:
            return None
        stages = (
            tuple((stage.rate, stage.seconds) for stage in rate.stages)
            if isinstance(rate, Stages)
            else ((rate, self.duration),)
        )
        return ScheduleFacts(
            stages=tuple(
                StageFacts(first=each.first, last=each.last, seconds=seconds)
                for each, seconds in stages
            ),
            arrivals="even" if self.arrivals is None else "poisson",
            seed=None if self.arrivals is None else self.arrivals.seed,
        )
