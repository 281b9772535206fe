"""
The counts of a server, and where they come from: one service, or several processes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Protocol

from twisted.internet.interfaces import IAddress

from echofactory.server.settings import Limits

REFUSALS: Mapping[str, str] = {
    "connections": "connection limit reached",
    "host": "connection limit of the host reached",
    "descriptors": "no file descriptor left",
    "fault": "fault on purpose",
    "header": "no valid PROXY header",
}
"""Why connections are refused."""

LOSSES: Mapping[str, str] = {
    "done": "closed in order by both sides",
    "lost": "reset by the peer, or network failure",
    "aborted": "aborted by the server: at a stop, or by a fault",
    "idle": "aborted by the server: idle timeout",
    "worker": "the worker process ended",
    "error": "TLS error or other exception",
}
"""How connections end."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """
    What a server has counted since it was started. All counts begin at 0.

    The books balance: C{accepted} = C{open} + the sum of C{lost}.
    """

    accepted: int = 0
    """Connections accepted and served."""
    open: int = 0
    """Connections open now."""
    refused: dict[str, int] = field(default_factory=dict)
    """Connections closed immediately and not served, by reason: the keys of L{REFUSALS}."""
    lost: dict[str, int] = field(default_factory=dict)
    """Connections closed, by how they ended: the keys of L{LOSSES}."""
    chunks: int = 0
    """Pieces received, as the transports delivered them. If each message is small and the
    client waits for each echo, a chunk is a message."""
    bytesIn: int = 0
    """Bytes received."""
    bytesOut: int = 0
    """Bytes handed to the transports. Bytes that were still queued when a connection was
    lost are included."""
    datagrams: int = 0
    """Datagrams answered."""
    unanswered: dict[str, int] = field(default_factory=dict)
    """Datagrams not answered, by reason: the keys of
    L{UNANSWERED<echofactory.server.guard.UNANSWERED>}."""

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            accepted=self.accepted + other.accepted,
            open=self.open + other.open,
            refused=dict(Counter(self.refused) + Counter(other.refused)),
            lost=dict(Counter(self.lost) + Counter(other.lost)),
            chunks=self.chunks + other.chunks,
            bytesIn=self.bytesIn + other.bytesIn,
            bytesOut=self.bytesOut + other.bytesOut,
            datagrams=self.datagrams + other.datagrams,
            unanswered=dict(Counter(self.unanswered) + Counter(other.unanswered)),
        )

    def asDict(self) -> dict[str, Any]:
        """Return the counts by name, to send to another process. C{Counts(**it)} reads it."""
        return asdict(self)


class PeerCounts(NamedTuple):
    """
    The open connections of one peer.

    @ivar host: the peer's IP address. Empty: a UNIX socket.
    @ivar open: number of open connections.
    @ivar bytesIn: bytes received on these connections.
    """

    host: str
    open: int
    bytesIn: int


class WorkerState(NamedTuple):
    """
    The state of one worker process.

    @ivar number: of the worker, from 1.
    @ivar pid: process ID. C{None}: the worker is not running.
    @ivar restarts: number of restarts.
    @ivar open: number of open connections.
    @ivar listening: whether the worker serves. A worker that is starting does not.
    """

    number: int
    pid: int | None
    restarts: int
    open: int
    listening: bool


class CountsSource(Protocol):
    """
    A source of a server's counts: an
    L{EchoService<echofactory.server.service.EchoService>}, or several processes.
    """

    @property
    def draining(self) -> bool:
        """Whether the server is stopping and waits for open connections."""

    @property
    def addresses(self) -> Sequence[IAddress]:
        """The addresses that the server listens on. While it stops, there are none."""

    @property
    def limits(self) -> Limits:
        """The limits of the whole server."""

    def counts(self) -> Counts:
        """Return the latest known counts."""

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """
        Return the connected peers that have sent the most bytes.

        @param most: maximum number of peers.
        """

    def workers(self) -> Sequence[WorkerState]:
        """Return the worker processes. Empty: this process serves."""


class CombinedCounts:
    """
    The L{CountsSource} that adds up several sources.

    @ivar limits: those of the first source.
    """

    def __init__(self, sources: Sequence[CountsSource]) -> None:
        """
        @param sources: one or more.
        """
        self._sources = sources
        self.limits = sources[0].limits

    @property
    def addresses(self) -> Sequence[IAddress]:
        """See L{CountsSource}."""
        return [address for source in self._sources for address in source.addresses]

    @property
    def draining(self) -> bool:
        """See L{CountsSource}."""
        return any(source.draining for source in self._sources)

    def counts(self) -> Counts:
        """See L{CountsSource}."""
        return sum((source.counts() for source in self._sources), Counts())

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """See L{CountsSource}."""
        return busiestPeers([await source.peers(most) for source in self._sources], most)

    def workers(self) -> Sequence[WorkerState]:
        """See L{CountsSource}."""
        return [worker for source in self._sources for worker in source.workers()]


def busiestPeers(several: Iterable[Iterable[PeerCounts]], most: int) -> list[PeerCounts]:
    """
    Merge lists of peers, and return the peers that have sent the most bytes. Each host
    occurs once.

    @param most: maximum number of peers.
    """
    found: dict[str, PeerCounts] = {}
    for host, open_, size in chain.from_iterable(several):
        before = found.get(host, PeerCounts(host, 0, 0))
        found[host] = PeerCounts(host, before.open + open_, before.bytesIn + size)
    return sorted(found.values(), key=lambda peer: -peer.bytesIn)[:most]
