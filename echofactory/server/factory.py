"""
The server's factory: which connections are open, which are refused, and the
counts of both.
"""

from collections import Counter, defaultdict
from heapq import nlargest
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IReactorTime, ITransport
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.express.addresstext import addressText
from echofactory.express.ports import ICountsRefusals
from echofactory.express.summarylog import SummaryLog
from echofactory.net.addresses import limitKey
from echofactory.net.keepalive import keepAlive
from echofactory.net.tracing import Trace, dataText, reasonText, tracedAddressText
from echofactory.net.transport import turnOffNagle
from echofactory.server.counts import REFUSALS, Counts, PeerCounts
from echofactory.server.echo import Echo
from echofactory.server.idle import LOOKS, IdleSweep
from echofactory.server.settings import Limits
from echofactory.values.checks import checkType
from echofactory.values.quantities import counted

_log = Logger()


def _howLost(echo: Echo, reason: Failure) -> str:
    if echo.cut:
        # Which TLS reports as any other loss.
        return echo.cut
    if isinstance(reason.value, ConnectionDone):
        return "done"
    if not isinstance(reason.value, ConnectionLost):
        return "error"
    # Before it closes a transport whose queue is empty, Twisted sends the empty
    # rest; on a UNIX socket whose peer has closed too, that fails. If the peer
    # ended its stream and was sent everything, nothing is lost.
    queue: bytes | None = getattr(echo.transport, "dataBuffer", None)
    return "done" if echo.ended and queue == b"" else "lost"


def _keepHost(echo: Echo) -> str:
    """Return the peer's host, and keep it: it is asked for once a second."""
    host: str = getattr(echo.transport.getPeer(), "host", "")
    echo.host = host
    return host


