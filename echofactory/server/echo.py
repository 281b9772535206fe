"""
The echo itself (RFC 862).
"""

from operator import attrgetter
from typing import Protocol as Structure

from twisted.internet.interfaces import IPushProducer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.express.tlssession import IHalfClosesTLS
from echofactory.net.transport import IEchoTransport, releaseClosing


class EchoOwner(Structure):
    """What an L{Echo} needs of its factory."""

    def connectionOpened(self, echo: "Echo") -> None:
        """Called by each L{Echo} when it has its transport."""

    def connectionClosed(self, echo: "Echo", reason: Failure) -> None:
        """Called by each L{Echo} when its transport is closed."""


@implementer(IHalfClosesTLS, IPushProducer)
class Echo(Protocol):
    """
    Sends back every byte, in order. If the peer ends its stream, the echo sends what is
    queued and then closes the connection. Over TLS, this needs the fast lane and TLS 1.3. If
    the peer does not read, the echo stops reading.

    @ivar factory: receives the connection's opening and closing.
    @ivar transport: the connection.
    @ivar chunks: number of pieces received. The transport decides how the stream is cut.
    @ivar bytesIn: number of bytes received.
    @ivar host: the peer's IP address; set by the factory. C{None}: not looked up yet.
    @ivar countedHost: the host whose connection limit this connection counts toward; set
        by the factory, and only if there is such a limit.
    @ivar ended: whether the peer has ended its stream.
    @ivar abortReason: why this side has aborted the connection: a key of
        L{LOSSES<echofactory.server.counts.LOSSES>}. Empty: this side has not.
    """

    # The dictionaries of all instances share the keys of five attributes. A sixth attribute
    # would give each connection a dictionary of its own, so these have slots.
    __slots__ = ("bytesIn", "chunks", "countedHost", "host")

    factory: EchoOwner
    transport: IEchoTransport
    chunks: int
    bytesIn: int
    host: str | None
    countedHost: str | None
    ended = False
    abortReason = ""

    def connectionMade(self) -> None:
        self.chunks = self.bytesIn = 0
        self.host = None
        self.transport.registerProducer(self, True)
        self.factory.connectionOpened(self)

    def dataReceived(self, data: bytes) -> None:
        self.chunks += 1
        self.bytesIn += len(data)
        self.transport.write(data)

    # Every byte that came in was written. C{attrgetter} is faster than a method in Python,
    # and the status reads this property of each connection once a second.
    bytesOut = property(attrgetter("bytesIn"), doc="Bytes handed to the transport.")

    def pauseProducing(self) -> None:
        # Backpressure: if the peer does not read, nothing more is read from it.
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()
        releaseClosing(self.transport)

    def stopProducing(self) -> None:
        """Called when the transport is closed. L{connectionLost} handles that."""

    def readConnectionLost(self) -> None:
        self.ended = True
        # With a producer registered, loseConnection would wait for the producer.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.transport.loseConnection()

    def abort(self, why: str = "aborted") -> None:
        """
        Close immediately. Bytes in the queue are lost.

        @param why: the key of L{LOSSES<echofactory.server.counts.LOSSES>} that the
            connection is counted under.
        """
        self.abortReason = why
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connectionClosed(self, reason)
