"""
The TCP transports of the lane (L{echofactory.express.reactor}). They are Twisted's, but they
send immediately what the kernel takes, and make strings for the log only on demand.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from errno import EAGAIN, ENOBUFS
from typing import Any

from twisted.internet import tcp
from twisted.internet.address import IPv6Address
from twisted.internet.error import getConnectError
from twisted.internet.interfaces import IAddress
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from echofactory.express.ports import TCPPort
from echofactory.express.tls import LaneTLS, onSocket, startTLS

DONE = Failure(CONNECTION_DONE)
LOST = Failure(CONNECTION_LOST)
"""Made once, as in Twisted's reactors. Code must not change them."""

SMALLEST_READ = 448
LARGEST_READ = SMALLEST_READ << 8
"""The least and the most bytes of a read. If a read is full, the next one is larger. If two
reads in a row are nearly empty, the next one is smaller. Python's own allocator serves the
least. The most is below 128 KiB, because for larger blocks glibc calls the kernel each time."""

AT_ONCE = 1 << 16
"""Bytes that a producer can send directly before the lane calls the transport again."""


class _Connection(tcp.Connection):
    """
    A TCP transport whose C{write} sends immediately what the kernel takes.

    Its reactor is an L{ExpressReactor<echofactory.express.reactor.ExpressReactor>}.

    @ivar _readSize: bytes of the next read.
    @ivar _nearlyEmpty: whether the last read was nearly empty.
    @ivar _direct: whether a write can go to the kernel immediately. Every call that could
        make a write wait sets it to false. The next write checks again.
    @ivar _broken: whether a send has failed. The kernel reports an error only once. The next
        call has to end the connection as lost, not as done.
    @ivar _atOnce: bytes sent directly since the lane last called the transport, while a
        producer was registered. A producer that writes until it is paused must be paused,
        even if the kernel takes all bytes.
    @ivar session: TLS on the socket; C{None}: there is none.
    """

    session: LaneTLS | None = None
    _readSize = SMALLEST_READ
    _nearlyEmpty = False
    reactor: Any
    _tlsClientDefault: bool
    _direct = False
    _broken = False
    _atOnce = 0

    # The annotations of Twisted are those of an aborted connection.

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Receive once, and hand the data to the protocol."""
        self._atOnce = 0
        size = self._readSize
        try:
            data = self.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_LOST if self._broken else CONNECTION_DONE
        received = len(data)
        if received == size:
            if size < LARGEST_READ:
                self._readSize = size * 4
        elif size > SMALLEST_READ:
            if received * 8 >= size:
                if self._nearlyEmpty:
                    self._nearlyEmpty = False
            elif self._nearlyEmpty:
                self._nearlyEmpty = False
                self._readSize = size // 4
            else:
                # It can be the rest of a message for which the read before was too small.
                self._nearlyEmpty = True
        self.protocol.dataReceived(data)
        return None

    def doWrite(self) -> Exception | None:  # type: ignore[override]
        """Send the queue."""
        self._atOnce = 0
        if self._broken:
            return CONNECTION_LOST
        result: Exception | None = super().doWrite()
        return result

    def write(self, data: bytes) -> None:
        """If the queue is empty, send immediately what the kernel takes. Queue the rest."""
        if not (self._direct or self._mayBeDirect()) or type(data) is not bytes:
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except OSError as error:
            self._broken = error.errno not in {EAGAIN, ENOBUFS}
            self._direct = False
            sent = 0
        if self.producer is not None:
            self._atOnce += sent
            if self._atOnce > AT_ONCE:
                self._direct = False
        if sent != len(data):
            self._direct = False
            self.dataBuffer = data
            self.offset = sent
            self._maybePauseProducer()
            self.startWriting()

    def _mayBeDirect(self) -> bool:
        """Find out whether a write can go to the kernel immediately."""
        self._direct = not (
            self.dataBuffer
            or self._tempDataLen
            or self.TLS
            or self.disconnecting
            or self._aborting
            or self._writeDisconnecting
            or self._writeDisconnected
            or not self.connected
            # doWrite asks a pull producer for more.
            or (self.producer is not None and not self.streamingProducer)
            or self._atOnce > AT_ONCE
        )
        return self._direct

    # Calls after which a write has to wait, or sends nothing.

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See L{ITransport<twisted.internet.interfaces.ITransport>}."""
        self._direct = False
        super().writeSequence(iovec)

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """See L{ITLSTransport<twisted.internet.interfaces.ITLSTransport>}."""
        self._direct = False
        if self.dataBuffer or self._tempDataLen or self.TLS or not self.connected:
            # What is queued has to be sent first. Twisted's TLS shares the queue.
            super().startTLS(ctx, normal)
            return
        producer, streaming = self.producer, self.streamingProducer
        if producer is not None:
            self.unregisterProducer()
        startTLS(self, ctx, isClient=self._tlsClientDefault == bool(normal))
        if producer is not None:
            self.registerProducer(producer, streaming)

    def loseConnection(self) -> None:
        """
        See L{ITransport<twisted.internet.interfaces.ITransport>}. If the queue is empty,
        Twisted still waits until the socket is writable. The lane does not wait. Below TLS,
        the session closes as if it had been told.
        """
        if self.session is not None:
            self.session.loseConnection()
            return
        direct = self._direct or self._mayBeDirect()
        self._direct = False
        if direct and self.producer is None and self.reactor.lane.closeAfterwards(self):
            self.stopReading()
            self.disconnecting = 1
        else:
            super().loseConnection()

    def closeNow(self) -> None:
        """The lane's pass is over: close the connection if its queue is still empty."""
        if not self.connected or self._aborting:
            return
        if self.dataBuffer or self._tempDataLen or self.producer is not None:
            self.startWriting()
        else:
            # If the peer has reset the connection, the kernel has an error.
            broken = self._broken or self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.connectionLost(LOST if broken else DONE)

    def loseWriteConnection(self) -> None:
        """See C{IHalfCloseableDescriptor} of Twisted."""
        self._direct = False
        if self.session is None:
            super().loseWriteConnection()
        else:
            self.session.loseWriteConnection()

    def abortConnection(self) -> None:
        """See L{ITCPTransport<twisted.internet.interfaces.ITCPTransport>}."""
        self._direct = False
        if self.session is not None:
            self.session.aborted()
        super().abortConnection()

    def connectionLost(self, reason: Failure) -> None:
        """See L{FileDescriptor<twisted.internet.abstract.FileDescriptor>}."""
        self._direct = False
        super().connectionLost(reason)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See L{IConsumer<twisted.internet.interfaces.IConsumer>}."""
        self._direct = False
        super().registerProducer(producer, streaming)
        if streaming or self.TLS or not self.connected:
            return
        if not (self._writeDisconnecting or self._writeDisconnected):
            # Twisted asks a pull producer for more after the queue becomes empty. A direct
            # write leaves the queue empty all the time.
            self.startWriting()


class TCPServer(_Connection, tcp.Server):
    """
    An accepted connection. L{tcp.Server} makes strings for the log in advance. This class
    makes them on demand.
    """

    def __init__(
        self,
        sock: socket.socket,
        protocol: Any,
        client: tuple[Any, ...],
        server: tcp.Port,
        sessionno: int,
        reactor: Any,
    ) -> None:
        tcp.Connection.__init__(self, sock, protocol, reactor)
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self._portNumber = server._realPortNumber
        # Access to an attribute of the instance is faster than to one of the class.
        self._readSize = SMALLEST_READ
        self.startReading()
        self.connected = 1

    def connectionLost(self, reason: Failure) -> None:
        """See L{FileDescriptor<twisted.internet.abstract.FileDescriptor>}."""
        protocol = getattr(self, "protocol", None)
        if protocol is not None:
            self._protocolType = type(protocol)
        super().connectionLost(reason)

    # In Twisted, the next three are attributes that are set for every connection.

    @property
    def hostname(self) -> Any:  # type: ignore[override]
        """The peer's address."""
        return self.client[0]

    @property
    def logstr(self) -> str:  # type: ignore[override]
        """The prefix of its log lines."""
        if hasattr(self, "protocol"):
            prefix = self._getLogPrefix(self.protocol)
        else:
            prefix = self._protocolType.__name__
        return f"{prefix},{self.sessionno},{self.hostname}"

    @property
    def repstr(self) -> str:  # type: ignore[override]
        """The text of C{repr}."""
        kind = type(self.protocol) if hasattr(self, "protocol") else self._protocolType
        return f"<{kind.__name__} #{self.sessionno} on {self._portNumber}>"


