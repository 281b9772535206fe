"""
Listening ports of TCP and UNIX sockets. They are Twisted's, but they keep three more
rules:

 - If no descriptor is left, the connection that waits longest is closed. The factory
   counts each of them (L{ICountsRefusals}).
 - What a stranger can cause costs at most one line of the log a second.
 - The address of a UNIX peer is any name.

What is touched of Twisted that is not public, each with its reason:

 - C{Port._buildAddr}: the address that a protocol gets of an accepted connection.
 - C{Port._fromListeningDescriptor}, of C{tcp} and C{unix}: how a port is made of
   a descriptor that listens already.
 - C{Port._type}: what C{listenSSL} has a port call itself in the log.
"""

import os
import socket
from contextlib import suppress
from errno import ECONNABORTED, EMFILE, ENFILE, EPERM
from typing import Any, ClassVar

from twisted.internet import tcp, unix
from twisted.internet.error import UnsupportedAddressFamily
from twisted.internet.interfaces import IAddress
from twisted.internet.posixbase import PosixReactorBase
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import Interface, alsoProvides, providedBy

from echofactory.summary import Summary
from echofactory.unixtransports import UNIXServer

_log = Logger()

ACCEPTS_PER_PASS = 100
"""Connections accepted before others have their turn."""


class ICountsRefusals(Interface):
    """A factory that counts the connections that are closed unserved, and logs them."""

    def refuse(why: str, addr: IAddress | None) -> object:
        """Count a connection that is not to be served."""


def _counting(factory: Any) -> Any:
    """Return the factory that counts refusals; TLS and haproxy: wrap it."""
    while factory is not None and not ICountsRefusals.providedBy(factory):
        factory = getattr(factory, "wrappedFactory", None)
    return factory


class _AcceptingPort(tcp.Port):
    """What both kinds of ports have in common."""

    # Given up for a moment when there is no other descriptor left.
    _spare: int | None = None
    _summary: Summary

    def startListening(self) -> None:
        """See L{tcp.Port}."""
        super().startListening()
        clock: Any = self.reactor
        self._summary = Summary(clock, self._tell)
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
        # A thread may have taken it meanwhile; there will be one again.
        with suppress(OSError):
            self._spare = os.open(os.devnull, os.O_RDONLY)

    def _giveSpare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _shedOne(self) -> bool:
        """
        Close the connection that waits longest. If it stayed in the queue, it would wake
        the reactor without end.

        @return: whether there was one.
        """
        self._giveSpare()
        try:
            accepted, address = self.socket.accept()
            accepted.close()
        except OSError:
            return False
        finally:
            self._holdSpare()
        counting = _counting(self.factory)
        if counting is None:
            self._summary.note("no descriptor was left", lambda: repr(address))
        else:
            counting.refuse("descriptors", self._addressOf(address))
        return True

    def doRead(self) -> None:
        """Accept what waits, up to L{ACCEPTS_PER_PASS} connections."""
        for _ in range(ACCEPTS_PER_PASS):
            try:
                accepted, address = self.socket.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if self._mayGoOn(error):
                    continue
                return
            try:
                self._serve(accepted, address)
            except BaseException:
                _log.failure("while accepting from {address}", address=address)
                return

    def _mayGoOn(self, error: OSError) -> bool:
        """Do what can be done about a connection that was not accepted."""
        if error.errno in (EMFILE, ENFILE):
            return self._shedOne()
        if error.errno in (ECONNABORTED, EPERM):
            # The peer has left, or a firewall took the connection away.
            return True
        self._summary.note(os.strerror(error.errno or 0), lambda: "an unknown peer")
        return False

    def _addressOf(self, address: Any) -> IAddress:
        built: IAddress = self._buildAddr(address)
        return built

    def _serve(self, accepted: socket.socket, address: Any) -> None:
        assert self.factory is not None
        protocol = self.factory.buildProtocol(self._addressOf(address))
        if protocol is None:
            accepted.close()
            return
        number = self.sessionno
        self.sessionno = number + 1
        protocol.makeConnection(
            self.transport(accepted, protocol, address, self, number, self.reactor)
        )


class TCPPort(_AcceptingPort):
    """Accepts TCP connections."""

    def _serve(self, accepted: socket.socket, address: tuple[Any, ...]) -> None:
        if len(address) == 4 and address[3]:
            # The name of its scope belongs to an IPv6 address.
            flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
            address = (socket.getnameinfo(address, flags)[0], *address[1:])
        super()._serve(accepted, address)


class UNIXPort(_AcceptingPort, unix.Port):
    """Accepts connections of a UNIX socket."""

    transport = UNIXServer


class PortsReactor:
    """
    A reactor that listens with the ports of this module. All else is done by the reactor
    behind it.
    """

    tcpPort: ClassVar[type[TCPPort]] = TCPPort

    def __init__(self, reactor: Any) -> None:
        """
        @param reactor: any reactor that can watch a descriptor
            (L{IReactorFDSet<twisted.internet.interfaces.IReactorFDSet>}).
        """
        self._reactor = reactor
        self._watching = reactor
        alsoProvides(self, providedBy(reactor))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

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
    Twisted's own. Others, such as those for tests, make ports of their own.
    """
    return PortsReactor(reactor) if isinstance(reactor, PosixReactorBase) else reactor
