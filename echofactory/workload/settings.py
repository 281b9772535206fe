"""
What is sent, and the check of what came back.

Nothing here knows a transport, a clock or Twisted: bytes go in, facts come out.
"""

import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from hashlib import shake_128
from typing import NamedTuple, Protocol

from echofactory.results.books import FailureKind
from echofactory.values.checks import MOST_SIZE, checkItems, checkSeconds, checkType, checkWhole
from echofactory.workload.schedule import Rate, Schedule

DEFAULT_MESSAGES = (b"Message 1 from client.", b"Message 2 from client.")

BLOCK_SIZE = 64 * 1024
"""Bytes. A longer message is made, sent and checked in pieces of this size."""

MAX_MESSAGE_SIZE = MOST_SIZE
"""Bytes: well within what a generated message's block numbers count."""

# Prime, so that neighbouring connections, messages and blocks start far apart.
_STARTS = 65521
_HEADER = struct.Struct(">III")
_MASK = 0xFFFFFFFF


# The same random-looking bytes in every process. What a block holds is cut out of
# them, from a place that depends on which block it is.
_NOISE = shake_128(b"echofactory").digest(_STARTS + BLOCK_SIZE)


def blockGenerator(connection: int, size: int) -> Callable[[int, int], bytes]:
    """
    Return what makes the blocks of one connection's generated messages, of the
    message's number and the block's number in it, from 0.

    A block opens with the connection's number, the message's and its own, and
    goes on with bytes that depend on all three and on the offset; so a block that
    was lost, repeated, swapped or altered differs from the one expected. A block
    too short for the numbers has just those bytes.

    @param size: of the blocks, from 1 byte to L{BLOCK_SIZE}.
    """
    # It is called for each message: what is the same for all is done here.
    numbers = size >= _HEADER.size
    rest = size - _HEADER.size if numbers else size
    origin = connection * 7919
    connection &= _MASK
    pack = _HEADER.pack
    noise = _NOISE

    def generate(message: int, block: int) -> bytes:
        start = (origin + message * 104729 + block * 15485863) % _STARTS
        if numbers:
            return pack(connection, message & _MASK, block) + noise[start : start + rest]
        return noise[start : start + rest]

    return generate


def messageNumber(block: bytes) -> int | None:
    """
    Return the message's number that a generated block opens with; C{None}, if it is
    too short for one. Whether it is true only a comparison can tell.
    """
    return _HEADER.unpack_from(block)[1] if len(block) >= _HEADER.size else None


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
        return self.size is not None and self.size >= _HEADER.size

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

    def script(self, connection: int) -> "Script":
        """
        Return what one connection sends, for as long as it does.

        @param connection: its number, from 1.
        """
        if self.size is None:
            return _ListScript(self._pieces)
        return _GeneratedScript(connection, self.size)

    @cached_property
    def _pieces(self) -> "list[_Piece]":
        """The list of messages, cut into blocks."""
        return [
            _Piece(message, number, at, at + BLOCK_SIZE >= len(message))
            for number, message in enumerate(self.messages, 1)
            for at in range(0, len(message), BLOCK_SIZE)
        ]

    def asJSON(self) -> dict[str, object]:
        """Return the C{workload} object of the JSON results."""
        return {
            "kind": "messages" if self.size is None else "generated",
            "size": self.size,
            "count": self.messagesPerConnection,
            "bytes": self.bytesPerConnection,
            "duration_s": self.duration,
            "window": self.outstanding,
            "churn": self.churn,
            "half_close": self.halfClose,
            "hold_s": self.hold,
        }


class Script(Protocol):
    """
    What one connection sends, in order, in blocks of at most L{BLOCK_SIZE} bytes;
    any of them can be had at any time, by its number from 0. It has no end.
    """

    whole: bool
    """Whether each of them is a message."""

    def block(self, index: int) -> bytes:
        """Return the bytes of a block."""

    def begins(self, index: int) -> bool:
        """Tell whether a message begins with a block."""

    def ends(self, index: int) -> bool:
        """Tell whether a message ends with a block."""

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of a block's message, from 1, and its offset there."""

    def end(self, messages: int) -> int:
        """Return how many blocks the first so many messages have."""


