"""
A fast lane for stream connections, through any Twisted reactor.

Most of what Twisted spends on a small message is not the message: each ready
descriptor goes through C{log.callWithLogger}, and what is written waits for a
notification, at the price of two C{epoll_ctl} calls, that it could have been
sent at once. The lane has an epoll of its own, which the reactor watches as one
descriptor among its others; it calls its transports straight, and they send at
once what the kernel takes. Otherwise they are Twisted's transports, with their
queues, producers, half-close, TLS and order of events. UNIX sockets are called
straight too, but queue what they send as ever: a descriptor may have to go with
the next bytes.

One thing differs: the log context. What a protocol logs while it is called has
not its transport's C{system} beside it.

What is touched of Twisted that is not public, each with its reason:

 - C{FileDescriptor._tempDataLen}: is something queued already? Bytes keep their
   order.
 - C{FileDescriptor._writeDisconnected}, C{FileDescriptor._writeDisconnecting}:
   is the writing side closed, or about to be?
 - C{Connection._aborting}: has C{abortConnection} been called?
 - C{FileDescriptor._maybePauseProducer}: the kernel did not take everything.
 - C{tcp.Connector._makeTransport}: where a client's transport is made.
 - C{Port._fromListeningDescriptor}, of C{tcp} and C{unix}: how a port is made of
   a descriptor that listens already.
 - C{Port._type}: what C{listenSSL} has a port call itself in the log.
"""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from errno import EAGAIN, ENOBUFS
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import ConnectionDone, UnsupportedAddressFamily
from twisted.internet.interfaces import (
    IHalfCloseableDescriptor,
    IReactorFDSet,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorUNIX,
    IReadDescriptor,
)
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import alsoProvides, implementer, providedBy

_log = Logger()

EVENTS_PER_PASS = 256
"""Descriptors served before timers and the reactor's own have their turn."""

SMALLEST_READ = 4096
LARGEST_READ = 1 << 18
"""Bytes asked for at a time. A read that comes back full asks for more the next
time, and one that comes back nearly empty for less."""

# Of the epoll module's flags; numbers of our own, for it is not everywhere.
_IN = 0x001
_OUT = 0x004
_GONE = 0x008 | 0x010  # EPOLLERR, EPOLLHUP


class _Connection(tcp.Connection):
    """
    A TCP transport of the lane: it sends in C{write} what the kernel takes.

    @ivar _readSize: bytes to ask for.
    @ivar _broken: whether a send has failed. The kernel tells of an error once;
        whoever calls next has to be told that the connection is lost, not done.
    @ivar _atOnce: bytes sent since the lane called last, while there was a
        producer. One that writes until it is paused has to be paused, however
        fast the kernel is.
    """

    _readSize = SMALLEST_READ
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
        received = len(data)
        if received == size:
            if size < LARGEST_READ:
                self._readSize = size * 4
        elif not received:
            return CONNECTION_LOST if self._broken else CONNECTION_DONE
        elif received * 8 < size > SMALLEST_READ:
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
        if (
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
            or data.__class__ is not bytes
            or self._atOnce > self.bufferSize
        ):
            super().write(data)
            return
        try:
            sent = self.socket.send(data)
        except OSError as error:
            self._broken = error.errno not in {EAGAIN, ENOBUFS}
            sent = 0
        if self.producer is not None:
            self._atOnce += sent
        if sent != len(data):
            self.dataBuffer = data
            self.offset = sent
            self._maybePauseProducer()
            self.startWriting()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """See L{IConsumer<twisted.internet.interfaces.IConsumer>}."""
        super().registerProducer(producer, streaming)
        if streaming or self.TLS or not self.connected:
            return
        if not (self._writeDisconnecting or self._writeDisconnected):
            # Twisted asks a pull producer for more when the queue is empty; what
            # went out at once has left no queue to become so.
            self.startWriting()


class _TCPServer(_Connection, tcp.Server):
    pass


class _TCPClient(_Connection, tcp.Client):
    pass


class _TCPPort(tcp.Port):
    transport = _TCPServer


class _TCPConnector(tcp.Connector):
    def _makeTransport(self) -> _TCPClient:
        return _TCPClient(self.host, self.port, self.bindAddress, self, self.reactor)


