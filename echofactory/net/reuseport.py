"""
One TCP port for several processes (C{SO_REUSEPORT}, socket(7) of Linux). Each process listens
on a socket of its own. The kernel distributes the connections over the sockets.
"""

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import makeBinding
from zope.interface import implementer

from echofactory.express.sharedport import SharedPort
from echofactory.express.wrapper import ReactorWrapper


class ReusePortReactor(ReactorWrapper):
    """
    A reactor whose TCP ports other processes can share. The processes must belong to the same
    user, and all of them must set C{SO_REUSEPORT}. All other calls go to the reactor behind
    it.
    """

    def __init__(self, reactor: Any, shared: SharedPort | None = None) -> None:
        """
        @param reactor: the reactor that listens. With C{shared}, a
            L{PortsReactor<echofactory.express.ports.PortsReactor>}.
        @param shared: listen on its sockets; C{None}: listen on a new socket of the address
            that the caller names.
        """
        super().__init__(reactor)
        self._shared = shared

    def _binding(self, port: int, interface: str) -> Any:
        if self._shared is not None:
            return self._shared
        return makeBinding(interface, port, reuseAddress=True, reusePort=True)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        binding = self._binding(port, interface)
        listening: IListeningPort = self._reactor.listenTCP(
            binding, factory, backlog, interface
        )
        return listening

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        binding = self._binding(port, interface)
        listening: IListeningPort = self._reactor.listenSSL(
            binding, factory, contextFactory, backlog, interface
        )
        return listening


@implementer(IListeningPort)
class ReservedPort:
    """
    A port that is bound, but on which this process does not listen.

    @ivar sockets: bound to the same address; other processes can listen on them.
    """

    def __init__(self, port: int, interface: str, count: int) -> None:
        """
        @param count: number of sockets.
        @raise CannotListenError: if the port cannot be bound.
        """
        ipv6 = ":" in interface
        self._type = IPv6Address if ipv6 else IPv4Address
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        self.sockets: list[socket.socket] = []
        self._socket = socket.socket(family)
        try:
            try:
                # Without SO_REUSEADDR. If it were set, another server that sets it could
                # bind the port while no worker listens. Every server sets it.
                self._socket.bind((interface, port))
            except OSError:
                # Closed connections of an earlier server may still be in TIME_WAIT.
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._socket.bind((interface, port))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            # Only after bind. Otherwise a second server with workers would share the port
            # of the first, without an error.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            for _ in range(count):
                sharing = socket.socket(family)
                self.sockets.append(sharing)
                sharing.setblocking(False)
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sharing.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sharing.bind(self._socket.getsockname())
        except OSError as error:
            self.closeSockets()
            self._socket.close()
            raise CannotListenError(interface, port, error) from error

    def startListening(self) -> None:
        """Do nothing: the worker processes listen."""

    def stopListening(self) -> Deferred[None]:
        """Close all sockets, which releases the port."""
        self.closeSockets()
        self._socket.close()
        return succeed(None)

    def closeSockets(self) -> None:
        """Close C{sockets}. The port stays reserved."""
        while self.sockets:
            self.sockets.pop().close()

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address, with the port that the system has chosen."""
        return self._type("TCP", *self._socket.getsockname()[:2])


class ReservingReactor:
    """
    Reserves TCP ports for processes that share them. Even while none of them listens, only
    processes of the same user that set C{SO_REUSEPORT} can bind a reserved port.
    """

    def __init__(self, count: int) -> None:
        """
        @param count: number of processes that share each port.
        """
        self._count = count

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}.

        @raise CannotListenError: if the port cannot be bound.
        """
        return ReservedPort(port, interface, self._count)

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        return ReservedPort(port, interface, self._count)