class _GeneratedScript:
    def __init__(self, connection: int, size: int) -> None:
        self._perMessage = -(-size // BLOCK_SIZE)
        lastSize = size - (self._perMessage - 1) * BLOCK_SIZE
        self._generate = blockGenerator(connection, BLOCK_SIZE)
        self._generateLast = blockGenerator(connection, lastSize)
        self.whole = self._perMessage == 1

    def block(self, index: int) -> bytes:
        if self.whole:
            return self._generateLast(index + 1, 0)
        number, part = divmod(index, self._perMessage)
        last = part == self._perMessage - 1
        return (self._generateLast if last else self._generate)(number + 1, part)

    def begins(self, index: int) -> bool:
        return index % self._perMessage == 0

    def ends(self, index: int) -> bool:
        return (index + 1) % self._perMessage == 0

    def place(self, index: int) -> tuple[int, int]:
        number, part = divmod(index, self._perMessage)
        return number + 1, part * BLOCK_SIZE

    def end(self, messages: int) -> int:
        return messages * self._perMessage


class _Piece(NamedTuple):
    """A block of a list of messages."""

    message: bytes
    number: int
    offset: int
    last: bool


class _ListScript:
    def __init__(self, pieces: list[_Piece]) -> None:
        self._pieces = pieces
        self.whole = len(pieces) == pieces[-1].number

    def block(self, index: int) -> bytes:
        message, _, offset, _ = self._pieces[index % len(self._pieces)]
        # Of a message that is one block, this is the message itself.
        return message[offset : offset + BLOCK_SIZE]

    def begins(self, index: int) -> bool:
        return self._pieces[index % len(self._pieces)].offset == 0

    def ends(self, index: int) -> bool:
        return self._pieces[index % len(self._pieces)].last

    def place(self, index: int) -> tuple[int, int]:
        rounds, at = divmod(index, len(self._pieces))
        piece = self._pieces[at]
        return rounds * self._pieces[-1].number + piece.number, piece.offset

    def end(self, messages: int) -> int:
        rounds, rest = divmod(messages, self._pieces[-1].number)
        return rounds * len(self._pieces) + sum(piece.number <= rest for piece in self._pieces)


class StreamFault(Exception):
    """
    The peer's stream is not the echo of what was sent.

    @ivar completed: how many messages the bytes before the fault completed.
    """

    kind: FailureKind

    def __init__(self, text: str, completed: int) -> None:
        super().__init__(text)
        self.completed = completed


class EchoMismatch(StreamFault):
    """
    The peer returned something other than what was sent.

    @ivar message: the message's number on its connection, from 1.
    @ivar offset: of the first wrong byte, in the message.
    @ivar expected: bytes from there on, at most L{SHOWN} of them.
    @ivar received: the bytes in their place.
    """

    kind = FailureKind.MISMATCH
    SHOWN = 16

    def __init__(
        self, message: int, offset: int, expected: bytes, received: bytes, completed: int
    ) -> None:
        super().__init__(
            f"message {message}, offset {offset:,}:"
            f" expected {expected!r}, received {received!r}",
            completed,
        )
        self.message = message
        self.offset = offset
        self.expected = expected
        self.received = received


class ExtraBytes(StreamFault):
    """
    The peer sent more than it was sent.

    @ivar received: the first bytes too many, at most L{EchoMismatch.SHOWN}.
    """

    kind = FailureKind.EXTRA_BYTES

    def __init__(self, after: int, received: bytes, completed: int) -> None:
        super().__init__(f"after message {after}: received {received!r} unasked", completed)
        self.received = received


KEPT_SIZE = 16 * 1024
KEPT_BLOCKS = 64
"""What a verifier keeps of what went out, at most; it has the rest made again."""


class StreamVerifier:
    """
    Checks one connection's incoming stream against its script.

    Of what went out it keeps the block that is to come, and of those after it
    L{KEPT_BLOCKS} at most, and L{KEPT_SIZE} bytes: what a peer takes and does not
    return costs no more memory than that.

    @ivar verified: messages that came back whole, so far.
    """

    def __init__(self, script: Script) -> None:
        """
        @param script: what is sent on this connection.
        """
        self.verified = 0
        self._script = script
        self._whole = script.whole
        # The block that is to come, if it went out, and how much of it has come.
        self._block: bytes | None = None
        self._offset = 0
        # Numbers of blocks: the one to come, and the next that goes out.
        self._index = 0
        self._sent = 0
        # The blocks after the one to come, as far as they are kept.
        self._kept: deque[bytes] = deque()
        self._keptSize = 0

    def sent(self, block: bytes) -> None:
        """Note that the script's next block went out."""
        ahead = self._sent - self._index
        self._sent += 1
        if not ahead:
            self._block = block
        elif (
            ahead == len(self._kept) + 1
            and ahead <= KEPT_BLOCKS
            and self._keptSize + len(block) <= KEPT_SIZE
        ):
            self._kept.append(block)
            self._keptSize += len(block)

    def feed(self, data: bytes) -> int:
        """
        Return how many messages C{data} completed.

        @raise StreamFault: at the first byte that is not the next one sent.
            The stream has lost its meaning there: nothing may be fed after it.
        """
        # One comparison, for what comes back as it went out.
        if data == self._block and not self._offset:
            return self._advance()
        return self._feedPieces(data)

    def _feedPieces(self, data: bytes) -> int:
        completed = 0
        at = 0
        while at < len(data):
            block = self._block
            if block is None:
                raise ExtraBytes(self.verified, data[at : at + EchoMismatch.SHOWN], completed)
            piece = data[at : at + len(block) - self._offset]
            if not block.startswith(piece, self._offset):
                raise self._mismatch(block, piece, completed)
            at += len(piece)
            self._offset += len(piece)
            if self._offset == len(block):
                completed += self._advance()
        return completed

    def _advance(self) -> int:
        """Go on to the next block; return 1 if this one ended a message."""
        ended = self._whole or self._script.ends(self._index)
        self._index += 1
        self._offset = 0
        if self._index == self._sent:
            self._block = None
        elif self._kept:
            self._block = self._kept.popleft()
            self._keptSize -= len(self._block)
        else:
            self._block = self._script.block(self._index)
        self.verified += ended
        return ended

    def _mismatch(self, block: bytes, piece: bytes, completed: int) -> EchoMismatch:
        sent = block[self._offset : self._offset + len(piece)]
        at = next(i for i, (a, b) in enumerate(zip(sent, piece, strict=True)) if a != b)
        message, offset = self._script.place(self._index)
        shown = EchoMismatch.SHOWN
        return EchoMismatch(
            message,
            offset + self._offset + at,
            sent[at : at + shown],
            piece[at : at + shown],
            completed,
        )
