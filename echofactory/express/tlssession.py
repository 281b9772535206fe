"""
A session of TLS on the lane (L{echofactory.express.tls}): OpenSSL reads and writes the socket
itself.

Twisted gives OpenSSL every byte through a buffer in memory, and learns from an exception,
twice a message, that the buffer is empty. Here, the same C{OpenSSL.SSL.Connection}, made by
the same options, has the socket of the connection. Verification, server names, protocols
(ALPN), client certificates and session tickets are therefore those of Twisted.

A session has these states. It can end in each of them.

 - I{handshake}: what the protocol writes is queued.
 - I{open}: data goes both ways.
 - I{ending}: the protocol has called C{loseConnection} or C{loseWriteConnection}. When the
   queue is empty and no producer is left, the closing alert (C{close_notify}) is sent. Data
   that the peer sends before its own alert goes to the protocol.
 - I{lost}: nothing goes either way.

The rules are those of C{twisted.protocols.tls}, with the exceptions that are named here:

 - The peer's alert is answered, and ends the connection with C{ConnectionDone} when the queue
   is empty. Exception: if the protocol is L{IHalfClosesTLS} and the version is TLS 1.3, the
   alert ends only the peer's direction (RFC 8446, section 6.1).
 - An end of the stream without the alert is C{ConnectionLost}, because anybody on the path can
   cut the stream.
 - A failed handshake, or another error of TLS, ends the connection with OpenSSL's error.
 - Exception: what a protocol writes while it receives data goes out together. Other writes go
   out immediately. Twisted delays both until the next turn of the reactor.
 - Exception: C{abortConnection} sends no alert.
 - Exception: if a protocol pauses reading during the handshake, the handshake goes on. If it
   pauses reading and closes the connection, what the peer sends before its alert is discarded.

The private names of Twisted and of pyOpenSSL that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

from typing import Any

from OpenSSL import SSL
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import Interface

from echofactory.express.openssl import (
    READ_SIZE,
    RECORD,
    errorOf,
    handshake,
    isLoss,
    putOnSocket,
    read,
    shutdown,
    takeOffSocket,
)
from echofactory.express.sendqueue import SendQueue

QUEUE_LIMIT = 1 << 16
"""If more bytes than this are queued, a streaming producer is paused. A streaming producer can
send as many bytes directly before the lane calls the transport again."""

_LOST = Failure(CONNECTION_LOST)


class IHalfClosesTLS(IHalfCloseableProtocol, Interface):
    """
    A protocol that goes on writing after the peer's closing alert, as it does after the end
    of a TCP stream. Programs that know only Twisted do not expect this:
    L{IHalfCloseableProtocol} alone is therefore not enough.
    """


class TLSSession(ProtocolWrapper):
    """
    Between a TCP transport of the lane, for which it reads and writes, and a protocol.

    @ivar _direct: whether a write can go to OpenSSL immediately. Every call that could make
        a write wait sets it to false. The next write checks again.
    @ivar _gathering: whether the protocol receives data. What it writes is sent afterwards.
    @ivar _blocked: whether the lane watches the socket for writing.
    @ivar _readWaits: whether OpenSSL has to write before it can read.
    @ivar _readPaused: whether the protocol has paused reading. The handshake reads.
    @ivar _halfClosing: whether the protocol has called C{loseWriteConnection}.
    @ivar _ended: whether the peer's alert has arrived.
    @ivar _broken: whether a send has failed. The next call ends the connection.
    @ivar _reason: the reason for the end, if it is not the transport's.
    @ivar _paused: whether the streaming producer is paused.
    @ivar _atOnce: bytes sent directly since the lane last called, while there was a producer.
    """

    # The interfaces of this class are declared by its subclass.
    transport: Any
    wrappedProtocol: Any
    factory: Any

    _handle: Any = None
    _handshaking = True
    _isOpen = False
    _direct = False
    _gathering = False
    _blocked = False
    _readWaits = False
    _readPaused = False
    _halfClosing = False
    _alertSent = False
    _ended = False
    _broken = False
    _reason: Failure | None = None
    _producer: Any = None
    _streaming = False
    _paused = False
    _atOnce = 0

    def __init__(self, factory: Any, wrappedProtocol: Any, connectWrapped: bool = True) -> None:
        """
        @param factory: Twisted's factory, which makes connections of OpenSSL.
        @param wrappedProtocol: the protocol over TLS.
        @param connectWrapped: whether to call its C{makeConnection}. Before C{startTLS}, it is
            connected already.
        """
        super().__init__(factory, wrappedProtocol)
        self._connectWrapped = connectWrapped
        self._queue = SendQueue()

    def makeConnection(self, transport: Any) -> None:
        """Begin the handshake on a TCP transport of the lane, whose queue is empty."""
        # First of all: the protocol must not receive what is not encrypted, even if the
        # factory of the options raises an error.
        transport.session = self
        transport.doRead = self.doRead
        transport.doWrite = self.doWrite
        self.transport = transport
        self.connected = 1
        self.factory.registerProtocol(self)
        try:
            handle = self.factory._creatorCallable(self)
            self._ssl = putOnSocket(handle, transport.socket)
        except BaseException:
            # The peer may send nothing that would end the connection.
            transport.abortConnection()
            raise
        self._handle = handle
        buffer = transport.reactor.lane.readBuffer
        self._memory = buffer.memory
        self._view = buffer.view
        if self._connectWrapped:
            self.wrappedProtocol.makeConnection(self)
        if self._handshaking:
            self._closeFor(self._handshake())

    def doRead(self) -> Exception | None:
        """Receive a record, and hand the data to the protocol."""
        self._atOnce = 0
        if not self._isOpen:
            return self._handshake() if self._handshaking else None
        received = read(self._ssl, self._memory, RECORD)
        if received <= 0:
            return self._readFailed(errorOf(self._handle, self._ssl, received))
        error = None
        if received == RECORD:
            received, error = self._readMore()
        self._gathering = True
        self.wrappedProtocol.dataReceived(self._view[0:received])
        self._gathering = False
        if error is not None:
            return self._readFailed(error) if self._isOpen else None
        return self._flush() if self._queue.first and not self._blocked else None

    def _readMore(self) -> tuple[int, Exception | None]:
        """
        A full record has arrived: fill the buffer, so that the protocol is called only once.

        @return: the bytes in the buffer, and the error that comes after them.
        """
        filled = RECORD
        while filled < READ_SIZE:
            received = read(self._ssl, self._memory + filled, RECORD)
            if received <= 0:
                return filled, errorOf(self._handle, self._ssl, received)
            filled += received
            if received < RECORD:
                break
        return filled, None

    def doWrite(self) -> Exception | None:
        """Send the queue."""
        self._atOnce = 0
        if self._broken:
            return CONNECTION_LOST
        if not self._isOpen:
            self._unblock()
            return self._handshake() if self._handshaking else None
        if self._readWaits:
            self._readWaits = False
            why = self.doRead()
            if why is not None or self._readWaits or not self._isOpen:
                return why
        if self._queue.first:
            return self._flush()
        self._unblock()
        return self._emptied()

    def _handshake(self) -> Exception | None:
        error = handshake(self._handle)
        if isinstance(error, SSL.WantReadError | SSL.WantWriteError):
            if isinstance(error, SSL.WantWriteError):
                self._block()
            return None
        if error is not None:
            return self._failed(error)
        if not self._handshaking:
            # A callback of OpenSSL has aborted the connection.
            return None
        self._handshaking = False
        self._isOpen = True
        if self._readPaused:
            self.transport.stopReading()
        if IHandshakeListener.providedBy(self.wrappedProtocol):
            self.wrappedProtocol.handshakeCompleted()
        if not self._isOpen:
            return None
        if not self._queue.first:
            return self._emptied()
        return None if self._blocked else self._flush()

    def _readFailed(self, error: Exception) -> Exception | None:
        match error:
            case SSL.WantReadError():
                # A record can arrive in parts, and some records have no data. If the queue
                # is not blocked, it waited for one of them.
                return self._flush() if self._queue.first and not self._blocked else None
            case SSL.WantWriteError():
                self._readWaits = True
                self._block()
                return None
            case SSL.ZeroReturnError():
                return self._peerEnded()
        return self._failed(error)

    def _peerEnded(self) -> Exception | None:
        """The peer's alert has arrived."""
        self.transport.stopReading()
        if self._ended:
            return None
        self._ended = True
        if (
            not self.disconnecting
            and IHalfClosesTLS.providedBy(self.wrappedProtocol)
            and self.halfCloses()
        ):
            self.wrappedProtocol.readConnectionLost()
        else:
            self.disconnecting = True
            self._direct = False
        if not self._isOpen or self._blocked:
            return None
        return self._flush() if self._queue.first else self._emptied()

    def halfCloses(self) -> bool:
        """
        Return whether an alert ends only one direction. Before TLS 1.3, both sides have to
        stop (RFC 5246, section 7.2.1).
        """
        return bool(self._handle.get_protocol_version() >= SSL.TLS1_3_VERSION)

    def _failed(self, error: Exception) -> Exception:
        """TLS cannot go on."""
        self._handshaking = self._isOpen = self._direct = False
        if self._reason is None and not isLoss(error):
            self._reason = Failure(error)
        return CONNECTION_LOST

    def _flush(self) -> Exception | None:
        """Send the queue, which is not empty, as far as the socket takes it."""
        result = self._queue.send(self._ssl)
        if result <= 0:
            return self._writeFailed(result)
        if self._blocked:
            self._unblock()
        if self._producer is not None or self.disconnecting or self._halfClosing:
            return self._emptied()
        self._direct = True
        return None

    def _writeFailed(self, result: int) -> Exception | None:
        error = errorOf(self._handle, self._ssl, result)
        self._direct = False
        match error:
            case SSL.WantWriteError():
                self._block()
            case SSL.WantReadError():
                # doRead tries again.
                self._unblock()
            case _ if isLoss(error):
                # What the peer sent before is read first.
                self._broken = True
                self._block()
            case _:
                return self._failed(error)
        if self._producer is not None:
            self._pauseIfFull()
        return None

    def _block(self) -> None:
        if not self._blocked:
            self._blocked = True
            self.transport.startWriting()

    def _unblock(self) -> None:
        if self._blocked:
            self._blocked = False
            self.transport.stopWriting()

    def _pauseIfFull(self) -> None:
        if self._streaming and not self._paused and len(self._queue) > QUEUE_LIMIT:
            self._paused = True
            self._producer.pauseProducing()

    def _emptied(self) -> Exception | None:
        """The queue is empty: ask the producer for more, or end."""
        if self._producer is not None and not (self._ended and self.disconnecting):
            if self._paused or not self._streaming:
                self._paused = False
                self._producer.resumeProducing()
            return None
        if not (self.disconnecting or self._halfClosing):
            return None
        if not self._alertSent:
            result = shutdown(self._ssl)
            if result < 0:
                error = errorOf(self._handle, self._ssl, result)
                if isinstance(error, SSL.WantWriteError):
                    self._block()
                    return None
                if not (isinstance(error, SSL.WantReadError) or self._ended):
                    return CONNECTION_LOST
            # If the peer has ended and does not take the alert, nothing is lost.
            self._alertSent = True
            half = self._halfClosing and not self.disconnecting
            if half and IHalfCloseableProtocol.providedBy(self.wrappedProtocol):
                self.wrappedProtocol.writeConnectionLost()
        if self._ended:
            return CONNECTION_DONE
        return self._discardRest() if self._readPaused and self.disconnecting else None

    def _discardRest(self) -> Exception | None:
        """
        Read up to the peer's alert, from now on, for a protocol that has paused reading and
        closed the connection. Otherwise, the connection would stay open.
        """
        self.transport.doRead = self._discardRest
        self.transport.startReading()
        received = read(self._ssl, self._memory, RECORD)
        if received > 0:
            return None
        return self._readFailed(errorOf(self._handle, self._ssl, received))

    def _closeFor(self, why: Exception | None) -> None:
        """End the connection after the event that is served now."""
        if why is not None:
            self._handshaking = self._isOpen = self._direct = False
            self.transport.stopReading()
            self.transport.stopWriting()
            reactor = self.transport.reactor
            reactor.callLater(0, self.transport.connectionLost, Failure(why))

    def aborted(self) -> None:
        """The transport aborts the connection: send nothing more."""
        self.disconnecting = True
        self._handshaking = self._isOpen = self._direct = False
        self._queue = SendQueue()

    def connectionLost(self, reason: Failure = _LOST) -> None:
        """The transport has closed the socket."""
        self._handshaking = self._isOpen = self._direct = False
        if not (self._ended and self._alertSent) and reason.check(ConnectionDone):
            reason = _LOST
        reason = self._reason or reason
        self._queue = SendQueue()
        self.connected = 0
        del self.transport.doRead, self.transport.doWrite, self.transport.session
        if self._handle is not None:
            takeOffSocket(self._handle)
        elif self._connectWrapped:
            # The protocol has never been connected.
            self.factory.unregisterProtocol(self)
            return
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        # These refer to each other.
        self._handle = self._ssl = self._reason = None
