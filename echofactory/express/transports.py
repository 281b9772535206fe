"""
The TCP transports of the lane (L{echofactory.express.reactor}): Twisted's own, but they
send at once what the kernel takes, and do without what costs and is not asked for.

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
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.python.failure import Failure

from echofactory.express.ports import TCPPort

DONE = Failure(CONNECTION_DONE)
LOST = Failure(CONNECTION_LOST)
"""As Twisted's reactors, made once: nobody may change a reason."""

SMALLEST_READ = 448
LARGEST_READ = SMALLEST_READ << 8
"""Bytes asked for at a time. A read that comes back full asks for more the next
time, and one that comes back nearly empty for less. The least is what Python's
own allocator serves; the most is short of the 128 KiB for which glibc asks the
kernel, and gives them back, each time."""

AT_ONCE = 1 << 16
"""Bytes that a producer may send before the lane calls again."""


class _Connection(tcp.Connection):
    """
    A TCP transport that sends in C{write} what the kernel takes.

    Its reactor is an L{ExpressReactor<echofactory.express.reactor.ExpressReactor>}.

    @ivar _readSize: bytes to ask for.
    @ivar _direct: whether what is written may go to the kernel at once. Whatever
        could make it wait takes this back, and the next to write finds out.
    @ivar _broken: whether a send has failed. The kernel tells of an error once;
        whoever calls next has to be told that the connection is lost, not done.
    @ivar _atOnce: bytes sent since the lane called last, while there was a
        producer. One that writes until it is paused has to be paused, however
        fast the kernel is.
    """

    _readSize = SMALLEST_READ
    reactor: Any
    _direct = False
    _broken = False
    _atOnce = 0

    # The types that Twisted gives these two are those of an aborted connection's.

    def doRead(self) -> Exception | None:  # type: ignore[override]
        """Receive once, and hand it to the protocol."""
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
        elif size > SMALLEST_READ and received * 8 < size:
            self._readSize = size // 4
        self.protocol.dataReceived(data)
        return None

    def doWrite(self) -> Exception | None:  # type: ignore[override]
        """Send what is queued."""
        self._atOnce = 0
        if self._broken:
            return CONNECTION_LOST
        result: Exception | None = super().doWrite()
        return result

    def write(self, data: bytes) -> None:
        """Send now what the kernel takes, if nothing is queued; queue the rest."""
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
        """Find out whether what is written may go to the kernel at once."""
        self._direct = not (
            self.dataBuffer
            or self._tempDataLen
            or self.TLS
            or self.disconnecting
            or self._aborting
            or self._writeDisconnecting
            or self._writeDisconnected
            or not self.connected
            # A pull producer is asked for more by doWrite.
            or (self.producer is not None and not self.streamingProducer)
            or self._atOnce > AT_ONCE
        )
        return self._direct

    # What makes a write wait, or come to nothing.

    def writeSequence(self, iovec: Iterable[bytes]) -> None:
        """See L{ITransport<twisted.internet.interfaces.ITransport>}."""
        self._direct = False
        super().writeSequence(iovec)

    def startTLS(self, ctx: Any, normal: bool = True) -> None:
        """See L{ITLSTransport<twisted.internet.interfaces.ITLSTransport>}."""
        self._direct = False
        super().startTLS(ctx, normal)

    def loseConnection(self) -> None:
        """
        See L{ITransport<twisted.internet.interfaces.ITransport>}. Twisted waits
        for the socket to take the nothing that is queued; the lane does not.
        """
        direct = self._direct or self._mayBeDirect()
        self._direct = False
        if direct and self.producer is None and self.reactor.lane.closeAfterwards(self):
            self.stopReading()
            self.disconnecting = 1
        else:
            super().loseConnection()

    def closeNow(self) -> None:
        """The lane is done with what was ready: close, if that is still what is left."""
        if not self.connected or self._aborting:
            return
        if self.dataBuffer or self._tempDataLen or self.producer is not None:
            self.startWriting()
        else:
            # The kernel may know better than that all is done: the peer reset it.
            broken = self._broken or self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self.connectionLost(LOST if broken else DONE)

    def loseWriteConnection(self) -> None:
        """See L{IHalfCloseableDescriptor}."""
        self._direct = False
        super().loseWriteConnection()

    def abortConnection(self) -> None:
        """See L{IAbortingTransport<twisted.internet.interfaces.IAbortingTransport>}."""
        self._direct = False
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
            # Twisted asks a pull producer for more when the queue is empty; what
            # went out at once has left no queue to become so.
            self.startWriting()


class TCPServer(_Connection, tcp.Server):
    """
    An accepted connection. What L{tcp.Server} prepares for the log, this makes
    when it is asked for.
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
        # An instance's attribute is found faster than its class's.
        self._readSize = SMALLEST_READ
        self.startReading()
        self.connected = 1

    def connectionLost(self, reason: Failure) -> None:
        """See L{FileDescriptor<twisted.internet.abstract.FileDescriptor>}."""
        protocol = getattr(self, "protocol", None)
        if protocol is not None:
            self._protocolType = type(protocol)
        super().connectionLost(reason)

    # The three are attributes in Twisted, set for every connection; hardly any is
    # ever asked for them.

    @property
    def hostname(self) -> Any:  # type: ignore[override]
        """The peer's address."""
        return self.client[0]

    @property
    def logstr(self) -> str:  # type: ignore[override]
        """The prefix of its lines in the log."""
        if hasattr(self, "protocol"):
            prefix = self._getLogPrefix(self.protocol)
        else:
            prefix = self._protocolType.__name__
        return f"{prefix},{self.sessionno},{self.hostname}"

    @property
    def repstr(self) -> str:  # type: ignore[override]
        """What C{repr} says."""
        kind = type(self.protocol) if hasattr(self, "protocol") else self._protocolType
        return f"<{kind.__name__} #{self.sessionno} on {self._portNumber}>"


_BIND_ADDRESS_NO_PORT = getattr(socket, "IP_BIND_ADDRESS_NO_PORT", 24)


class TCPClient(_Connection, tcp.Client):
    """A connection that was asked for."""

    def createInternetSocket(self) -> socket.socket:
        """
        See L{tcp.BaseClient}. A source address bound without a port takes one as
        it connects: taken before, it would have to be free for every destination.
        """
        created: socket.socket = super().createInternetSocket()
        with suppress(OSError):
            created.setsockopt(socket.IPPROTO_IP, _BIND_ADDRESS_NO_PORT, 1)
        return created

    def connectionLost(self, reason: Failure) -> None:
        """
        See L{tcp.BaseClient}. An ICMP error may end an attempt in an event without data
        to read, for which Twisted does not ask what the error was.
        """
        if not self.connected and hasattr(self, "socket"):
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if number:
                self.failIfNotConnected(getConnectError((number, os.strerror(number))))
        super().connectionLost(reason)


class LanePort(TCPPort):
    """Accepts connections for the lane."""

    transport = TCPServer


class TCPConnector(tcp.Connector):
    """Asks for a connection."""

    def _makeTransport(self) -> TCPClient:
        return TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)
