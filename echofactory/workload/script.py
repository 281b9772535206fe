"""
What one connection sends: messages from a list, or generated ones, in blocks.

Nothing here knows a transport, a clock or Twisted.
"""

import struct
from collections.abc import Callable, Sequence
from hashlib import shake_128
from typing import NamedTuple, Protocol

BLOCK_SIZE = 64 * 1024
"""Bytes. A longer message is made, sent and checked in pieces of this size."""

# Prime, so that neighbouring connections, messages and blocks start far apart.
_STARTS = 65521
_HEADER = struct.Struct(">III")
_MASK = 0xFFFFFFFF

NUMBERED_SIZE = _HEADER.size
"""Bytes: a generated block of this size or more opens with its numbers."""


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


class GeneratedScript:
    """The L{Script} of generated messages."""

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


class Piece(NamedTuple):
    """A block of a list of messages."""

    message: bytes
    number: int
    offset: int
    last: bool


def piecesOf(messages: Sequence[bytes]) -> list[Piece]:
    """Cut a list of messages into blocks."""
    return [
        Piece(message, number, at, at + BLOCK_SIZE >= len(message))
        for number, message in enumerate(messages, 1)
        for at in range(0, len(message), BLOCK_SIZE)
    ]


class ListScript:
    """The L{Script} of a list of messages, over and over."""

    def __init__(self, pieces: list[Piece]) -> None:
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
