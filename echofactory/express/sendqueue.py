"""
The bytes that a TLS connection of the lane has still to send.
"""

from typing import Any

from echofactory.express.openssl import MOST, RECORD, pointerTo, write


class SendQueue:
    """
    Bytes in the order in which they were written.

    If OpenSSL has sent a part of a record, the next call has to begin with the same bytes, and
    must not have fewer of them. The queue keeps this rule of C{SSL_write}.

    @ivar first: the part that is sent next. It is empty only if the queue is.
    """

    __slots__ = ("_more", "_moreBytes", "_offset", "first")

    def __init__(self) -> None:
        self.first = b""
        self._offset = 0
        self._more: list[bytes] = []
        self._moreBytes = 0

    def __len__(self) -> int:
        """The number of bytes."""
        return len(self.first) - self._offset + self._moreBytes

    def append(self, data: bytes) -> None:
        """
        Add bytes at the end.

        @param data: not empty.
        """
        if not self.first:
            self.first = data
        else:
            self._more.append(data)
            self._moreBytes += len(data)

    def appendRest(self, data: bytes, sent: int) -> None:
        """
        Begin the queue, which is empty.

        @param sent: bytes of the data that are sent already, if it is positive.
        """
        self.first = data
        self._offset = max(sent, 0)

    def send(self, ssl: Any) -> int:
        """
        Send what the socket takes.

        @param ssl: from L{putOnSocket<echofactory.express.openssl.putOnSocket>}.
        @return: 1 if the queue is empty, otherwise OpenSSL's result, which is not positive.
        """
        data = self.first
        offset = self._offset
        while True:
            size = len(data) - offset
            if self._more and size < RECORD:
                # Together, small parts need fewer records.
                data = b"".join((data[offset:], *self._more))
                self._more.clear()
                self._moreBytes = offset = 0
                size = len(data)
            sent = write(ssl, pointerTo(data) + offset if offset else data, min(size, MOST))
            if sent <= 0:
                self.first = data
                self._offset = offset
                return int(sent)
            if sent == size and not self._more:
                self.first = b""
                self._offset = 0
                return 1
            offset += sent