class Refusal(Protocol):
    """
    Closes at once. A factory could answer with no protocol at all, but those
    that wrap others, such as that of TLS, fail at it.
    """

    transport: ITransport

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@implementer(ICountsRefusals)
class EchoFactory(ServerFactory):
    """
    Makes an L{Echo} of each connection, and keeps the books.

    It belongs to one L{EchoService<echofactory.server.service.EchoService>}, which
    waits for its connections when it stops.

    @ivar connections: the open ones.
    """

    noisy = False
    protocol: type[Echo] = Echo  # type: ignore[assignment]

    def __init__(
        self,
        limits: Limits | None = None,
        trace: Trace = Trace.NONE,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param reactor: needed for the limit of idleness, and to tell of refusals
            in the log, once a second at most; without it they are only counted.
        @raise TypeError: if C{limits} or C{trace} is of another type.
        @raise ValueError: if there is that limit and no reactor.
        """
        if limits is not None:
            checkType("limits", limits, Limits)
        checkType("trace", trace, Trace)
        self.limits = limits or Limits()
        if self.limits.idle is not None and reactor is None:
            raise ValueError("reactor: the limit of idleness needs one")
        self.trace = trace
        if trace >= Trace.DATA:
            self.protocol = TracedEcho
        self.connections: set[Echo] = set()
        self._accepted = 0
        self._perHost: Counter[str | None] = Counter()
        self._refused: Counter[str] = Counter()
        self._refusals = None if reactor is None else SummaryLog(reactor, self._tellRefusals)
        self._sweeper: LoopingCall | None = None
        if self.limits.idle is not None:
            self._idle = IdleSweep()
            self._sweeper = LoopingCall(self._sweep)
            self._sweeper.clock = cast(IReactorTime, reactor)
        self._lost: Counter[str] = Counter()
        self._chunks = 0
        self._bytesIn = 0
        self._bytesOut = 0
        self._waiting: list[tuple[set[Echo], Deferred[None]]] = []

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        Answer a new connection; with a protocol that closes it at once, if the
        limit is reached.
        """
        limits = self.limits
        if limits.connections is not None and len(self.connections) >= limits.connections:
            return self.refuse("connections", addr)
        if limits.perHost is not None:
            host = limitKey(addr)
            if host is not None and self._perHost[host] >= limits.perHost:
                return self.refuse("host", addr)
        echo = self.newEcho()
        if echo is None:
            return self.refuse("fault", addr)
        echo.factory = self
        return echo

    def newEcho(self) -> Echo | None:
        """Return what is to serve another connection; C{None} refuses it."""
        return self.protocol()

    def refuse(self, why: str, addr: IAddress | None, detail: str = "") -> Protocol:
        """
        Answer a connection that is not to be served.

        @param why: what it is counted under.
        @param detail: what the log says of it besides, if it is the first of a second.
        """
        self._refused[why] += 1
        if self._refusals is not None:
            self._refusals.note(
                why, lambda: f"{addressText(addr)} ({detail})" if detail else addressText(addr)
            )
        return Refusal()

    def refuseHeader(self, addr: IAddress, why: str) -> None:
        """Learn of a connection through a proxy that had no valid header."""
        self.refuse("header", addr, why)

    def _tellRefusals(self, counts: dict[str, int], first: str) -> None:
        _log.warn(
            "refused {what} ({why}), the first from {peer}; {open} open",
            what=counted(sum(counts.values()), "connection"),
            why=", ".join(f"{REFUSALS[why]}: {count}" for why, count in counts.items()),
            peer=first,
            open=counted(len(self.connections), "connection"),
        )

    def _sweep(self) -> None:
        for echo in self._idle.sweep(self.connections):
            echo.abort("idle")

    def doStop(self) -> None:
        """Listened on no more: see L{Factory<twisted.internet.protocol.Factory>}."""
        super().doStop()
        if not self.numPorts:
            self.tellRefusals()

    def tellRefusals(self) -> None:
        """Log the refusals that are not logged yet."""
        if self._refusals is not None:
            self._refusals.close()

    def connectionOpened(self, echo: Echo) -> None:
        """An L{Echo} tells that it has its transport."""
        self._accepted += 1
        self.connections.add(echo)
        if self.limits.perHost is not None:
            # Kept: what stands between may name another peer when the connection closes.
            echo.countedHost = limitKey(echo.transport.getPeer())
            self._perHost[echo.countedHost] += 1
        if self._sweeper is not None and not self._sweeper.running:
            assert self.limits.idle is not None
            self._sweeper.start(self.limits.idle / LOOKS, now=False)
        turnOffNagle(echo.transport)
        keepAlive(echo.transport, self.limits.keepAlive)
        if self.trace >= Trace.CONNECTIONS:
            peer = tracedAddressText(echo.transport.getPeer(), self.trace)
            _log.info("accepted connection from {peer}", peer=peer)

    def connectionClosed(self, echo: Echo, reason: Failure) -> None:
        """An L{Echo} tells that its transport is gone."""
        self.connections.discard(echo)
        if self.limits.perHost is not None:
            self._perHost[echo.countedHost] -= 1
            if not self._perHost[echo.countedHost]:
                del self._perHost[echo.countedHost]
        if self._sweeper is not None and self._sweeper.running and not self.connections:
            self._sweeper.stop()
            self._idle.forget()
        how = _howLost(echo, reason)
        self._lost[how] += 1
        self._chunks += echo.chunks
        self._bytesIn += echo.bytesIn
        self._bytesOut += echo.bytesOut
        if self.trace >= Trace.CONNECTIONS:
            peer = tracedAddressText(echo.transport.getPeer(), self.trace)
            if how == "done":
                _log.info("closing connection to {peer}", peer=peer)
            elif echo.cut:
                _log.info("cut connection to {peer}: {why}", peer=peer, why=how)
            else:
                why = reasonText(reason.value)
                _log.info("lost connection to {peer}: {why}", peer=peer, why=why)
        for entry in list(self._waiting):
            awaited, waiting = entry
            awaited.discard(echo)
            if not awaited:
                self._waiting.remove(entry)
                waiting.callback(None)

    def counts(self) -> Counts:
        """Return the counts as they are now."""
        # Once over all of them: there may be many, and none is served meanwhile.
        chunks, bytesIn, bytesOut = self._chunks, self._bytesIn, self._bytesOut
        for echo in self.connections:
            chunks += echo.chunks
            bytesIn += echo.bytesIn
            bytesOut += echo.bytesOut
        return Counts(
            accepted=self._accepted,
            open=len(self.connections),
            refused=dict(self._refused),
            lost=dict(self._lost),
            chunks=chunks,
            bytesIn=bytesIn,
            bytesOut=bytesOut,
        )

    def peers(self, most: int) -> list[PeerCounts]:
        """Return the busiest of the hosts that are connected, by bytes received."""
        found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for echo in self.connections:
            counted = found[echo.host if echo.host is not None else _keepHost(echo)]
            counted[0] += 1
            counted[1] += echo.bytesIn
        busiest = nlargest(most, found.items(), key=lambda item: item[1][1])
        return [PeerCounts(host, open_, size) for host, (open_, size) in busiest]

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
    peer = tracedAddressText(echo.transport.getPeer(), Trace.DATA)
    _log.info("echoing {data} to {peer}", data=dataText(data), peer=peer)


class TracedEcho(Echo):
    """An L{Echo} that tells of every byte; apart, so that the others need not ask."""

    def dataReceived(self, data: bytes) -> None:
        traceEchoing(self, data)
        super().dataReceived(data)
