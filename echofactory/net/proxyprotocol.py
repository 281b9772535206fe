"""
Connections that come through a proxy, C{haproxy:} in an endpoint string. Each begins
with a header of the PROXY protocol (L{echofactory.net.proxyheader}).

 - The header comes before everything else, the TLS handshake included: proxies send it
   first. Nothing is served, counted or limited before it is complete.
 - After the header, the transport calls the served protocol itself. Half-close,
   backpressure and speed are those of the transport; only its C{getPeer} is replaced,
   to return the client that the header names.
 - A connection has L{HEADER_TIMEOUT} seconds to send its header. At most L{MAX_WAITING}
   connections of a port wait; if there are more, the oldest of them is closed.
 - If the port is closed, the connections that it has accepted still have that time. Who
   closes the port may wait for them (L{HeaderFactory.whenRead}) or cut them
   (L{HeaderFactory.abort}).

Of Twisted, this sets a transport's C{protocol}, as the transport itself does when it is
made, and its C{getPeer}.
"""

from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IListeningPort
from twisted.internet.protocol import Protocol, ServerFactory, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, providedBy

from echofactory.net.proxyheader import Header, HeaderError, parseHeader

HEADER_TIMEOUT = 5
"""Seconds, and up to one more. The specification wants at least 3: TCP may have to send
a segment again."""

MAX_WAITING = 4096
"""Connections: as many as may wait to be accepted."""

Refused = Callable[[IAddress, str], object]
"""Receives each connection that is closed without a valid header: its peer, and why."""


class _HeaderReader(Protocol):
    """Reads the header of one connection, and hands its transport over."""

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
            # Who waits for the headers is to find the connection where it is served.
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
        """Close the connection unserved."""
        self._factory.leave(self)
        self._factory.refused(self.transport.getPeer(), why)
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # A connection without a byte is a check whether the port is open.
        if self._factory.leave(self) and self._began:
            self._factory.refused(self.transport.getPeer(), "it ended within its header")


class HeaderFactory(ServerFactory):
    """
    Has the header of each connection read before it is served.

    @ivar wrappedFactory: the factory of what is served.
    @ivar refused: receives each connection without a valid header.
    """

    noisy = False

    def __init__(self, served: Any, reactor: Any, refused: Refused) -> None:
        """
        @param reactor: what connections are timed by.
        """
        self.wrappedFactory = served
        self.refused = refused
        self._reactor = reactor
        # Of each, in order of arrival: how often all had been looked at before it came.
        # Not the time: while the whole machine is suspended, nobody's time runs out.
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
        """Close the connections without a header now. They are not counted."""
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None
        while self._waiting:
            reader, _ = self._waiting.popitem()
            reader.transport.abortConnection()
        self._tellIfRead()

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        """Answer a new connection with what reads its header."""
        return _HeaderReader(self)

    def wait(self, reader: _HeaderReader) -> None:
        """A connection has come, its header has not."""
        self._waiting[reader] = self._checks
        if len(self._waiting) > MAX_WAITING:
            oldest = next(iter(self._waiting))
            oldest.refuse(f"more than {MAX_WAITING:,} connections wait for their header")
        if self._checking is None:
            self._checking = self._reactor.callLater(1.0, self._check)

    def leave(self, reader: _HeaderReader) -> bool:
        """
        A connection waits for its header no longer.

        @return: whether it did.
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
    Return the factories of a listening port that have headers read, in the order in which
    a connection passes them.
    """
    factory = getattr(port, "factory", None)
    while factory is not None:
        if isinstance(factory, HeaderFactory):
            yield factory
        factory = getattr(factory, "wrappedFactory", None)


class HeaderReactor:
    """
    A reactor whose listening ports take connections from proxies. Otherwise it is the
    reactor behind it.
    """

    def __init__(self, reactor: Any, refused: Refused) -> None:
        """
        @param reactor: what listens.
        @param refused: receives each connection without a valid header.
        """
        self._reactor = reactor
        self._refused = refused
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

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
