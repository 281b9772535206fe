"""
What a server has counted, and who tells it: one factory, or several processes
together.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any, NamedTuple, Protocol

REFUSALS: Mapping[str, str] = {
    "connections": "too many are open",
    "host": "too many of its host are open",
    "descriptors": "no descriptor was left",
    "fault": "chance had it so",
    "header": "without a valid PROXY header",
}
"""Why connections are refused: a limit, a fault that was asked for, or a header that a
proxy should have sent."""

LOSSES: Mapping[str, str] = {
    "done": "both sides closed in order",
    "lost": "reset, or the network failed",
    "aborted": "cut by this side, as it stopped or by a fault",
    "idle": "cut by this side as idle",
    "worker": "their worker ended",
    "error": "anything else: TLS, an exception",
}
"""How connections end."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """
    What a server has seen since it was started.

    Accepted = open + the sum of those lost.
    """

    accepted: int = 0
    open: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    """Closed at once, unserved, by the limit that was reached: L{REFUSALS}."""
    lost: dict[str, int] = field(default_factory=dict)
    """Ended, by how: L{LOSSES}."""
    chunks: int = 0
    """Pieces that came in, as the transports handed them over: messages, if each
    was small and waited for its echo."""
    bytesIn: int = 0
    bytesOut: int = 0
    """Handed to the transports. What a connection had queued when it was lost
    is counted, though it may never have left."""
    datagrams: int = 0
    """Answered, over UDP."""
    unanswered: dict[str, int] = field(default_factory=dict)
    """Datagrams that were not, by why."""

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
        """Return them by name, for another process; C{Counts(**them)} reads it."""
        return asdict(self)


class PeerCounts(NamedTuple):
    """
    The open connections of one peer.

    @ivar host: its address; of a UNIX socket, the empty string.
    @ivar open: how many they are.
    @ivar bytesIn: received on them.
    """

    host: str
    open: int
    bytesIn: int


class WorkerState(NamedTuple):
    """
    One of several processes that serve.

    @ivar number: from 1.
    @ivar pid: C{None} while it is not running.
    @ivar restarts: how often it was started again.
    @ivar open: its connections.
    @ivar listening: whether it serves; one that is starting does not yet.
    """

    number: int
    pid: int | None
    restarts: int
    open: int
    listening: bool


class CountsSource(Protocol):
    """
    What tells of a server: an L{EchoService<echofactory.server.service.EchoService>}, or
    several processes together.
    """

    @property
    def draining(self) -> bool:
        """Whether it is stopping, and waits for its connections."""

    def counts(self) -> Counts:
        """Return the counts as they are known now."""

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """Return the busiest of those connected, by bytes received."""

    def workers(self) -> Sequence[WorkerState]:
        """Return the processes; none, if there is but this."""


class Together:
    """Several sources as one."""

    def __init__(self, sources: Sequence[CountsSource]) -> None:
        self._sources = sources

    @property
    def draining(self) -> bool:
        """See L{CountsSource}."""
        return any(source.draining for source in self._sources)

    def counts(self) -> Counts:
        """See L{CountsSource}."""
        return sum((source.counts() for source in self._sources), Counts())

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """See L{CountsSource}."""
        return busiest([await source.peers(most) for source in self._sources], most)

    def workers(self) -> Sequence[WorkerState]:
        """See L{CountsSource}."""
        return [worker for source in self._sources for worker in source.workers()]


def busiest(several: Iterable[Iterable[PeerCounts]], most: int) -> list[PeerCounts]:
    """Return the busiest of all, each host once."""
    found: dict[str, PeerCounts] = {}
    for host, open_, size in chain.from_iterable(several):
        before = found.get(host, PeerCounts(host, 0, 0))
        found[host] = PeerCounts(host, before.open + open_, before.bytesIn + size)
    return sorted(found.values(), key=lambda peer: -peer.bytesIn)[:most]
