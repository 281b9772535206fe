"""
The check of a received stream. Bytes go in, facts come out.
"""

from collections import deque

from echofactory.results.failures import FailureKind
from echofactory.workload.script import Script


class StreamFault(Exception):
    """
    The peer's stream is not the echo of the sent bytes.

    @cvar kind: the kind of the failure.
    @ivar completed: messages that the received data completed before the fault.
    """

    kind: FailureKind

    def __init__(self, text: str, completed: int) -> None:
        super().__init__(text)
        self.completed = completed


class EchoMismatch(StreamFault):
    """
    The peer returned wrong bytes.

    @cvar SHOWN: the highest number of bytes in C{expected} and in C{received}.
    @ivar message: the number of the message on its connection, from 1.
    @ivar offset: the offset of the first wrong byte in the message.
    @ivar expected: the sent bytes from the offset on.
    @ivar received: the received bytes from the offset on.
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
    The peer returned more bytes than it was sent.

    @ivar received: the first of the extra bytes, at most L{EchoMismatch.SHOWN}.
    """

    kind = FailureKind.EXTRA_BYTES

    def __init__(self, after: int, received: bytes, completed: int) -> None:
        super().__init__(f"after message {after}: received {received!r} unasked", completed)
        self.received = received


KEPT_SIZE = 16 * 1024
KEPT_BLOCKS = 64
"""Bytes and blocks of sent data that a verifier keeps, at most. It generates the rest again."""


class StreamVerifier:
    """
    Checks the received stream of one connection against its script.

    It keeps the expected block. Of the sent blocks after it, it keeps at most L{KEPT_BLOCKS}
    and L{KEPT_SIZE} bytes. A peer that does not return what it was sent therefore costs no more
    memory.
    """

    __slots__ = ("_block", "_index", "_kept", "_keptSize", "_offset", "_script", "_sent")

    def __init__(self, script: Script) -> None:
        """
        @param script: the messages of this connection.
        """
        self._script = script
        # The expected block, if it was sent, and the number of its bytes that have arrived.
        self._block: bytes | None = None
        self._offset = 0
        # Indices of the expected block, and of the next block to send.
        self._index = 0
        self._sent = 0
        # The blocks after the expected block, as far as they are kept.
        self._kept: deque[bytes] | None = None
        self._keptSize = 0

    @property
    def verified(self) -> int:
        """The number of messages of which every byte has come back."""
        return self._script.place(self._index)[0] - 1

    def sent(self, block: bytes) -> None:
        """Record that the next block of the script was sent."""
        ahead = self._sent - self._index
        self._sent += 1
        if not ahead:
            self._block = block
        elif (
            ahead == (len(self._kept) if self._kept else 0) + 1
            and ahead <= KEPT_BLOCKS
            and self._keptSize + len(block) <= KEPT_SIZE
        ):
            if self._kept is None:
                self._kept = deque()
            self._kept.append(block)
            self._keptSize += len(block)

    def exchange(self, data: bytes) -> bytes | None:
        """
        Check received data in the usual case: it is exactly the one block that is out.
        Return the next block of the script, which the caller has to send.

        @return: C{None}: the data is something else, or more is out. L{feed} has to check the
            data: nothing has changed.
        """
        index = self._index + 1
        if data != self._block or self._offset or self._sent != index:
            return None
        self._index = index
        self._sent = index + 1
        block = self._block = self._script.block(index)
        return block

    def feed(self, data: bytes) -> int:
        """
        Check received data, and return the number of messages that it completed.

        @raise StreamFault: at the first byte that is not the expected byte. The stream has no
            meaning after it: do not call C{feed} again.
        """
        # If the data is exactly one block, one comparison is enough.
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
        """Go on to the next block. Return whether this block was the last of its message."""
        ended = self._script.ends(self._index)
        self._index += 1
        self._offset = 0
        if self._index == self._sent:
            self._block = None
        elif self._kept:
            self._block = self._kept.popleft()
            self._keptSize -= len(self._block)
        else:
            self._block = self._script.block(self._index)
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
