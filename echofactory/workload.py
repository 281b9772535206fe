"""
What is sent, and the check of what came back.

Nothing here knows a transport, a clock or Twisted: bytes go in, facts come out.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from hashlib import shake_128
from typing import NamedTuple

from echofactory.results import FailureKind

DEFAULT_MESSAGES = (b"Message 1 from client.", b"Message 2 from client.")

BLOCK_SIZE = 64 * 1024
"""Bytes. A longer message is made, sent and checked in pieces of this size."""

MAX_MESSAGE_SIZE = 1 << 40
"""Bytes, 1 TiB: well within what a generated message's block numbers count."""

# Prime, so that neighbouring connections, messages and blocks start far apart.
_STARTS = 65521
_HEADER = struct.Struct(">III")


@cache
def _noise() -> bytes:
    """
    Return the same random-looking bytes in every process: block content is
    cut out of them, from a place that depends on what the block is.
    """
    return shake_128(b"echofactory").digest(_STARTS + BLOCK_SIZE)


def generatedBlock(connection: int, message: int, block: int, size: int) -> bytes:
    """
    Return one block of a generated message.

    It opens with the connection's number, the message's and its own, and goes
    on with bytes that depend on all three and on the offset; so a block that
    was lost, repeated, swapped or altered differs from the one expected. A
    block too short for the numbers has just those bytes.

    @param block: the block's number in its message, from 0.
    @param size: bytes, from 1 to L{BLOCK_SIZE}.
    """
    start = (connection * 7919 + message * 104729 + block * 15485863) % _STARTS
    if size < _HEADER.size:
        return _noise()[start : start + size]
    header = _HEADER.pack(connection & 0xFFFFFFFF, message & 0xFFFFFFFF, block)
    return header + _noise()[start : start + size - _HEADER.size]


class Block(NamedTuple):
    """One piece of a connection's script, of at most L{BLOCK_SIZE} bytes."""

    data: bytes
    first: bool
    """Whether a message begins with it."""
    last: bool
    """Whether a message ends with it."""


_NOTHING = Block(b"", False, False)


@dataclass(frozen=True, kw_only=True)
class Workload:
    """
    What every connection sends.

    @raise ValueError: from the constructor, naming the field and the value.
    """

    messages: tuple[bytes, ...] = DEFAULT_MESSAGES
    """Sent in turn, unless C{size} is given."""
    size: int | None = None
    """Bytes a message: send generated messages instead (L{generatedBlock})."""
    count: int | None = None
    """Messages per connection; C{None}: each of the list once, or one generated."""
    window: int | None = None
    """Messages outstanding per connection; C{None}: the length of the list."""
    halfClose: bool = False
    """Close the sending side after the last message, and expect the end of the
    stream after the last byte."""

    def __post_init__(self) -> None:
        if self.size is None and not self.messages:
            raise ValueError("messages: empty: there is nothing to send")
        if self.size is None and b"" in self.messages:
            raise ValueError(
                f"messages: number {self.messages.index(b'') + 1} is empty:"
                " an empty message cannot come back"
            )
        if self.size is not None and not 0 < self.size <= MAX_MESSAGE_SIZE:
            raise ValueError(f"size: {self.size} is not from 1 byte to {MAX_MESSAGE_SIZE}")
        for name in ("count", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}: {value} is not 1 or more")

    @property
    def messagesPerConnection(self) -> int:
        if self.count is not None:
            return self.count
        return len(self.messages) if self.size is None else 1

    @property
    def bytesPerConnection(self) -> int:
        total = self.messagesPerConnection
        if self.size is not None:
            return total * self.size
        rounds, rest = divmod(total, len(self.messages))
        lengths = [len(message) for message in self.messages]
        return rounds * sum(lengths) + sum(lengths[:rest])

    @property
    def outstanding(self) -> int:
        """The window in force, in messages."""
        if self.window is not None:
            return self.window
        return len(self.messages) if self.size is None else 1

    def script(self, connection: int) -> Iterator[Block]:
        """
        Yield all that one connection sends, in order.

        @param connection: its number, from 1.
        """
        for number in range(1, self.messagesPerConnection + 1):
            size = self._sizeOf(number)
            for at in range(0, size, BLOCK_SIZE):
                end = min(at + BLOCK_SIZE, size)
                yield Block(self._cut(connection, number, at, end), at == 0, end == size)

    def _sizeOf(self, number: int) -> int:
        return self.size or len(self._listed(number))

    def _cut(self, connection: int, number: int, at: int, end: int) -> bytes:
        """Return the bytes of message C{number} from offset C{at} to C{end}."""
        if self.size is None:
            return self._listed(number)[at:end]
        return generatedBlock(connection, number, at // BLOCK_SIZE, end - at)

    def _listed(self, number: int) -> bytes:
        return self.messages[(number - 1) % len(self.messages)]

    def asJSON(self) -> dict[str, object]:
        """Return the C{workload} object of the JSON results."""
        return {
            "kind": "messages" if self.size is None else "generated",
            "size": self.size,
            "count": self.messagesPerConnection,
            "bytes": self.bytesPerConnection,
            "window": self.outstanding,
            "half_close": self.halfClose,
        }


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


class StreamVerifier:
    """
    Checks one connection's incoming stream against its script.

    It walks the script a second time, and keeps nothing of what went out: a
    peer that takes everything and returns nothing costs no memory.

    @ivar verified: messages that came back whole, so far.
    """

    def __init__(self, script: Iterator[Block]) -> None:
        """
        @param script: what is sent on this connection, from the beginning.
        """
        self.verified = 0
        self._script = script
        # The block that is to come, and how much of it has: of it, and of its
        # message's blocks before it.
        self._block, _, self._last = next(script)
        self._offset = 0
        self._before = 0
        # Bytes that went out and have not come back.
        self._outstanding = 0

    def sent(self, size: int) -> None:
        """Note that the next C{size} bytes of the script went out."""
        self._outstanding += size

    def feed(self, data: bytes) -> int:
        """
        Return how many messages C{data} completed.

        @raise StreamFault: at the first byte that is not the next one sent.
            The stream has lost its meaning there: nothing may be fed after it.
        """
        size = len(data)
        if data == self._block and not self._offset and size <= self._outstanding:
            return self._advance(size)

        completed = 0
        at = 0
        while at < size:
            if not self._outstanding:
                raise ExtraBytes(self.verified, data[at : at + EchoMismatch.SHOWN], completed)
            length = min(len(self._block) - self._offset, size - at, self._outstanding)
            piece = data[at : at + length]
            if not self._block.startswith(piece, self._offset):
                raise self._mismatch(piece, completed)
            at += length
            completed += self._advance(length)
        return completed

    def _advance(self, size: int) -> int:
        """Count verified bytes of a block; return 1 if they ended a message."""
        self._outstanding -= size
        self._offset += size
        if self._offset < len(self._block):
            return 0
        ended = self._last
        self._before = 0 if ended else self._before + self._offset
        self._offset = 0
        # After the last one there is nothing outstanding to compare it with.
        self._block, _, self._last = next(self._script, _NOTHING)
        self.verified += ended
        return int(ended)

    def _mismatch(self, piece: bytes, completed: int) -> EchoMismatch:
        sent = self._block[self._offset : self._offset + len(piece)]
        at = next(i for i, (a, b) in enumerate(zip(sent, piece, strict=True)) if a != b)
        shown = EchoMismatch.SHOWN
        return EchoMismatch(
            self.verified + 1,
            self._before + self._offset + at,
            sent[at : at + shown],
            piece[at : at + shown],
            completed,
        )
