"""
One port for several processes (C{SO_REUSEPORT}, Linux's socket(7)): each listens on
a socket of its own, and the kernel deals the connections out among them.
"""

import socket
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import makeBinding
from zope.interface import alsoProvides, implementer, providedBy


class ReusePortReactor:
    """
    A reactor whose TCP ports others may listen on as well: processes of the same
    user, all of which have asked for it. Else it is the reactor behind it.
    """

    def __init__(self, reactor: Any, port: int | None = None) -> None:
        """
        @param reactor: what listens.
        @param port: listen on this one, whatever is asked for; C{None}: on what is
            asked for.
        """
        self._reactor = reactor
        self._port = port
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

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
    """A port that is bound and not listened on."""

    def __init__(self, port: int, interface: str) -> None:
        """
        @raise CannotListenError: if it cannot be bound.
        """
        ipv6 = ":" in interface
        self._type = IPv6Address if ipv6 else IPv4Address
        self._socket = socket.socket(socket.AF_INET6 if ipv6 else socket.AF_INET)
        try:
            try:
                # Without SO_REUSEADDR: with it, whoever sets that, as every server
                # does, could take the port while none of the workers listens.
                self._socket.bind((interface, port))
            except OSError:
                # Connections of a server that is gone may linger there (TIME_WAIT).
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                self._socket.bind((interface, port))
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
            # Not before it is bound, or a second server of workers would share the
            # port of the first without a word.
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        except OSError as error:
            self._socket.close()
            raise CannotListenError(interface, port, error) from error

    def startListening(self) -> None:
        """It is what others do."""

    def stopListening(self) -> Deferred[None]:
        """Give the port up."""
        self._socket.close()
        return succeed(None)

    def getHost(self) -> IPv4Address | IPv6Address:
        """Return the address; a port that the system chose is filled in."""
        return self._type("TCP", *self._socket.getsockname()[:2])


class ReservingReactor:
    """
    Keeps TCP ports that nobody has for those who will share them: nobody else can take
    one then, not even while none of them listens, but who asks to share it and is of
    the same user.
    """

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> IListeningPort:
        """
        See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}.

        @raise CannotListenError: if it cannot be bound.
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
