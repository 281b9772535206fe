"""
Listening ports of TCP and UNIX sockets. They are Twisted's ports, with these rules in
addition:

 - When a port stops, it serves the connections that the kernel has accepted already.
   Otherwise the kernel would reset them. If another process made the socket, they stay in the
   queue for the next process that listens.
 - If no descriptor is left, the port closes the connection that has waited longest. The
   factory counts it (L{ICountsRefusals}).
 - Events that a stranger can cause make at most one log line a second.
 - A UNIX peer can have any address.
 - If another process has bound a UNIX socket, its file, its mode and its queue stay as they
   are.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

import os
import socket
from contextlib import suppress
from errno import ECONNABORTED, EINVAL, EMFILE, ENFILE, EPERM
from typing import Any, ClassVar

from twisted.internet import tcp, unix
from twisted.internet.defer import Deferred
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IAddress
from twisted.internet.main import CONNECTION_DONE
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python import log
from twisted.python.failure import Failure
from zope.interface import Interface

from echofactory.express.addresstext import addressText
from echofactory.express.listening import listeningSocket, prepare, providing
from echofactory.express.socketfilter import NO_SYN, attachFilter
from echofactory.express.summarylog import SummaryLog
from echofactory.express.unixtransports import UNIXServer
from echofactory.express.wrapper import ReactorWrapper

_log = Logger()

_CLOSED = Failure(CONNECTION_DONE)

ACCEPTS_PER_PASS = 100
"""Connections that a port accepts in a pass of the reactor."""


class ICountsRefusals(Interface):
    """A factory that counts and logs the connections that a port closes unserved."""

    def refuse(why: str, addr: IAddress | None) -> object:
        """
        Count a connection that the port closes.

        @param why: the reason, C{"descriptors"}.
        @param addr: the peer's address.
        """


class _AcceptingPort(tcp.Port):
    """The common part of TCP and UNIX ports."""

    reactor: Any
    # Closed for a moment if no other descriptor is left.
    _spare: int | None = None
    _summary: SummaryLog
    # Fire when the port is closed. Empty: nobody has asked to close it.
    _stops: tuple[Deferred[None], ...] = ()

    def startListening(self) -> None:
        """See L{tcp.Port}."""
        super().startListening()
        self._summary = SummaryLog(self.reactor, self._tell)
        self._holdSpare()

    def connectionLost(self, reason: Failure) -> None:
        """See L{tcp.Port}."""
        super().connectionLost(reason)
        self._giveSpare()
        self._summary.close()

    def _tell(self, counts: dict[str, int], first: str) -> None:
        _log.warn(
            "connections not served: {why}; the first from {first}",
            why=", ".join(f"{count} ({why})" for why, count in counts.items()),
            first=first,
        )

    def _holdSpare(self) -> None:
        # A thread may have taken the descriptor. A later call tries again.
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _giveSpare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _shedOne(self) -> bool:
        """
        Close the connection that has waited longest. Otherwise it would wake the reactor
        again and again.

        @return: whether there was a connection.
        """
        self._giveSpare()
        try:
            accepted, address = self.socket.accept()
            accepted.close()
        except OSError:
            return False
        finally:
            self._holdSpare()
        counting = providing(self.factory, ICountsRefusals)
        if counting is None:
            self._summary.note(
                "no descriptor was left", lambda: addressText(self._addressOf(address))
            )
        else:
            counting.refuse("descriptors", self._addressOf(address))
        return True

    def doRead(self) -> None:
        """Accept up to L{ACCEPTS_PER_PASS} connections."""
        self._acceptSome()

    def _acceptSome(self) -> bool:
        """
        @return: whether more connections may wait.
        """
        for _ in range(ACCEPTS_PER_PASS):
            try:
                accepted, address = self.socket.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if self._mayGoOn(error):
                    continue
                return False
            try:
                self._serve(accepted, address)
            except BaseException:
                _log.failure(
                    "while accepting from {address}",
                    address=addressText(self._addressOf(address)),
                )
                break
        return True

    def loseConnection(self, connDone: Failure = _CLOSED) -> Deferred[None] | None:
        """
        Stop listening.

        @return: fires when the connections that the kernel has accepted are served, and the
            socket is closed; C{None}: the port did not listen.
        """
        self.disconnecting = True
        self.stopReading()
        if not self.connected:
            return None
        stopped: Deferred[None] = Deferred()
        self._stops += (stopped,)
        if len(self._stops) == 1:
            passes = 0
            if self._shouldShutdown:
                self._letNobodyIn()
                # If the kernel accepts further connections, the queue may never be empty.
                passes = self.backlog // ACCEPTS_PER_PASS + 2
            self.reactor.callLater(0, self._takeTheRest, connDone, passes)
        return stopped

    stopListening = loseConnection

    def _letNobodyIn(self) -> None:
        """Make the kernel accept no further connection."""
        raise NotImplementedError

    def _takeTheRest(self, connDone: Failure, passes: int) -> None:
        """Accept the waiting connections, in at most C{passes} passes, and close the socket."""
        if self.connected and passes and self._acceptSome():
            self.reactor.callLater(0, self._takeTheRest, connDone, passes - 1)
            return
        failure = None
        try:
            # If the reactor has stopped meanwhile, the port is closed already.
            if self.connected:
                self.connectionLost(connDone)
        except BaseException:
            failure = Failure()
        stops, self._stops = self._stops, ()
        for stopped in stops:
            stopped.callback(failure)

    def _mayGoOn(self, error: OSError) -> bool:
        """Handle an error of C{accept}, and return whether to call it again."""
        if error.errno in (EMFILE, ENFILE):
            return self._shedOne()
        if error.errno in (ECONNABORTED, EPERM):
            # The peer has left, or a firewall took the connection away.
            return True
        if self.disconnecting and error.errno == EINVAL:
            # The UNIX socket is shut down, and no connection is left.
            return False
        self._summary.note(os.strerror(error.errno or 0), lambda: "an unknown peer")
        return False

    def _addressOf(self, address: Any) -> IAddress:
        built: IAddress = self._buildAddr(address)
        return built

    def _build(self, address: IAddress) -> Any:
        """Return the protocol for a connection; C{None}: it is refused."""
        assert self.factory is not None
        return self.factory.buildProtocol(address)

    def _serve(self, accepted: socket.socket, address: Any) -> None:
        try:
            protocol = self._build(self._addressOf(address))
        except BaseException:
            accepted.close()
            raise
        if protocol is None:
            accepted.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        protocol.makeConnection(
            self.transport(accepted, protocol, address, self, number, self.reactor)
        )


class TCPPort(_AcceptingPort):
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

    def _letNobodyIn(self) -> None:
        # A client whose SYN is dropped retransmits it after a second. If another process
        # listens by then, it serves the client. Otherwise the client is refused.
        with suppress(OSError):
            attachFilter(self.socket, NO_SYN)


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


class UNIXPort(_AcceptingPort, _UNIXPort):
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
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        listening = self.tcpPort(port, factory, backlog, interface, self._watching)
        listening.startListening()
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
    Twisted's. Other reactors, such as those for tests, are returned unchanged.
    """
    return PortsReactor(reactor) if isinstance(reactor, PosixReactorBase) else reactor
