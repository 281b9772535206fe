"""
How much a transport of the lane reads at once: it follows the messages that it carries.
"""

from types import SimpleNamespace
from typing import Any

import pytest
from twisted.internet.protocol import Protocol

from echofactory.express.transports import LARGEST_READ, SMALLEST_READ, TCPServer


class Arrived:
    """A socket with bytes to read, and the sizes of the reads."""

    def __init__(self) -> None:
        self.waiting = 0
        self.asked: list[int] = []

    def recv(self, size: int) -> bytes:
        self.asked.append(size)
        got = min(size, self.waiting)
        self.waiting -= got
        return bytes(got)

    def setblocking(self, blocking: bool) -> None:
        assert not blocking

    def fileno(self) -> int:
        return 0


class Transport:
    """A transport of the lane on such a socket."""

    def __init__(self) -> None:
        self.socket = Arrived()
        reactor = SimpleNamespace(addReader=lambda reader: None)
        port: Any = SimpleNamespace(_realPortNumber=7)
        sock: Any = self.socket
        self._transport = TCPServer(sock, Protocol(), ("192.0.2.1", 7), port, 0, reactor)

    def read(self, size: int) -> list[int]:
        """Read a message, and return the sizes of the reads that this took."""
        self.socket.waiting = size
        self.socket.asked.clear()
        while self.socket.waiting:
            assert self._transport.doRead() is None
        return list(self.socket.asked)


@pytest.mark.parametrize("size", [300, 2048, 8 * 1024, 29 * 1024, LARGEST_READ - 1])
def test_a_message_is_read_at_once(size: int) -> None:
    """After the first messages of a size, each of them is one read."""
    transport = Transport()
    for _ in range(5):
        transport.read(size)
    assert [len(transport.read(size)) for _ in range(10)] == [1] * 10


def test_large_and_small_messages_in_turn() -> None:
    """A small message between large ones costs none of them a second read."""
    transport = Transport()
    for _ in range(5):
        transport.read(8 * 1024)
    assert [len(transport.read(size)) for size in [64, 8 * 1024] * 5] == [1] * 10


def test_small_messages_after_large_ones() -> None:
    """After some small messages, the reads are small again."""
    transport = Transport()
    for _ in range(5):
        transport.read(LARGEST_READ - 1)
    for _ in range(8):
        transport.read(64)
    assert transport.read(64) == [SMALLEST_READ]
