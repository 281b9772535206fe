"""
The echo itself (RFC 862).
"""

from typing import TYPE_CHECKING

from twisted.internet.interfaces import (
    IConsumer,
    IHalfCloseableProtocol,
    IPushProducer,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from echofactory.server import EchoFactory


class IEchoTransport(ITCPTransport, IConsumer, IPushProducer):
    """What an echo asks of its transport; every stream transport of Twisted's has it."""


@implementer(IHalfCloseableProtocol)
class Echo(Protocol):
    """
    Sends back every byte, in order, and at the end of the stream closes once
    all of them are sent.

    @ivar bytesIn: received.
    @ivar bytesOut: handed to the transport.
    """

    factory: "EchoFactory"
    transport: IEchoTransport
    bytesIn = 0
    bytesOut = 0

    def connectionMade(self) -> None:
        # Its own producer: a peer that does not read is not read from.
        self.transport.registerProducer(self.transport, True)
        self.factory.connectionOpened(self)

    def dataReceived(self, data: bytes) -> None:
        size = len(data)
        self.bytesIn += size
        self.transport.write(data)
        self.bytesOut += size

    def readConnectionLost(self) -> None:
        # loseConnection sends what is queued first, but waits for a producer.
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.connectionClosed(self, reason)
