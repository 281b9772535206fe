"""
The server's factory. It serves or refuses each connection, and counts both.
"""

import socket
from collections import Counter, defaultdict
from contextlib import suppress
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

from echofactory.express.accepting import ICountsRefusals
from echofactory.express.addresstext import addressText
from echofactory.express.listening import IPreparesListening
from echofactory.express.sharedport import Gate
from echofactory.express.summarylog import SummaryLog
from echofactory.net.addresses import limitKey
from echofactory.net.keepalive import keepAlive, keepSocketAlive, spreadProbes
from echofactory.net.socketoptions import SocketOptions
from echofactory.net.tracing import Trace, dataText, reasonText, tracedAddressText
from echofactory.net.transport import inheritsOptions, lowestTransport, turnOffNagle
from echofactory.results.connectionfacts import SocketFacts
from echofactory.server.counts import REFUSALS, Counts, PeerCounts
from echofactory.server.echo import Echo
from echofactory.server.idle import CHECKS, IdleDetector
from echofactory.server.settings import Limits
from echofactory.values.checks import checkType
from echofactory.values.quantities import counted

_log = Logger()


def _howEnded(echo: Echo, reason: Failure) -> str:
    if echo.abortReason:
        # TLS reports such an end like any other loss.
        return echo.abortReason
    if isinstance(reason.value, ConnectionDone):
        return "done"
    if not isinstance(reason.value, ConnectionLost):
        return "error"
    # Twisted's last write before a close can be empty. On a UNIX socket whose peer has
    # closed, that write fails. If the peer ended its stream and the queue is empty, nothing
    # is lost.
    queue: bytes | None = getattr(echo.transport, "dataBuffer", None)
    return "done" if echo.ended and queue == b"" else "lost"


def _cachedHost(echo: Echo) -> str:
    """Return the peer's IP address, and keep it: the status reads it once a second."""
    host: str = getattr(echo.transport.getPeer(), "host", "")
    echo.host = host
    return host


class ClosingProtocol(Protocol):
    """
    Closes the connection immediately. A factory may also build no protocol (C{None}), but
    factories that wrap others, such as that of TLS, raise an error then.
    """

    transport: ITransport

    def connectionMade(self) -> None:
        self.transport.loseConnection()


