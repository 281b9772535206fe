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

from echofactory.express.wrapper import ReactorWrapper


class ReusePortReactor(ReactorWrapper):
    """
    A reactor whose TCP ports other processes can share. The processes must belong to the same
    user, and all of them must set C{SO_REUSEPORT}. All other calls go to the reactor behind
    it.
    """

    def __init__(self, reactor: Any, port: int | None = None) -> None:
        """
        @param reactor: the reactor that listens.
        @param port: listen on this port instead of the port that the caller names;
            C{None}: listen on the port that the caller names.
        """
        super().__init__(reactor)
        self._port = port

    def _binding(self, port: int, interface: str) -> Any:
        number = port if self._port is None else self._port
        return makeBinding(interface, number, reuseAddress=True, reusePort=True)

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
class _Reserved:
    """A port that is bound, but on which this process does not listen."""

    def __init__(self, port: int, interface: str) -> None:
        """
        @raise CannotListenError: if the port cannot be bound.
        """
        ipv6 = ":" in interface
        self._type = IPv6Address if ipv6 else IPv4Address
        self._socket = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
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
        except OSError as error:
            self._socket.close()
            raise CannotListenError(interface, port, error) from error

    def startListening(self) -> None:
        """Do nothing: the worker processes listen."""

    def stopListening(self) -> Deferred[None]:
        """Close the socket, which releases the port."""
        self._socket.close()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address, with the port that the system has chosen."""
        return self._type("TCP", *self._socket.getsockname()[:2])


class ReservingReactor:
    """
    Reserves TCP ports for processes that share them. Even while none of them listens, only
    processes of the same user that set C{SO_REUSEPORT} can bind a reserved port.
    """

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}.

        @raise CannotListenError: if the port cannot be bound.
        """
        return _Reserved(port, interface)

    def listenSSL(
        self,
        port: int,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> IListeningPort:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        return _Reserved(port, interface)
