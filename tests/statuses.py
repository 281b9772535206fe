"""
A status for the tests, and what asks it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from peers import Connect, portOf

from echofactory.counts import Counts, PeerCounts, WorkerState
from echofactory.status import ServerStatus, StatusService

LOOPBACK = "tcp:0:interface=127.0.0.1"


@dataclass
class Source:
    """A L{CountsSource<echofactory.counts.CountsSource>} that says what a test wants."""

    now: Counts = field(default_factory=Counts)
    draining: bool = False
    processes: list[WorkerState] = field(default_factory=list)
    asked: int = 0

    def counts(self) -> Counts:
        return self.now

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        self.asked += 1
        return [PeerCounts("192.0.2.1", 2, 4096), PeerCounts("", 1, 12)]

    def workers(self) -> Sequence[WorkerState]:
        return self.processes


async def ask(connect: Connect, reactor: Any, port: int, text: bytes) -> bytes:
    """Send a request, and return all that comes before the connection is closed."""
    peer = await connect(f"tcp:127.0.0.1:{port}")
    peer.transport.write(text)
    await peer.until(reactor, lambda: peer.ended)
    peer.transport.loseConnection()
    return bytes(peer.received)


def started(
    reactor: Any, source: Source, endpoint: str = LOOPBACK, **options: Any
) -> tuple[StatusService, int]:
    """Serve the status of a source; return the service and its port."""
    service = StatusService(reactor, endpoint, ServerStatus(source), **options)
    service.startService()
    assert service.address is not None
    return service, portOf(service.address)
