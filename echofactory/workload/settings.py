"""
What every connection of a run sends.
"""

from dataclasses import dataclass
from functools import cached_property, partial

from echofactory.results.workloadfacts import WorkloadFacts
from echofactory.values.checks import MAX_SIZE, checkItems, checkSeconds, checkType, checkWhole
from echofactory.workload.schedule import Rate, Schedule
from echofactory.workload.script import (
    NUMBERED_SIZE,
    GeneratedScript,
    ListScript,
    Piece,
    Script,
    piecesOf,
)

DEFAULT_MESSAGES = (b"Message 1 from client.", b"Message 2 from client.")

MAX_MESSAGE_SIZE = MAX_SIZE
"""Bytes: well within what a generated message's block numbers count."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """
    What every connection sends.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    messages: tuple[bytes, ...] = DEFAULT_MESSAGES
    """Sent in turn, unless C{size} is given."""
    size: int | None = None
    """Bytes a message: send generated messages instead (L{blockGenerator})."""
    count: int | None = None
    """Messages per connection; C{None}: each of the list once, or one generated,
    or as many as C{duration} has time for."""
    duration: float | None = None
    """Seconds to send for, from when every connection is up or has failed."""
    rate: Rate | None = None
    """Send on schedule, over all connections in turn, whether or not replies come
    (open loop); C{None}: send when a reply makes room in the window (closed
    loop)."""
    window: int | None = None
    """Messages outstanding per connection; C{None}: the length of the list, or no
    limit with C{rate}."""
    churn: bool = False
    """A new connection for every message."""
    halfClose: bool = False
    """Close the sending side after the last message, and expect the end of the
    stream after the last byte."""
    hold: float = 0.0
    """Seconds to keep a connection open after its last message is back."""

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
            checkType("rate", self.rate, Rate, "a Rate, such as Rate(500, 500)")
        for name in ("churn", "halfClose"):
            checkType(name, getattr(self, name), bool, "True or False")
        checkSeconds("hold", self.hold, zero=True)
        if self.rate is not None and self.count is None and self.duration is None:
            raise ValueError("rate: a schedule has a duration or a count")
        if self.count is not None and self.duration is not None:
            raise ValueError("duration: a run has that or a count")
        if self.hold and self.halfClose:
            raise ValueError("hold: a half-closed connection is not kept open")
        if self.churn and self.window is not None:
            raise ValueError("window: with churn, a connection has one message")

    @property
    def messagesPerConnection(self) -> int | None:
        """C{None} if time decides."""
        if self.duration is not None:
            return None
        if self.count is not None:
            return self.count
        return len(self.messages) if self.size is None else 1

    @property
    def bytesPerConnection(self) -> int | None:
        """C{None} if time decides."""
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
        """Bytes of its longest message."""
        return self.size if self.size is not None else max(map(len, self.messages))

    @property
    def numbered(self) -> bool:
        """Whether its messages carry their numbers (L{messageNumber})."""
        return self.size is not None and self.size >= NUMBERED_SIZE

    @property
    def outstanding(self) -> int | None:
        """The window in force, in messages; C{None}: no limit."""
        if self.window is not None:
            return self.window
        if self.churn:
            return 1
        if self.rate is not None:
            return None
        return len(self.messages) if self.size is None else 1

    def schedule(self, connections: int) -> Schedule | None:
        """Return when messages are due; C{None} if replies decide."""
        if self.rate is None:
            return None
        if self.duration is not None:
            return Schedule.lasting(self.rate, self.duration)
        assert self.messagesPerConnection is not None
        return Schedule.of(self.rate, self.messagesPerConnection * connections)

    def script(self, connection: int) -> Script:
        """
        Return what one connection sends, for as long as it does.

        @param connection: its number, from 1.
        """
        if self.size is None:
            return ListScript(self._pieces)
        return GeneratedScript(connection, self.size)

    @cached_property
    def _pieces(self) -> list[Piece]:
        """The list of messages, cut into blocks."""
        return piecesOf(self.messages)

    def facts(self) -> WorkloadFacts:
        """Return what the results say of it."""
        return WorkloadFacts(
            kind="messages" if self.size is None else "generated",
            size=self.size,
            count=self.messagesPerConnection,
            bytes=self.bytesPerConnection,
            durationS=self.duration,
            window=self.outstanding,
            churn=self.churn,
            halfClose=self.halfClose,
            holdS=self.hold,
        )
