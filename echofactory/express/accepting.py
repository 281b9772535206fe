"""
What listening ports of TCP and of UNIX sockets have in common
(L{echofactory.express.ports}).

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from errno import ECONNABORTED, EINVAL, EMFILE, ENFILE, EPERM
from typing import Any

from twisted.internet import tcp
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.main import CONNECTION_DONE
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Interface

from echofactory.express.addresstext import addressText
from echofactory.express.listening import providing
from echofactory.express.sharedport import SharedPort
from echofactory.express.summarylog import SummaryLog

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


class AcceptingPort(tcp.Port):
    """The common part of TCP and UNIX ports."""

    reactor: Any
    # Closed for a moment if no other descriptor is left.
    _spare: int | None = None
    _summary: SummaryLog
    # Fire when the port is closed. Empty: nobody has asked to close it.
    _stops: tuple[Deferred[None], ...] = ()
    # Set if processes share the port.
    _shared: SharedPort | None = None

    def startListening(self) -> None:
        """See L{tcp.Port}."""
        super().startListening()
        self._summary = SummaryLog(self.reactor, self._tell)
        self._holdSpare()

    def connectionLost(self, reason: Failure) -> None:
        """See L{tcp.Port}."""
        super().connectionLost(reason)
        if self._shared is not None:
            self._shared.close()
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

    def _shedOne(self, listening: socket.socket) -> bool:
        """
        Close the connection that has waited longest. Otherwise it would wake the reactor
        again and again.

        @return: whether there was a connection.
        """
        self._giveSpare()
        try:
            accepted, address = listening.accept()
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
        self.acceptSome(self.socket)

    def acceptSome(self, listening: socket.socket) -> bool:
        """
        Accept up to L{ACCEPTS_PER_PASS} connections.

        @param listening: the port's socket, or another process's socket of the same port.
        @return: whether more connections may wait.
        """
        shared = self._shared
        for _ in range(ACCEPTS_PER_PASS):
            if shared is not None and not shared.gate.mayAccept():
                return False
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                return False
            except OSError as error:
                if self._mayGoOn(error, listening):
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

    def _queues(self) -> Sequence[socket.socket]:
        """Return the sockets that this process accepts from."""
        return [self.socket] if self._shared is None else self._shared.queues()

    def _acceptFromAll(self) -> bool:
        """
        @return: whether more connections may wait.
        """
        return any([self.acceptSome(listening) for listening in self._queues()])

    def _letNobodyIn(self) -> None:
        """Make the kernel accept no further connection."""
        raise NotImplementedError

    def _takeTheRest(self, connDone: Failure, passes: int) -> None:
        """Accept the waiting connections, in at most C{passes} passes, and close the socket."""
        if self.connected and passes and self._acceptFromAll():
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

    def _mayGoOn(self, error: OSError, listening: socket.socket) -> bool:
        """Handle an error of C{accept}, and return whether to call it again."""
        if error.errno in (EMFILE, ENFILE):
            if self._shared is not None:
                self._shared.gate.filled()
                if not self._shared.gate.mayAccept():
                    # The connection is still in the queue.
                    return False
            return self._shedOne(listening)
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
