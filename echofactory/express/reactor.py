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
"""

import select
from typing import Any

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


@implementer(
    IReactorFDSet,
    IReactorTCP,
    IReactorUNIX,
    IReactorSSL,
    IReactorSocket,
)
class ExpressReactor(PortsReactor):
    """
    A reactor whose stream connections take the fast lane; all else is done by
    the reactor behind it, which is the one to run.

    Where there is no epoll, C{ExpressReactor(reactor)} is that reactor.

    @ivar lane: what watches the connections.
    """

    tcpPort = LanePort

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
        super().__init__(reactor)
        self._watching = self
        self.lane = Lane(reactor)

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

    # IReactorTCP, IReactorSSL, IReactorUNIX; the listening half is PortsReactor's

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

    def connectUNIX(
        self, address: Any, factory: Any, timeout: float = 30.0, checkPID: bool = False
    ) -> unix.Connector:
        """See L{IReactorUNIX}."""
        connector = UNIXConnector(address, factory, timeout, self, checkPID)
        connector.connect()
        return connector


_lanes: dict[Any, Any] = {}


def laneOf(reactor: Any) -> Any:
    """Return the L{ExpressReactor} that all of a process's endpoints share."""
    if isinstance(reactor, ExpressReactor):
        return reactor
    reactor = reactorBehind(reactor)
    lane = _lanes.get(reactor)
    if lane is None:
        lane = _lanes[reactor] = ExpressReactor(reactor)
    return lane


def reactorBehind(reactor: Any) -> Any:
    """Return the reactor behind the lane, for what the lane does not carry."""
    return reactor._reactor if isinstance(reactor, PortsReactor) else reactor
