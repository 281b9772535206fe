"""
Listening ports of TCP and UNIX sockets. They are Twisted's ports, with these rules in
addition:

 - When a port stops, it serves the connections that the kernel has accepted already.
   Otherwise the kernel would reset them. If another process made the socket, they stay in the
   queue for the next process that listens.
 - If no descriptor is left, the port closes the connection that has waited longest. The
   factory counts it (L{ICountsRefusals<echofactory.express.accepting.ICountsRefusals>}).
 - If processes share the port and another one has room, it takes that connection
   (L{echofactory.express.sharedport}).
 - Events that a stranger can cause make at most one log line a second.
 - A UNIX peer can have any address.
 - If another process has bound a UNIX socket, its file, its mode and its queue stay as they
   are.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

import socket
from contextlib import suppress
from typing import Any, ClassVar

from twisted.internet import tcp, unix
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.posixbase import PosixReactorBase
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import log
from twisted.python.failure import Failure

from echofactory.express.accepting import AcceptingPort
from echofactory.express.listening import listeningSocket, prepare
from echofactory.express.sharedport import SharedPort
from echofactory.express.socketfilter import NO_SYN, attachFilter
from echofactory.express.unixtransports import UNIXServer
from echofactory.express.wrapper import ReactorWrapper


class TCPPort(AcceptingPort):
    """
    Accepts TCP connections.

    @ivar prepared: whether the factory has set the options of the connections on the listening
        socket (L{IPreparesListening<echofactory.express.listening.IPreparesListening>}).
    """

    prepared = False

    def createInternetSocket(self) -> socket.socket:
        """See L{tcp.Port}. It is not called if another process made the socket."""
        listening = listeningSocket(super().createInternetSocket())
        self.prepared = prepare(listening, self.factory)
        return listening

    def _serve(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        if len(address) == 4 and address[3]:
            # A link-local address includes the name of its scope.
            flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
            address = (socket.getnameinfo(address, flags)[0], *address[1:])
        super()._serve(accepted, address)

    def share(self, shared: SharedPort) -> None:
        """Listen on this process's socket of a port that processes share."""
        own = listeningSocket(shared.ownSocket)
        self.prepared = prepare(own, self.factory)
        own.listen(self.backlog)
        self._preexistingSocket = own
        self.startListening()
        # Twisted leaves the queue of a socket that another process has made.
        self._shouldShutdown = True
        self._shared = shared
        shared.begin(self)

    def _letNobodyIn(self) -> None:
        # A client whose SYN is dropped retransmits it after a second. If another process
        # listens by then, it serves the client. Otherwise the client is refused.
        for listening in self._queues():
            with suppress(OSError):
                attachFilter(listening, NO_SYN)


class _UNIXPort(unix.Port):
    """A UNIX port that leaves an adopted socket's file and mode as they are."""

    _adopted = False

    def startListening(self) -> None:
        """See L{unix.Port}."""
        adopted, self._preexistingSocket = self._preexistingSocket, None
        if adopted is None:
            super().startListening()
            return
        self._adopted = True
        self._shouldShutdown = False
        assert self.factory is not None
        name = adopted.getsockname()
        log.msg(f"{self._getLogPrefix(self.factory)} starting on {name!r}")
        self.factory.doStart()
        self.socket = adopted
        self.fileno: Any = adopted.fileno
        self.connected = True
        self.startReading()

    def connectionLost(self, reason: Failure) -> None:
        """See L{unix.Port}."""
        if self._adopted:
            tcp.Port.connectionLost(self, reason)
            return
        try:
            super().connectionLost(reason)
        except FileNotFoundError:
            # The file was removed. Twisted raises an error, and does not close the rest.
            if self.lockFile is not None:
                self.lockFile.unlock()
            tcp.Port.connectionLost(self, reason)


class UNIXPort(AcceptingPort, _UNIXPort):
    """Accepts connections of a UNIX socket."""

    transport = UNIXServer

    def _letNobodyIn(self) -> None:
        # accept still returns the connections that are in the queue.
        self.socket.shutdown(socket.SHUT_RD)


class PortsReactor(ReactorWrapper):
    """
    A reactor that listens with the ports of this module. All other calls go to the reactor
    behind it.
    """

    tcpPort: ClassVar[type[TCPPort]] = TCPPort

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: any reactor that can watch a descriptor
            (L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}).
        """
        super().__init__(reactor)
        self._watching = reactor

    def listenTCP(
        self, port: Any, factory: Any, backlog: int = 50, interface: str = ""
    ) -> tcp.Port:
        """
        See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}.

        @param port: may also be a L{SharedPort}.
        """
        shared = port if isinstance(port, SharedPort) else None
        number = port if shared is None else shared.number
        listening = self.tcpPort(number, factory, backlog, interface, self._watching)
        if shared is None:
            listening.startListening()
        else:
            listening.share(shared)
        return listening

    def listenSSL(
        self,
        port: Any,
        factory: Any,
        contextFactory: Any,
        backlog: int = 50,
        interface: str = "",
    ) -> tcp.Port:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        wrapping = TLSMemoryBIOFactory(contextFactory, False, factory)
        listening = self.listenTCP(port, wrapping, backlog, interface)
        listening._type = "TLS"
        return listening

    def listenUNIX(
        self,
        address: Any,
        factory: Any,
        backlog: int = 50,
        mode: int = 0o666,
        wantPID: bool = False,
    ) -> unix.Port:
        """See L{IReactorUNIX<twisted.internet.interfaces.IReactorUNIX>}."""
        listening = UNIXPort(address, factory, backlog, mode, self._watching, wantPID)
        listening.startListening()
        return listening

    def adoptStreamPort(
        self, fileDescriptor: int, addressFamily: int, factory: Any
    ) -> tcp.Port | unix.Port:
        """See L{IReactorSocket<twisted.internet.interfaces.IReactorSocket>}."""
        listening: tcp.Port | unix.Port
        if addressFamily == socket.AF_UNIX:
            listening = UNIXPort._fromListeningDescriptor(
                self._watching, fileDescriptor, factory
            )
        elif addressFamily in {socket.AF_INET, socket.AF_INET6}:
            listening = self.tcpPort._fromListeningDescriptor(
                self._watching, fileDescriptor, addressFamily, factory
            )
        else:
            raise UnsupportedAddressFamily(addressFamily)
        listening.startListening()
        return listening


def withPorts(reactor: Any) -> Any:
    """
    Return a reactor that listens with the ports of this module, if the reactor is one of
    Twisted's. Other reactors, such as those for tests, are returned unchanged. So is a reactor
    that has these ports already (C{hasPorts}).
    """
    if not isinstance(reactor, PosixReactorBase) or getattr(reactor, "hasPorts", False):
        return reactor
    return PortsReactor(reactor)