@implementer(
    IReactorFDSet,
    IReactorTCP,
    IReactorUNIX,
    IReactorSSL,
    IReactorSocket,
    IReadDescriptor,
)
class ExpressReactor:
    """
    A reactor whose stream connections take the fast lane; all else is done by
    the reactor behind it, which is the one to run.

    Where there is no epoll, C{ExpressReactor(reactor)} is that reactor.
    """

    def __new__(cls, reactor: Any) -> Any:
        if hasattr(select, "epoll"):
            return super().__new__(cls)
        _log.info("no epoll here: connections take the reactor's own way")
        return reactor

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: any reactor that can watch a descriptor
            (L{IReactorFDSet}).
        """
        self._reactor = reactor
        alsoProvides(self, providedBy(reactor))
        # While nothing is watched, the reactor behind has nothing of the lane.
        self._poller: Any = None
        self._watched: dict[int, Any] = {}
        self._interests: dict[int, int] = {}
        # Of this pass: what it still has an event for may be another
        # connection's by now.
        self._removed: set[int] = set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # What the reactor behind sees: one descriptor to read from.

    def fileno(self) -> int:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        return -1 if self._poller is None else int(self._poller.fileno())

    def logPrefix(self) -> str:
        """See L{ILoggingContext<twisted.internet.interfaces.ILoggingContext>}."""
        return "express"

    def doRead(self) -> None:
        """Serve what is ready, up to L{EVENTS_PER_PASS} descriptors."""
        watched = self._watched
        removed = self._removed
        removed.clear()
        for descriptor, event in self._poller.poll(0, EVENTS_PER_PASS):
            if descriptor in removed:
                continue
            selectable = watched.get(descriptor)
            if selectable is None:
                continue
            why: BaseException | None = None
            reading = False
            try:
                if event & _IN:
                    why = selectable.doRead()
                    reading = True
                elif event & _GONE:
                    # As Twisted's own: a reader that is left nothing to read is done.
                    reading = bool(self._interests[descriptor] & _IN)
                    why = CONNECTION_DONE if reading else CONNECTION_LOST
                if event & _OUT and not why and descriptor not in removed:
                    reading = False
                    why = selectable.doWrite()
            except BaseException as error:
                _log.failure("while serving {selectable!r}", selectable=selectable)
                why = error
            if why:
                self._disconnect(selectable, why, reading)

    def _disconnect(self, selectable: Any, why: BaseException, reading: bool) -> None:
        half = (
            reading
            and isinstance(why, ConnectionDone)
            and IHalfCloseableDescriptor.providedBy(selectable)
        )
        try:
            self.removeReader(selectable)
            if not half:
                self.removeWriter(selectable)
        except BaseException:
            # Somebody has closed its descriptor: there is no more to be done with it.
            _log.failure("while disconnecting {selectable!r}", selectable=selectable)
            self._dropWhole(selectable)
            half = False
        lost = selectable.readConnectionLost if half else selectable.connectionLost
        self._tell(selectable, lost, Failure(why))

    def _tell(self, selectable: Any, lost: Callable[[Failure], None], reason: Failure) -> None:
        # What escaped from here would make the reactor behind drop the lane.
        try:
            lost(reason)
        except BaseException:
            _log.failure("while disconnecting {selectable!r}", selectable=selectable)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor behind has stopped: every connection of the lane is lost."""
        for selectable in self._forget():
            self._tell(selectable, selectable.connectionLost, reason)

    # IReactorFDSet

    def _add(self, selectable: Any, interest: int) -> None:
        descriptor = selectable.fileno()
        known = self._interests.get(descriptor)
        if known is None:
            if self._poller is None:
                self._poller = select.epoll()
            # Each time, for somebody may have removed all that it watches.
            self._reactor.addReader(self)
            try:
                self._poller.register(descriptor, interest)
            except OSError:
                # What epoll cannot watch, a file or nothing at all.
                self._restIfIdle()
                raise
            self._watched[descriptor] = selectable
            self._interests[descriptor] = interest
        elif not known & interest:
            self._poller.modify(descriptor, known | interest)
            self._interests[descriptor] = known | interest

    def _remove(self, selectable: Any, interest: int) -> None:
        descriptor = selectable.fileno()
        if self._watched.get(descriptor) is not selectable:
            if descriptor == -1:
                self._dropWhole(selectable)
            return
        left = self._interests[descriptor] & ~interest
        if left == self._interests[descriptor]:
            return
        if left:
            self._poller.modify(descriptor, left)
            self._interests[descriptor] = left
        else:
            self._drop(descriptor)

    def _dropWhole(self, selectable: Any) -> None:
        """Drop what does not know its descriptor any more."""
        for descriptor in [fd for fd, each in self._watched.items() if each is selectable]:
            self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        del self._watched[descriptor], self._interests[descriptor]
        self._removed.add(descriptor)
        # Closed behind the lane's back, the kernel has forgotten it already.
        with suppress(OSError):
            self._poller.unregister(descriptor)
        self._restIfIdle()

    def _restIfIdle(self) -> None:
        if not self._watched and self._poller is not None:
            self._reactor.removeReader(self)
            self._poller.close()
            self._poller = None

    def _forget(self) -> list[Any]:
        watched = list(self._watched.values())
        for descriptor in list(self._watched):
            self._drop(descriptor)
        return watched

    def _with(self, interest: int) -> list[Any]:
        return [
            selectable
            for descriptor, selectable in self._watched.items()
            if self._interests[descriptor] & interest
        ]

    def addReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""
        self._add(reader, _IN)

    def addWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet}."""
        self._add(writer, _OUT)

    def removeReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""
        self._remove(reader, _IN)

    def removeWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet}."""
        self._remove(writer, _OUT)

    def removeAll(self) -> list[Any]:
        """See L{IReactorFDSet}."""
        return [*self._forget(), *self._reactor.removeAll()]

    def getReaders(self) -> list[Any]:
        """See L{IReactorFDSet}."""
        return [*self._with(_IN), *self._reactor.getReaders()]

    def getWriters(self) -> list[Any]:
        """See L{IReactorFDSet}."""
        return [*self._with(_OUT), *self._reactor.getWriters()]

    # IReactorTCP, IReactorSSL, IReactorUNIX, IReactorSocket

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """See L{IReactorTCP}."""
        listening = _TCPPort(port, factory, backlog, interface, self)
        listening.startListening()
        return listening

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> tcp.Connector:
        """See L{IReactorTCP}."""
        connector = _TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def listenSSL(
        self,
        port: Any,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> tcp.Port:
        """See L{IReactorSSL}."""
        wrapping = TLSMemoryBIOFactory(contextFactory, False, factory)
        listening = self.listenTCP(port, wrapping, backlog, interface)
        listening._type = "TLS"
        return listening

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: Any,
        contextFactory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> tcp.Connector:
        """See L{IReactorSSL}."""
        wrapping = TLSMemoryBIOFactory(contextFactory, True, factory)
        return self.connectTCP(host, port, wrapping, timeout, bindAddress)

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> unix.Port:
        """See L{IReactorUNIX}."""
        listening = unix.Port(address, factory, backlog, mode, self, wantPID)
        listening.startListening()
        return listening

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30.0, checkPID: bool = False
    ) -> unix.Connector:
        """See L{IReactorUNIX}."""
        connector = unix.Connector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> tcp.Port | unix.Port:
        """See L{IReactorSocket}."""
        listening: tcp.Port | unix.Port
        if addressFamily == socket.AF_UNIX:
            listening = unix.Port._fromListeningDescriptor(self, fileDescriptor, factory)
        elif addressFamily in {socket.AF_INET, socket.AF_INET6}:
            listening = _TCPPort._fromListeningDescriptor(
                self, fileDescriptor, addressFamily, factory
            )
        else:
            raise UnsupportedAddressFamily(addressFamily)
        listening.startListening()
        return listening


_lanes: dict[Any, Any] = {}


def laneOf(reactor: Any) -> Any:
    """Return the L{ExpressReactor} that all of a process's endpoints share."""
    if isinstance(reactor, ExpressReactor):
        return reactor
    lane = _lanes.get(reactor)
    if lane is None:
        lane = _lanes[reactor] = ExpressReactor(reactor)
    return lane
