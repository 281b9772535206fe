"""
Connections through a proxy: C{haproxy:} in an endpoint string. Each connection begins with a
header of the PROXY protocol (L{echofactory.net.proxyheader}).

 - The header comes before all other bytes, including the TLS handshake. Until the header is
   complete, the connection is not served, counted or limited.
 - After the header, the transport calls the served protocol directly. Half-close,
   backpressure and speed are those of the transport. Only C{getPeer} is replaced: it returns
   the client that the header names.
 - A connection has L{HEADER_TIMEOUT} seconds to send its header. At most L{MAX_WAITING}
   connections of a port wait. If there are more, the oldest is closed.
 - After the port is closed, the connections that it has accepted still have this time. The
   caller can wait for them (L{HeaderFactory.whenRead}) or abort them
   (L{HeaderFactory.abort}).

This module sets C{protocol} and C{getPeer} of Twisted's transports.
"""

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure

from echofactory.express.wrapper import ReactorWrapper
from echofactory.net.proxyheader import Header, HeaderError, parseHeader

HEADER_TIMEOUT = 5
"""Seconds. The timeout can fire up to 1 s later. The specification requires at least 3 s,
because TCP may have to retransmit a segment."""

MAX_WAITING = 4096
"""Connections of a port: the same number as its backlog."""

Refused = Callable[[IAddress, str], object]
"""Is called with the peer and the reason if a connection closes without a valid header."""


class _HeaderReader(Protocol):
    """Reads the header of one connection, and hands the transport to the served protocol."""

    transport: Any

    def __init__(self, factory: "HeaderFactory") -> None:
        self._factory = factory
        self._began = b""

    def connectionMade(self) -> None:
        self._factory.wait(self)

    def dataReceived(self, data: bytes) -> None:
        self._began += data
        try:
            header = parseHeader(self._began)
        except HeaderError as error:
            self.refuse(str(error))
            return
        if header is not None:
            # A caller of whenRead must find the connection in the served factory.
            try:
                self._handOver(header)
            finally:
                self._factory.leave(self)

    def _handOver(self, header: Header) -> None:
        transport = self.transport
        client = header.client
        if client is not None:
            transport.getPeer = lambda: client
        protocol = self._factory.wrappedFactory.buildProtocol(transport.getPeer())
        if protocol is None:
            transport.loseConnection()
            return
        transport.protocol = protocol
        protocol.makeConnection(transport)
        rest = self._began[header.size :]
        if rest and not transport.disconnecting:
            protocol.dataReceived(rest)

    def refuse(self, why: str) -> None:
        """Close the connection, and do not serve it."""
        self._factory.leave(self)
        self._factory.refused(self.transport.getPeer(), why)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A connection without any byte only checks whether the port is open.
        if self._factory.leave(self) and self._began:
            self._factory.refused(
                self.transport.getPeer(), "it closed before its header was complete"
            )


class HeaderFactory(ServerFactory):
    """
    Reads the header of each connection, and then has C{wrappedFactory} serve it.

    @ivar wrappedFactory: the factory of the served protocol.
    @ivar refused: is called for each connection without a valid header.
    """

    noisy = False

    def __init__(self, served: Any, reactor: Any, refused: Refused) -> None:
        """
        @param served: the factory of the served protocol.
        @param reactor: times the connections.
        @param refused: is called for each connection without a valid header.
        """
        self.wrappedFactory = served
        self.refused = refused
        self._reactor = reactor
        # For each connection, in order of arrival: the number of checks before it came.
        # Checks are counted instead of seconds, because a suspended machine does no checks.
        self._waiting: dict[_HeaderReader, int] = {}
        self._checks = 0
        self._checking: IDelayedCall | None = None
        self._awaited: list[Deferred[None]] = []

    def logPrefix(self) -> str:
        """See L{ILoggingContext<twisted.internet.interfaces.ILoggingContext>}."""
        return f"{self.wrappedFactory.logPrefix()} (PROXY)"

    def doStart(self) -> None:
        """See L{Factory<twisted.internet.protocol.Factory>}."""
        super().doStart()
        self.wrappedFactory.doStart()

    def doStop(self) -> None:
        """See L{Factory<twisted.internet.protocol.Factory>}."""
        super().doStop()
        self.wrappedFactory.doStop()

    def whenRead(self) -> Deferred[None]:
        """Return a L{Deferred} that fires when no connection waits for its header."""
        awaited: Deferred[None] = Deferred()
        self._awaited.append(awaited)
        self._tellIfRead()
        return awaited

    def _tellIfRead(self) -> None:
        if not self._waiting:
            awaited, self._awaited = self._awaited, []
            for each in awaited:
                each.callback(None)

    def abort(self) -> None:
        """Abort the connections whose header is not complete. They are not counted."""
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        while self._waiting:
            reader, _ = self._waiting.popitem()
            reader.transport.abortConnection()
        self._tellIfRead()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Return the protocol that reads the header of a new connection."""
        return _HeaderReader(self)

    def wait(self, reader: _HeaderReader) -> None:
        """Add a connection that has no complete header yet."""
        self._waiting[reader] = self._checks
        if len(self._waiting) > MAX_WAITING:
            oldest = next(iter(self._waiting))
            oldest.refuse(f"more than {MAX_WAITING:,} connections wait for their header")
        if self._checking is None:
            self._checking = self._reactor.callLater(1.0, self._check)

    def leave(self, reader: _HeaderReader) -> bool:
        """
        Remove a connection, because its header is complete or the connection is closed.

        @return: whether the connection was waiting.
        """
        waited = self._waiting.pop(reader, None) is not None
        self._tellIfRead()
        return waited

    def _check(self) -> None:
        self._checks += 1
        for reader, before in list(self._waiting.items()):
            if self._checks - before <= HEADER_TIMEOUT:
                break
            reader.refuse(f"its header did not come within {HEADER_TIMEOUT} s")
        self._checking = None
        if self._waiting:
            self._checking = self._reactor.callLater(1.0, self._check)


def headerFactories(port: object) -> Iterator[HeaderFactory]:
    """
    Return the header factories of a listening port, in the order in which they read the
    headers of a connection.
    """
    factory = getattr(port, "factory", None)
    while factory is not None:
        if isinstance(factory, HeaderFactory):
            yield factory
        factory = getattr(factory, "wrappedFactory", None)


class HeaderReactor(ReactorWrapper):
    """
    A reactor whose listening ports read PROXY headers. All other calls go to the reactor
    behind it.
    """

    def __init__(self, reactor: Any, refused: Refused) -> None:
        """
        @param reactor: the reactor that listens.
        @param refused: is called for each connection without a valid header.
        """
        super().__init__(reactor)
        self._refused = refused

    def _reading(self, factory: Any) -> HeaderFactory:
        return HeaderFactory(factory, self._reactor, self._refused)

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        listening: IListeningPort = self._reactor.listenTCP(
            port, self._reading(factory), backlog, interface
        )
        return listening

    def listenSSL(
        self,
        port: Any,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        wrapping = TLSMemoryBIOFactory(contextFactory, False, factory)
        return self.listenTCP(port, wrapping, backlog, interface)

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> IListeningPort:
        """See L{IReactorUNIX<twisted.internet.interfaces.IReactorUNIX>}."""
        listening: IListeningPort = self._reactor.listenUNIX(
            address, self._reading(factory), backlog, mode, wantPID
        )
        return listening

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> IListeningPort:
        """See L{IReactorSocket<twisted.internet.interfaces.IReactorSocket>}."""
        listening: IListeningPort = self._reactor.adoptStreamPort(
            fileDescriptor, addressFamily, self._reading(factory)
        )
        return listening
