"""
TLS on the lane (L{echofactory.express.reactor}): the transport that a protocol sees instead of
Twisted's. L{echofactory.express.tlssession} has the rules.
"""

from collections.abc import Iterable
from typing import Any

from OpenSSL import SSL
from twisted.internet.endpoints import _WrappingProtocol
from twisted.internet.interfaces import (
    IConsumer,
    INegotiated,
    IPushProducer,
    ISSLTransport,
    ISystemHandle,
)
from twisted.internet.protocol import ServerFactory
from twisted.protocols.tls import (
    BufferingTLSTransport,
    TLSMemoryBIOFactory,
    TLSMemoryBIOProtocol,
)
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer

from echofactory.express.openssl import MOST, write
from echofactory.express.tlssession import QUEUE_LIMIT, TLSSession


@implementer(INegotiated, ISystemHandle, IConsumer, IPushProducer)
class LaneTLS(TLSSession):
    """The transport of a protocol over TLS on the lane."""

    def write(self, data: bytes) -> None:
        """
        See L{ITransport<twisted.internet.interfaces.ITransport>}. After C{loseConnection},
        nothing is sent, except what a producer writes.
        """
        if not (self._direct or self._mayBeDirect()) or type(data) is not bytes or not data:
            self._enqueue(data)
            return
        size = len(data)
        if self._gathering:
            self._direct = False
            self._queue.append(data)
            return
        if self._producer is not None:
            self._atOnce += size
            if self._atOnce > QUEUE_LIMIT:
                self._direct = False
        sent = write(self._ssl, data, size if size < MOST else MOST)
        if sent != size:
            self._queue.appendRest(data, sent)
            self._closeFor(self._flush() if sent > 0 else self._writeFailed(sent))

    def _mayBeDirect(self) -> bool:
        """Find out whether a write can go to OpenSSL immediately."""
        self._direct = not (
            self._queue.first != b""
            or not self._isOpen
            or self._broken
            or self.disconnecting
            or self._halfClosing
            # doWrite asks a pull producer for more.
            or (self._producer is not None and not self._streaming)
            or self._atOnce > QUEUE_LIMIT
        )
        return self._direct

    def _enqueue(self, data: bytes) -> None:
        if type(data) is not bytes:
            # Other buffers could change before they are sent.
            data = b"".join((data,))
        if not data or self._ignoresWrites():
            return
        self._direct = False
        self._queue.append(data)
        if self._producer is not None:
            self._pauseIfFull()
        elif self._gathering and len(self._queue) > QUEUE_LIMIT and not self._blocked:
            # This limits the memory of a protocol that writes much while it receives.
            self._closeFor(self._flush())
        if self._queue.first and self._isOpen and not self._gathering:
            self._block()

    def _ignoresWrites(self) -> bool:
        """Whether what is written is not sent, because the session ends or has ended."""
        if self._broken or self._alertSent or not (self._isOpen or self._handshaking):
            return True
        if self.disconnecting or self._halfClosing:
            return self._producer is None or bool(self._ended and self.disconnecting)
        return False

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See L{ITransport<twisted.internet.interfaces.ITransport>}."""
        self.write(b"".join(iovec))

    def loseConnection(self) -> None:
        """See L{ITransport<twisted.internet.interfaces.ITransport>}."""
        if self.disconnecting or not self.connected:
            return
        if self._handshaking and not self._queue.first:
            # OpenSSL sends no alert before the handshake is complete.
            self.abortConnection()
            return
        self.disconnecting = True
        self._endIfEmpty()

    def loseWriteConnection(self) -> None:
        """
        Send the closing alert after what is queued, and go on receiving. See
        L{IHalfCloseableDescriptor<twisted.internet.interfaces.IHalfCloseableDescriptor>}. Only
        a peer that knows half-close goes on sending.
        """
        if not (self.disconnecting or self._halfClosing):
            self._halfClosing = True
            self._endIfEmpty()

    def _endIfEmpty(self) -> None:
        self._direct = False
        if self._isOpen and not self._queue.first and self._producer is None:
            self._closeFor(self._emptied())

    def abortConnection(self) -> None:
        """See L{ITCPTransport<twisted.internet.interfaces.ITCPTransport>}."""
        self.transport.abortConnection()

    def failVerification(self, reason: Failure) -> None:
        """
        Abort the connection, because the peer's certificate is not accepted.

        @param reason: what the protocol is told.
        """
        self._reason = reason
        self.abortConnection()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See L{IConsumer<twisted.internet.interfaces.IConsumer>}."""
        if self._producer is not None:
            raise RuntimeError(
                f"cannot register {producer}, because {self._producer} is registered already"
            )
        if not self.connected:
            producer.stopProducing()
            return
        self._direct = self._paused = False
        self._producer = producer
        self._streaming = streaming
        if not streaming and self._isOpen:
            self._block()

    def unregisterProducer(self) -> None:
        """See L{IConsumer<twisted.internet.interfaces.IConsumer>}."""
        if self._producer is not None:
            self._producer = None
            self._direct = False
            if self.disconnecting or self._halfClosing:
                self._endIfEmpty()

    def stopConsuming(self) -> None:
        """See L{FileDescriptor<twisted.internet.abstract.FileDescriptor>}."""
        self.unregisterProducer()
        self.loseConnection()

    def pauseProducing(self) -> None:
        """See L{IPushProducer}. The handshake goes on."""
        self._readPaused = True
        if not self.connected:
            return
        if self.disconnecting and self._alertSent and not self._ended:
            self._closeFor(self._discardRest())
        elif not self._handshaking:
            self.transport.stopReading()

    def resumeProducing(self) -> None:
        """See L{IPushProducer}."""
        self._readPaused = False
        if self.connected and not self._ended:
            self.transport.startReading()

    def stopProducing(self) -> None:
        """See L{IPushProducer}."""
        self.loseConnection()

    def getHandle(self) -> SSL.Connection | None:
        """
        See L{ISystemHandle}.

        @return: OpenSSL's connection; C{None}: the connection is lost.
        """
        handle: SSL.Connection | None = self._handle
        return handle

    def getPeerCertificate(self) -> Any:
        """See L{ISSLTransport<twisted.internet.interfaces.ISSLTransport>}."""
        return self._handle.get_peer_certificate()

    @property
    def queuedBytes(self) -> int:
        """The number of bytes that wait for the kernel, before they are encrypted."""
        return len(self._queue)

    @property
    def negotiatedProtocol(self) -> bytes | None:
        """See L{INegotiated}."""
        handle = self._handle
        return None if handle is None else handle.get_alpn_proto_negotiated() or None