@implementer(ICountsRefusals, IPreparesListening)
class EchoFactory(ServerFactory):
    """
    Serves each connection with an L{Echo}, and counts.

    A factory belongs to one L{EchoService<echofactory.server.service.EchoService>}. At a
    stop, the service waits for the factory's connections.

    @ivar limits: the limits on connections.
    @ivar trace: what is logged of each connection.
    @ivar protocol: the class that serves a connection.
    @ivar connections: the open connections.
    @ivar socketOptions: the options of the sockets, set before the factory listens. Default:
        the kernel's.
    @ivar gate: is told when the connection limit is reached, and when a connection closes;
        C{None} (default): nobody is told.
    """

    noisy = False
    gate: Gate | None = None
    protocol: type[Echo] = Echo  # type: ignore[assignment]

    def __init__(
        self,
        limits: Limits | None = None,
        trace: Trace = Trace.NONE,
        reactor: IReactorTime | None = None,
    ) -> None:
        """
        @param limits: the limits on connections. C{None}: the defaults of L{Limits}.
        @param trace: what is logged of each connection. Default: nothing.
        @param reactor: the clock for the idle timeout, and for the log of refused
            connections (at most one line per second). C{None}: refused connections are
            counted and not logged.
        @raise TypeError: if C{limits} or C{trace} is of another type.
        @raise ValueError: if C{limits} has an idle timeout and there is no reactor.
        """
        if limits is not None:
            checkType("limits", limits, Limits)
        checkType("trace", trace, Trace)
        self.limits = limits or Limits()
        if self.limits.idle is not None and reactor is None:
            raise ValueError("reactor: an idle timeout needs a reactor")
        self.trace = trace
        self.socketOptions = SocketOptions()
        self._optionsTold = False
        if trace >= Trace.DATA:
            self.protocol = TracedEcho
        self.connections: set[Echo] = set()
        self._accepted = 0
        self._perHost: Counter[str | None] = Counter()
        self._refused: Counter[str] = Counter()
        self._refusals = None if reactor is None else SummaryLog(reactor, self._logRefusals)
        self._idleChecks: LoopingCall | None = None
        if self.limits.idle is not None:
            self._idle = IdleDetector()
            self._idleChecks = LoopingCall(self._abortIdle)
            self._idleChecks.clock = cast(IReactorTime, reactor)
        self._lost: Counter[str] = Counter()
        self._chunks = 0
        self._bytesIn = 0
        self._bytesOut = 0
        self._waiting: list[tuple[set[Echo], Deferred[None]]] = []

    @property
    def full(self) -> bool:
        """Whether the connection limit is reached."""
        most = self.limits.connections
        return most is not None and len(self.connections) >= most

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """
        Return the protocol for a new connection. If a limit is reached, that is a
        L{ClosingProtocol}.
        """
        limits = self.limits
        if self.full:
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

    def prepareListening(self, listening: socket.socket) -> None:
        """See L{IPreparesListening}."""
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keepSocketAlive(listening, self.limits.keepAlive)
        self.socketOptions.setOn(listening)
        self.tellSocketOptions(listening)

    def tellSocketOptions(self, handle: socket.socket) -> None:
        """
        Log once what the kernel has for the options.

        @param handle: the first socket that has them.
        @raise OSError: if the socket is closed.
        """
        if self.socketOptions and not self._optionsTold:
            self._optionsTold = True
            read = self.socketOptions.readFrom(handle)
            _log.info("sockets have {options}", options=SocketFacts(read.dscp, read.congestion))

    def newEcho(self) -> Echo | None:
        """Return the protocol for a connection within the limits. C{None}: refuse it."""
        return self.protocol()

    def refuse(self, why: str, addr: IAddress | None, detail: str = "") -> Protocol:
        """
        Count a refused connection, and return the protocol that closes it.

        @param why: the reason: a key of L{REFUSALS}.
        @param detail: is logged beside the address, if the connection is the first of its
            second.
        """
        self._refused[why] += 1
        if self._refusals is not None:
            self._refusals.note(
                why, lambda: f"{addressText(addr)} ({detail})" if detail else addressText(addr)
            )
        return ClosingProtocol()

    def refuseHeader(self, addr: IAddress, why: str) -> None:
        """Count a connection through a proxy that sent no valid header."""
        self.refuse("header", addr, why)

    def _logRefusals(self, counts: dict[str, int], first: str) -> None:
        _log.warn(
            "refused {what} ({why}), the first from {peer}; {open} open",
            what=counted(sum(counts.values()), "connection"),
            why=", ".join(f"{REFUSALS[why]}: {count}" for why, count in counts.items()),
            peer=first,
            open=counted(len(self.connections), "connection"),
        )

    def _abortIdle(self) -> None:
        for echo in self._idle.check(self.connections):
            echo.abort("idle")

    def doStop(self) -> None:
        """See L{Factory<twisted.internet.protocol.Factory>}: a port has been closed."""
        super().doStop()
        if not self.numPorts:
            self.flushRefusals()

    def flushRefusals(self) -> None:
        """Log the refused connections that are not logged yet."""
        if self._refusals is not None:
            self._refusals.close()

    def connectionOpened(self, echo: Echo) -> None:
        """See L{EchoOwner<echofactory.server.echo.EchoOwner>}."""
        self._accepted += 1
        self.connections.add(echo)
        if self.gate is not None and self.full:
            self.gate.filled()
        if self.limits.perHost is not None:
            # Stored, because the transport can name another peer when the connection closes.
            echo.countedHost = limitKey(echo.transport.getPeer())
            self._perHost[echo.countedHost] += 1
        if self._idleChecks is not None and not self._idleChecks.running:
            assert self.limits.idle is not None
            self._idleChecks.start(self.limits.idle / CHECKS, now=False)
        if inheritsOptions(echo.transport):
            spreadProbes(lowestTransport(echo.transport).getHandle(), self.limits.keepAlive)
        else:
            turnOffNagle(echo.transport)
            keepAlive(echo.transport, self.limits.keepAlive)
            if self.socketOptions:
                self._setSocketOptions(echo)
        if self.trace >= Trace.CONNECTIONS:
            peer = tracedAddressText(echo.transport.getPeer(), self.trace)
            _log.info("accepted connection from {peer}", peer=peer)

    def _setSocketOptions(self, echo: Echo) -> None:
        """Set the options of a connection whose port another process has made."""
        # The peer can be gone already.
        with suppress(OSError):
            handle = lowestTransport(echo.transport).getHandle()
            self.socketOptions.setOn(handle)
            self.tellSocketOptions(handle)

    def connectionClosed(self, echo: Echo, reason: Failure) -> None:
        """See L{EchoOwner<echofactory.server.echo.EchoOwner>}."""
        self.connections.discard(echo)
        if self.gate is not None:
            self.gate.freed()
        if self.limits.perHost is not None:
            self._perHost[echo.countedHost] -= 1
            if not self._perHost[echo.countedHost]:
                del self._perHost[echo.countedHost]
        if self._idleChecks is not None and self._idleChecks.running and not self.connections:
            self._idleChecks.stop()
            self._idle.clear()
        how = _howEnded(echo, reason)
        self._lost[how] += 1
        self._chunks += echo.chunks
        self._bytesIn += echo.bytesIn
        self._bytesOut += echo.bytesOut
        if self.trace >= Trace.CONNECTIONS:
            peer = tracedAddressText(echo.transport.getPeer(), self.trace)
            if how == "done":
                _log.info("closing connection to {peer}", peer=peer)
            elif echo.abortReason:
                _log.info("aborted connection to {peer}: {why}", peer=peer, why=how)
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
        """Return the current counts."""
        # One pass over all connections: there can be many, and none is served meanwhile.
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
        """
        Return the connected peers that have sent the most bytes.

        @param most: maximum number of peers.
        """
        found: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for echo in self.connections:
            counted = found[echo.host if echo.host is not None else _cachedHost(echo)]
            counted[0] += 1
            counted[1] += echo.bytesIn
        busiest = nlargest(most, found.items(), key=lambda item: item[1][1])
        return [PeerCounts(host, open_, size) for host, (open_, size) in busiest]

    def whenClosed(self, connections: set[Echo]) -> Deferred[None]:
        """Return a C{Deferred} that fires when all these connections are closed."""
        awaited = connections & self.connections
        waiting: Deferred[None] = Deferred()
        if awaited:
            self._waiting.append((awaited, waiting))
        else:
            waiting.callback(None)
        return waiting


def traceEchoing(echo: Echo, data: bytes) -> None:
    """Log the bytes that are sent back."""
    peer = tracedAddressText(echo.transport.getPeer(), Trace.DATA)
    _log.info("echoing {data} to {peer}", data=dataText(data), peer=peer)


class TracedEcho(Echo):
    """
    An L{Echo} that logs every byte. It is a class of its own, so that an L{Echo} does not
    test for tracing with every chunk.
    """

    def dataReceived(self, data: bytes) -> None:
        traceEchoing(self, data)
        super().dataReceived(data)
