"""
The check of a stream that comes back. Bytes go in, facts come out.
"""

from collections import deque

from echofactory.results.failures import FailureKind
from echofactory.workload.script import Script


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