_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


class TCPClient(_Connection, tcp.Client):
    """A connection to a server."""

    def createInternetSocket(self) -> socket.socket:
        """
        See L{tcp.BaseClient}. If a source address is bound without a port, the system chooses
        the port in C{connect} (C{IP_BIND_ADDRESS_NO_PORT}). Otherwise it would choose it in
        C{bind}, and the port would have to be free for every destination.
        """
        created: socket.socket = super().createInternetSocket()
        with suppress(OSError):
            created.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        return created

    def connectionLost(self, reason: Failure) -> None:
        """
        See L{tcp.BaseClient}. An ICMP error can end an attempt with an event that carries no
        data. Twisted does not read the socket's error in this case.
        """
        if not self.connected and hasattr(self, "socket"):
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self.failIfNotConnected(getConnectError((number, os.strerror(number))))
        super().connectionLost(reason)


_LATE_ATTRIBUTES = (
    "protocol", "realAddress", "connected", "logstr", "doRead", "doWrite", "producer",
    "streamingProducer", "dataBuffer", "offset", "_direct", "_atOnce", "_readSize",
    "_nearlyEmpty",
)  # fmt: skip
"""Attributes that a L{TCPClient} gets after it was made. If the first instance has all of them,
CPython keeps those of each instance in an array, which takes half as much memory as a dict."""


def _announceLateAttributes() -> None:
    first = TCPClient.__new__(TCPClient)
    for name in _LATE_ATTRIBUTES:
        setattr(first, name, None)


_announceLateAttributes()


class LanePort(TCPPort):
    """Accepts connections for the lane."""

    transport = TCPServer

    def _build(self, address: IAddress) -> Any:
        return onSocket(super()._build(address))


class TCPConnector(tcp.Connector):
    """Makes a connection to a server."""

    def buildProtocol(self, addr: IAddress) -> Any:
        """See L{tcp.Connector}."""
        return onSocket(super().buildProtocol(addr))

    def _makeTransport(self) -> TCPClient:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)
