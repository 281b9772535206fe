"""
The echo itself (RFC 862).
"""

from operator import attrgetter
from typing import Protocol as Structure

from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.net.transport import IEchoTransport, releaseClosing


class EchoOwner(Structure):
    """What an L{Echo} tells of itself: its factory has this."""

    def connectionOpened(self, echo: "Echo") -> None:
        """An L{Echo} tells that it has its transport."""

    def connectionClosed(self, echo: "Echo", reason: Failure) -> None:
        """An L{Echo} tells that its transport is gone."""


@implementer(IHalfCloseableProtocol, IPushProducer)
class Echo(Protocol):
    """
    Sends back every byte, in order, and at the end of the stream closes once
    all of them are sent.

    @ivar chunks: pieces received.
    @ivar bytesIn: bytes received.
    @ivar host: the peer's, for the factory to keep.
    @ivar countedHost: the host whose limit the connection counts for, for the factory
        to keep; only if there is such a limit.
    @ivar ended: whether the peer has ended its stream.
    @ivar cut: why this side has aborted the connection; empty: it has not.
    """

    # Apart from the instance's dictionary, of which five attributes share the keys: a
    # sixth would give each connection a dictionary of its own.
    __slots__ = ("bytesIn", "chunks", "countedHost", "host")

    factory: EchoOwner
    transport: IEchoTransport
    chunks: int
    bytesIn: int
    host: str | None
    countedHost: str | None
    ended = False
    cut = ""

    def connectionMade(self) -> None:
        self.chunks = self.bytesIn = 0
        self.host = None
        self.transport.registerProducer(self, True)
        self.factory.connectionOpened(self)

    def dataReceived(self, data: bytes) -> None:
        self.chunks += 1
        self.bytesIn += len(data)
        self.transport.write(data)

    # All that came in, at once. Each connection is asked every second: not in Python.
    bytesOut = property(attrgetter("bytesIn"), doc="Bytes handed to the transport.")

    def pauseProducing(self) -> None:
        # A peer that does not read is not read from.
        self.transport.pauseProducing()

    def resumeProducing(self) -> None:
        self.transport.resumeProducing()
        releaseClosing(self.transport)

    def stopProducing(self) -> None:
        """The transport is gone; L{connectionLost} says so too."""

    def readConnectionLost(self) -> None:
        self.ended = True
        # loseConnection sends what is queued first, but waits for a producer.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.transport.loseConnection()

    def abort(self, why: str = "aborted") -> None:
        """
        Close now; what is queued is lost.

        @param why: how the connection will be counted as lost.
        """
        self.cut = why
        self.transport.abortConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connectionClosed(self, reason)
