"""
The server's factory: which connections are open, which are refused, and the
counts of both.
"""

from collections import Counter
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, ITransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.echo import Echo, turnOffNagle
from echofactory.trace import Trace, addressText, dataText

_log = Logger()


@dataclass(frozen=True, kw_only=True)
class Limits:
    """
    What a server takes on.

    @raise ValueError: from the constructor, naming the field and the value.
    """

    connections: int | None = None
    """Open at once; what comes on top is refused. C{None}: no limit."""

    def __post_init__(self) -> None:
        if self.connections is not None and self.connections < 1:
            raise ValueError(f"connections: {self.connections} is not 1 or more")


@dataclass(frozen=True, kw_only=True)
class Counts:
    """
    What an L{EchoFactory} has seen since it was made.

    Accepted = open + the sum of those lost.
    """

    accepted: int
    open: int
    refused: int
    """Closed at once, unserved: a limit was reached, or chance had it so (a fault)."""
    lost: dict[str, int]
    """Ended, by how: C{done} (both sides closed in order), C{lost} (reset, or
    the network failed), C{aborted} (cut by this side), C{error} (anything
    else: TLS, an exception)."""
    bytesIn: int
    bytesOut: int
    """Handed to the transports. What a connection had queued when it was lost
    is counted, though it may never have left."""


def _howLost(echo: Echo, reason: Failure) -> str:
    if echo.cut:
        # Which TLS reports as any other loss.
        return "aborted"
    if isinstance(reason.value, ConnectionDone):
        return "done"
    if not isinstance(reason.value, ConnectionLost):
        return "error"
    # Before it closes a transport whose queue is empty, Twisted sends the empty
    # rest; on a UNIX socket whose peer has closed too, that fails. If the peer
    # ended its stream and was sent everything, nothing is lost.
    queue: bytes | None = getattr(echo.transport, "dataBuffer", None)
    return "done" if echo.ended and queue == b"" else "lost"


class _Refusal(Protocol):
    """
    Closes at once. A factory could answer with no protocol at all, but those
    that wrap others, such as that of TLS, fail at it.
    """

    transport: ITransport

    def connectionMade(self) -> None:
        self.transport.loseConnection()


class EchoFactory(ServerFactory):
    """
    Makes an L{Echo} of each connection, and keeps the books.

    It belongs to one L{EchoService<echofactory.service.EchoService>}, which
    waits for its connections when it stops.

    @ivar connections: the open ones.
    """

    noisy = False
    protocol: type[Echo] = Echo  # type: ignore[assignment]

    def __init__(self, limits: Limits | None = None, trace: Trace = Trace.NONE) -> None:
        self.limits = limits or Limits()
        self.trace = trace
        if trace >= Trace.DATA:
            self.protocol = TracedEcho
        self.connections: set[Echo] = set()
        self._accepted = 0
        self._refused = 0
        self._lost: Counter[str] = Counter()
        self._bytesIn = 0
        self._bytesOut = 0
        self._waiting: list[tuple[set[Echo], Deferred[None]]] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        Answer a new connection; with a protocol that closes it at once, if the
        limit is reached.
        """
        limit = self.limits.connections
        full = limit is not None and len(self.connections) >= limit
        echo = None if full else self.newEcho()
        if echo is None:
            self._refused += 1
            if self.trace >= Trace.CONNECTIONS:
                _log.info("refused connection from {peer}", peer=addressText(addr))
            return _Refusal()
        echo.factory = self
        return echo

    def newEcho(self) -> Echo | None:
        """Return what is to serve another connection; C{None} refuses it."""
        return self.protocol()

    def connectionOpened(self, echo: Echo) -> None:
        """An L{Echo} tells that it has its transport."""
        self._accepted += 1
        self.connections.add(echo)
        turnOffNagle(echo.transport)
        if self.trace >= Trace.CONNECTIONS:
            peer = addressText(echo.transport.getPeer())
            _log.info("accepted connection from {peer}", peer=peer)

    def connectionClosed(self, echo: Echo, reason: Failure) -> None:
        """An L{Echo} tells that its transport is gone."""
        self.connections.discard(echo)
        how = _howLost(echo, reason)
        self._lost[how] += 1
        self._bytesIn += echo.bytesIn
        self._bytesOut += echo.bytesOut
        if self.trace >= Trace.CONNECTIONS:
            peer = addressText(echo.transport.getPeer())
            if how == "done":
                _log.info("closing connection to {peer}", peer=peer)
            elif how == "aborted":
                _log.info("cut connection to {peer}", peer=peer)
            else:
                _log.info(
                    "lost connection to {peer}: {why}", peer=peer, why=reason.getErrorMessage()
                )
        for entry in list(self._waiting):
            awaited, waiting = entry
            awaited.discard(echo)
            if not awaited:
                self._waiting.remove(entry)
                waiting.callback(None)

    def counts(self) -> Counts:
        """Return the counts as they are now."""
        return Counts(
            accepted=self._accepted,
            open=len(self.connections),
            refused=self._refused,
            lost=dict(self._lost),
            bytesIn=self._bytesIn + sum(echo.bytesIn for echo in self.connections),
            bytesOut=self._bytesOut + sum(echo.bytesOut for echo in self.connections),
        )

    def whenClosed(self, connections: set[Echo]) -> Deferred[None]:
        """Return a L{Deferred} that fires when all of these are closed."""
        awaited = connections & self.connections
        waiting: Deferred[None] = Deferred()
        if awaited:
            self._waiting.append((awaited, waiting))
        else:
            waiting.callback(None)
        return waiting


def traceEchoing(echo: Echo, data: bytes) -> None:
    """Tell of what is sent back."""
    peer = addressText(echo.transport.getPeer())
    _log.info("echoing {data} to {peer}", data=dataText(data), peer=peer)


class TracedEcho(Echo):
    """An L{Echo} that tells of every byte; apart, so that the others need not ask."""

    def dataReceived(self, data: bytes) -> None:
        traceEchoing(self, data)
        super().dataReceived(data)
