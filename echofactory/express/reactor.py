"""
A fast lane for stream connections, with any Twisted reactor.

Twisted spends most of the time of a small message on two things. It calls each ready
descriptor through C{log.callWithLogger}. And it queues each write until the reactor reports
that the socket is writable, which costs two C{epoll_ctl} calls.

The lane has an epoll instance of its own, which the reactor watches as one of its
descriptors. The lane calls its transports directly, and a transport sends immediately what
the kernel takes. In all other respects they are Twisted's transports: queues, producers,
half-close, TLS and the order of events are the same. The lane calls UNIX sockets directly too,
but they queue what they send, because a descriptor may have to go with the next bytes.

The log context differs: an event that a protocol logs does not have the C{system} of its
transport.
"""

import select
from typing import Any, TypeVar, cast

from twisted.internet import tcp, unix
from twisted.internet.interfaces import (
    IReactorFDSet,
    IReactorSocket,
    IReactorSSL,
    IReactorTCP,
    IReactorUNIX,
)
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from echofactory.express.lane import IN, OUT, Lane
from echofactory.express.ports import PortsReactor
from echofactory.express.transports import LanePort, TCPConnector
from echofactory.express.unixtransports import UNIXConnector

_log = Logger()

R = TypeVar("R")


@implementer(
    IReactorFDSet,
    IReactorTCP,
    IReactorUNIX,
    IReactorSSL,
    IReactorSocket,
)
class ExpressReactor(PortsReactor):
    """
    A reactor whose stream connections take the fast lane. All other calls go to the reactor
    behind it. Run that reactor, not this one.

    If the system does not have epoll, C{ExpressReactor(reactor)} returns C{reactor}.

    @ivar lane: watches the connections.
    """

    tcpPort = LanePort

    def __new__(cls, reactor: Any) -> Any:
        if hasattr(select, "epoll"):
            return super().__new__(cls)
        _log.info("the system does not have epoll: connections do not use the fast lane")
        return reactor

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: any reactor that can watch a descriptor (C{IReactorFDSet}).
        """
        super().__init__(reactor)
        self._watching = self
        self.lane = Lane(reactor)

    # IReactorFDSet

    def addReader(self, reader: Any) -> None:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        self.lane.add(reader, IN)

    def addWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        self.lane.add(writer, OUT)

    def removeReader(self, reader: Any) -> None:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        self.lane.remove(reader, IN)

    def removeWriter(self, writer: Any) -> None:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        self.lane.remove(writer, OUT)

    def removeAll(self) -> list[Any]:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        return [*self.lane.forget(), *self._reactor.removeAll()]

    def getReaders(self) -> list[Any]:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        return [*self.lane.having(IN), *self._reactor.getReaders()]

    def getWriters(self) -> list[Any]:
        """See L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}."""
        return [*self.lane.having(OUT), *self._reactor.getWriters()]

    # IReactorTCP, IReactorSSL, IReactorUNIX. PortsReactor has the methods that listen.

    def connectTCP(
        self,
        host: str,
        port: int,
        factory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> tcp.Connector:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        connector = TCPConnector(host, port, factory, timeout, bindAddress, self)
        connector.connect()
        return connector

    def connectSSL(
        self,
        host: str,
        port: int,
        factory: Any,
        contextFactory: Any,
        timeout: float = 30.0,
        bindAddress: Any = None,
    ) -> tcp.Connector:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        wrapping = TLSMemoryBIOFactory(contextFactory, True, factory)
        return self.connectTCP(host, port, wrapping, timeout, bindAddress)

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30.0, checkPID: bool = False
    ) -> unix.Connector:
        """See L{IReactorUNIX<twisted.internet.interfaces.IReactorUNIX>}."""
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector


_lanes: dict[Any, Any] = {}


def onExpress(reactor: R) -> R:
    """
    Return the L{ExpressReactor} over a reactor. There is one for all of a process. To a type
    checker it has the type of the reactor, because it does all that the reactor does.

    @param reactor: any reactor that can watch a descriptor (C{IReactorFDSet}).
    """
    if isinstance(reactor, ExpressReactor):
        return reactor
    behind = reactorBehind(reactor)
    lane = _lanes.get(behind)
    if lane is None:
        lane = _lanes[behind] = ExpressReactor(behind)
    return cast(R, lane)


def reactorBehind(reactor: Any) -> Any:
    """Return the reactor behind the lane, which does what the lane cannot, such as UDP."""
    return reactor._reactor if isinstance(reactor, PortsReactor) else reactor
