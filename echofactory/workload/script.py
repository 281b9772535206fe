"""
The messages of one connection, in blocks: from a list, or generated.

This module does not depend on a transport, a clock or Twisted.
"""

import struct
from collections.abc import Sequence
from hashlib import shake_128
from typing import NamedTuple, Protocol

BLOCK_SIZE = 64 * 1024
"""Bytes. A longer message is generated, sent and checked in blocks of this size."""

# A prime number, so that neighbouring connections, messages and blocks start far apart.
_STARTS = 65521
# Further prime numbers: how far apart they start.
_PER_CONNECTION = 7919
_PER_MESSAGE = 104729
_PER_BLOCK = 15485863
_HEADER = struct.Struct(">III")
_PACK = _HEADER.pack
_MASK = 0xFFFFFFFF

NUMBERED_SIZE = _HEADER.size
"""Bytes. A generated block of this size or more begins with its numbers."""


# The same pseudorandom bytes in every process. The content of a block is a part of them,
# whose position depends on the numbers of the block.
_NOISE = shake_128(b"echofactory").digest(_STARTS + BLOCK_SIZE)


def _start(connection: int, message: int, block: int) -> int:
    """Return where in the noise a block begins."""
    return (
        connection * _PER_CONNECTION + message * _PER_MESSAGE + block * _PER_BLOCK
    ) % _STARTS


def generatedBlock(connection: int, message: int, block: int, size: int) -> bytes:
    """
    Return a generated block.

    A block begins with the numbers of the connection, the message and the block. The other
    bytes depend on these numbers and on the offset. A lost, repeated, swapped or altered block
    therefore differs from the expected block. A block that is too short for the numbers has
    only the other bytes.

    @param connection: the number of the connection in the run, from 1.
    @param message: the number of the message, from 1.
    @param block: the number of the block in the message, from 0.
    @param size: bytes of the block, from 1 to L{BLOCK_SIZE}.
    """
    start = _start(connection, message, block)
    if size < NUMBERED_SIZE:
        return _NOISE[start : start + size]
    numbers = _PACK(connection & _MASK, message & _MASK, block)
    return numbers + _NOISE[start : start + size - NUMBERED_SIZE]


def messageNumber(block: bytes) -> int | None:
    """
    Return the number of the message with which a generated block begins; C{None}: the block is
    too short for its numbers. The block may be altered: only a comparison shows whether the
    number is right.
    """
    return _HEADER.unpack_from(block)[1] if len(block) >= _HEADER.size else None


class Script(Protocol):
    """
    The messages of one connection, in order, as blocks of at most L{BLOCK_SIZE} bytes. Each
    block is available at any time, by its index from 0. A script has no end.
    """

    whole: bool
    """Whether every block is a whole message."""

    def block(self, index: int) -> bytes:
        """Return the bytes of a block."""

    def begins(self, index: int) -> bool:
        """Return whether a block is the first of its message."""

    def ends(self, index: int) -> bool:
        """Return whether a block is the last of its message."""

    def place(self, index: int) -> tuple[int, int]:
        """Return the number of a block's message, from 1, and the block's offset in it."""

    def end(self, messages: int) -> int:
        """Return the number of blocks of the first C{messages} messages."""


class GeneratedScript:
    """The L{Script} of generated messages (L{generatedBlock})."""

    __slots__ = (
        "_connection",
        "_lastSize",
        "_number",
        "_origin",
        "_perMessage",
        "_rest",
        "whole",
    )

    def __init__(self, connection: int, size: int) -> None:
        self._connection = connection
        self._number = connection & _MASK
        self._origin = _start(connection, 0, 0)
        self._perMessage = -(-size // BLOCK_SIZE)
        self._lastSize = size - (self._perMessage - 1) * BLOCK_SIZE
        self._rest = self._lastSize - NUMBERED_SIZE
        self.whole = self._perMessage == 1

    def block(self, index: int) -> bytes:
        if self.whole and self._rest >= 0:
            # The usual case. This is generatedBlock, without what is the same for all messages.
            message = index + 1
            start = (self._origin + message * _PER_MESSAGE) % _STARTS
            numbers = _PACK(self._number, message & _MASK, 0)
            return numbers + _NOISE[start : start + self._rest]
        number, part = divmod(index, self._perMessage)
        last = part == self._perMessage - 1
        size = self._lastSize if last else BLOCK_SIZE
        return generatedBlock(self._connection, number + 1, part, size)

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
    """A block of a message in a list.

    @ivar message: the whole message.
    @ivar number: the number of the message in the list, from 1.
    @ivar offset: the offset of the block in the message, in bytes.
    @ivar last: whether the block is the last of the message.
    """

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
    """The L{Script} of a list of messages, which it repeats."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self.whole = len(pieces) == pieces[-1].number

    def block(self, index: int) -> bytes:
        message, _, offset, _ = self._pieces[index % len(self._pieces)]
        # If the message is one block, the slice is the message itself, without a copy.
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