_TWISTEDS = (BufferingTLSTransport, TLSMemoryBIOProtocol)


def onSocket(protocol: Any) -> Any:
    """
    Return a protocol with TLS on the socket, if it is Twisted's protocol of TLS, directly on
    the transport.

    @param protocol: what a factory has built for a transport of the lane.
    @return: C{None}: the factory does not want the connection.
    """
    if type(protocol) in _TWISTEDS:
        if protocol.wrappedProtocol is None:
            return None
        return LaneTLS(protocol.factory, protocol.wrappedProtocol)
    if type(protocol) is _WrappingProtocol:
        # An endpoint of a client has it between the transport and TLS.
        inner = onSocket(protocol._wrappedProtocol)
        if inner is not None:
            protocol._wrappedProtocol = inner
    return protocol


def startTLS(connection: Any, options: Any, isClient: bool) -> None:
    """
    Go on with TLS on a TCP connection of the lane, whose queue is empty.

    @param connection: the transport. It stays the transport of its protocol.
    @param options: what C{startTLS} of Twisted takes.
    @param isClient: whether this side begins the handshake.
    """
    factory = TLSMemoryBIOFactory(options, isClient, ServerFactory(), clock=connection.reactor)
    session = LaneTLS(factory, connection.protocol, connectWrapped=False)
    connection.protocol = session
    connection.getHandle = session.getHandle
    connection.getPeerCertificate = session.getPeerCertificate
    # Protocols ask whether the transport has TLS.
    directlyProvides(connection, ISSLTransport)
    connection.TLS = True
    session.makeConnection(connection)
