"""
A status for the tests, and what asks it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any

from peers import LOOPBACK, Connect, portOf
from programs import LIMIT
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.interfaces import IAddress

from echofactory.server.counts import Counts, PeerCounts, WorkerState
from echofactory.server.settings import Limits
from echofactory.status import ServerStatus, StatusService


@dataclass
class Source:
    """A L{CountsSource<echofactory.server.counts.CountsSource>} that says what a test wants."""

    now: Counts = field(default_factory=Counts)
    draining: bool = False
    processes: list[WorkerState] = field(default_factory=list)
    addresses: list[IAddress] = field(default_factory=list)
    limits: Limits = field(default_factory=Limits)
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


@dataclass
class Reply:
    """An answer of the status port."""

    status: int
    headers: dict[str, str]
    body: str


def get(
    port: int, path: str, method: str = "GET", host: str | None = None, accept: str = ""
) -> Reply:
    """Ask the status port of a program."""
    connection = HTTPConnection("127.0.0.1", port, timeout=LIMIT)
    headers = {} if host is None else {"Host": host}
    if accept:
        headers["Accept"] = accept
    try:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return Reply(reply.status, dict(reply.getheaders()), reply.read().decode())
    finally:
        connection.close()


def metrics(port: int) -> dict[str, float]:
    """Return the metrics as a scraper reads them: C{name{label="value"}} and the value."""
    found = {}
    for family in text_string_to_metric_families(get(port, "/metrics").body):
        assert family.documentation
        assert family.type in ("counter", "gauge", "histogram")
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            short = sample.name.removeprefix("echofactory_")
            found[short + (f"{{{labels}}}" if labels else "")] = sample.value
    return found
