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

What is touched of Twisted that is not public, besides what the lane's transports
(L{echofactory.transports}) list, each with its reason:

 - C{Port._fromListeningDescriptor}, of C{tcp} and C{unix}: how a port is made of
   a descriptor that listens already.
 - C{Port._type}: what C{listenSSL} has a port call itself in the log.
"""

import select
import socket
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorUNIX,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import alsoProvides, implementer, providedBy

from echofactory.lane import IN, OUT, Lane
from echofactory.transports import TCPConnector, TCPPort

_log = Logger()


@implementer(
    IReactorFDSet,
    IReactorTCP,
    IReactorUNIX,
    IReactorSSL,
    IReactorSocket,
)
class ExpressReactor:
    """
    A reactor whose stream connections take the fast lane; all else is done by
    the reactor behind it, which is the one to run.

    Where there is no epoll, C{ExpressReactor(reactor)} is that reactor.

    @ivar lane: what watches the connections.
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
        self.lane = Lane(reactor)
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    # IReactorFDSet

    def addReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""
        self.lane.add(reader, IN)

    def addWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet}."""
        self.lane.add(writer, OUT)

    def removeReader(self, reader: Any) -> None:
        """See L{IReactorFDSet}."""
        self.lane.remove(reader, IN)

    def removeWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet}."""
        self.lane.remove(writer, OUT)

    def removeAll(self) -> list[Any]:
        """See L{IReactorFDSet}."""
        return [*self.lane.forget(), *self._reactor.removeAll()]

    def getReaders(self) -> list[Any]:
        """See L{IReactorFDSet}."""
        return [*self.lane.having(IN), *self._reactor.getReaders()]

    def getWriters(self) -> list[Any]:
        """See L{IReactorFDSet}."""
        return [*self.lane.having(OUT), *self._reactor.getWriters()]

    # IReactorTCP, IReactorSSL, IReactorUNIX, IReactorSocket

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """See L{IReactorTCP}."""
        listening = TCPPort(port, factory, backlog, interface, self)
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
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
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
            listening = TCPPort._fromListeningDescriptor(
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


def reactorBehind(reactor: Any) -> Any:
    """Return the reactor behind the lane, for what the lane does not carry."""
    return reactor._reactor if isinstance(reactor, ExpressReactor) else reactor
