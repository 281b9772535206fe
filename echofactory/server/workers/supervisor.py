"""
The supervisor of several worker processes that serve the same ports.

Each worker (L{echofactory.server.workers.child}) has a pipe in each direction
(L{echofactory.server.workers.channel}). A fork server starts them
(L{echofactory.net.forkserver}). If this process ends, the fork server and its workers end.

Twisted's C{ProcessMonitor} also restarts processes. But its stop cannot be waited for, its
children survive if it is killed, and they cannot report counts.
"""

import mmap
import os
from collections.abc import Sequence
from typing import cast

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echofactory.express.addresstext import addressText
from echofactory.net.endpoints import (
    EndpointError,
    ListenError,
    serverEndpoint,
    startListening,
    unwrapped,
)
from echofactory.net.forkserver import ForkServer
from echofactory.net.reuseport import ReservedPort, ReservingReactor
from echofactory.net.tlscontext import PEM_KIND
from echofactory.server.counts import Counts, PeerCounts, WorkerState, busiestPeers
from echofactory.server.settings import ServerSettings
from echofactory.server.workers.channel import SOCKETS, TABLE
from echofactory.server.workers.process import WorkerProcess
from echofactory.server.workers.room import FULL, NOT_YET, Looks, newTable
from echofactory.server.workers.worker import IWorkersReactor, Worker

_log = Logger()

_GRACE = 5.0
"""Seconds that a stop waits for workers after the drain, before it kills them."""

FUNCTION = "echofactory.server.workers.child:main"
"""What the process of a worker calls."""

_KINDS = ("tcp", "tcp6", "ssl", "tls", PEM_KIND)


def shareable(description: str) -> str:
    """
    Return the endpoint string without C{express:} and C{reuseport:}. Workers share ports
    anyway, and their settings choose the fast lane.

    @raise EndpointError: if processes cannot share the endpoint.
    """
    wrappers, inner = unwrapped(description)
    kind, _, rest = inner.partition(":")
    if kind.lower() == "reuseport":
        inner = f"tcp:{rest}"
    elif kind.lower() not in _KINDS:
        reason = ValueError("workers cannot share this endpoint, only TCP ports")
        raise EndpointError(description, reason)
    return "haproxy:" * wrappers.count("haproxy") + inner


class Workers(Service):
    """
    Serves the same ports with several worker processes. If a worker ends, it is restarted.
    If a worker sends nothing for 30 s, it is killed and restarted; a healthy worker sends
    its counts once a second.

    It is a L{CountsSource<echofactory.server.counts.CountsSource>}: its counts are the sums
    over the workers, at most a second old. A restart does not decrease them.

    @ivar reactor: talks to the processes, and is their clock.
    @ivar draining: see L{CountsSource<echofactory.server.counts.CountsSource>}.
    @ivar limits: see L{CountsSource<echofactory.server.counts.CountsSource>}.
    """

    def __init__(
        self,
        reactor: IWorkersReactor,
        endpoints: Sequence[str],
        settings: ServerSettings,
        count: int,
    ) -> None:
        """
        @param reactor: talks to the processes, and is their clock.
        @param endpoints: server endpoint strings.
        @param settings: the settings that all workers share.
        @param count: number of workers.
        @raise ValueError: if the connection limit is less than the number of workers.
        @raise EndpointError: if a string describes no endpoint, or an endpoint that
            processes cannot share.
        """
        self.reactor = reactor
        self.draining = False
        most = settings.limits.connections
        if most is not None and most < count:
            raise ValueError(
                f"limits: the connection limit, {most}, is less than the {count} workers"
            )
        self.limits = settings.limits
        self._settings = settings
        self._given = list(endpoints)
        self._texts = [shareable(text) for text in endpoints]
        reserving = ReservingReactor(count)
        self._reserving = [serverEndpoint(reserving, text) for text in self._texts]
        self._ports: list[ReservedPort] = []
        self._listeningLogged = False
        self._killing: IDelayedCall | None = None
        self._table: mmap.mmap | None = None
        self._tableDescriptor = -1
        self._forkServer: ForkServer | None = None
        self._looks = Looks(reactor, self._look)
        self._checks = LoopingCall(self._check)
        self._checks.clock = reactor
        self._workers = [Worker(self, number + 1) for number in range(count)]

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses that the workers listen on, with the ports that the system chose."""
        return [port.getHost() for port in self._ports]

    def counts(self) -> Counts:
        """See L{CountsSource<echofactory.server.counts.CountsSource>}."""
        return sum((worker.counts for worker in self._workers), Counts())

    def workers(self) -> Sequence[WorkerState]:
        """See L{CountsSource<echofactory.server.counts.CountsSource>}."""
        return [worker.state for worker in self._workers]

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """See L{CountsSource<echofactory.server.counts.CountsSource>}."""
        # A host can be busy in one worker and less busy in another, so ask for more.
        asked = [worker.peers(10 * most) for worker in self._workers]
        answered: list[list[PeerCounts]] = await gatherResults(asked)
        return busiestPeers(answered, most)

    def startMessage(self, number: int) -> dict[str, object]:
        """Return the C{start} message of a worker."""
        return {
            "settings": self._settings.asJSON(),
            "endpoints": self._texts,
            "number": number,
            "of": len(self._workers),
            "reactor": type(self.reactor).__module__,
        }

    def fork(self, worker: Worker) -> WorkerProcess:
        """
        Start a process of a worker.

        @raise OSError: if none can be started.
        """
        server = self._forkServer
        if server is None or not server.lives:
            if server is not None:
                server.close()
            server = self._forkServer = ForkServer(FUNCTION)
        return WorkerProcess(self.reactor, server, self.inherited(), worker)

    def inherited(self) -> dict[int, int]:
        """Return the descriptors that a worker inherits, by their numbers in the worker."""
        sockets = [sharing.fileno() for port in self._ports for sharing in port.sockets]
        return {TABLE: self._tableDescriptor, **dict(enumerate(sockets, SOCKETS))}

    def startService(self) -> None:
        """
        Reserve the ports, and start the workers.

        @raise ListenError: if a port cannot be reserved. Then no worker is started.
        """
        for given, endpoint in zip(self._given, self._reserving, strict=True):
            try:
                # A reserving endpoint listens immediately.
                startListening(endpoint, Factory(), given).addCallback(self._reserved)
            except ListenError:
                self._closePorts()
                raise
        count = len(self._workers)
        self._tableDescriptor = newTable(count)
        self._table = mmap.mmap(self._tableDescriptor, count)
        super().startService()
        self._listeningLogged = False
        for worker in self._workers:
            worker.begin()
        self._checks.start(1.0, now=False)

    def _reserved(self, port: IListeningPort) -> None:
        # Behind every endpoint is the ReservingReactor.
        self._ports.append(cast(ReservedPort, port))

    def _check(self) -> None:
        for worker in self._workers:
            worker.check()

    def _closePorts(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.stopListening()
        if self._table is not None:
            self._table.close()
            self._table = None
            os.close(self._tableDescriptor)

    def workerListens(self) -> None:
        """Called when a worker listens. When all workers do, this is logged once."""
        if not self._listeningLogged and all(worker.listening for worker in self._workers):
            self._listeningLogged = True
            for address in self.addresses:
                _log.info(
                    "listening on {address}, {count} workers",
                    address=addressText(address),
                    count=len(self._workers),
                )

    def roomChanged(self) -> None:
        """Called when the table of rooms has changed."""
        if not self.draining:
            self._looks.ask()

    def workerGone(self, number: int) -> None:
        """Called when a worker's process has ended."""
        if self._table is not None and self._table[number - 1] != NOT_YET:
            self._table[number - 1] = FULL
            self.roomChanged()

    def _look(self) -> None:
        for worker in self._workers:
            worker.send(look=True)

    def cut(self) -> None:
        """Abort the connections that a stop waits for."""
        for worker in self._workers:
            worker.send(cut=True)
        if self._killing is not None and self._killing.active():
            self._killing.reset(_GRACE)

    def stopService(self) -> Deferred[None]:
        """
        Let all workers drain and end. A worker that takes too long is killed.

        @return: fires when every process has ended.
        """
        super().stopService()
        if self._checks.running:
            self._checks.stop()
        self.draining = True
        self._looks.cancel()
        for port in self._ports:
            # The workers have them too, and close them when their queues are empty.
            port.closeSockets()
        for worker in self._workers:
            worker.stop()
        if self._killing is None:
            self._killing = self.reactor.callLater(self._settings.drain + _GRACE, self._kill)
        return DeferredList([worker.ended for worker in self._workers]).addCallback(
            self._stopped
        )

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()
        # The fork server can hang. Its workers end with it.
        if self._forkServer is not None:
            self._forkServer.close()

    def _stopped(self, _: object) -> None:
        if self._killing is not None and self._killing.active():
            self._killing.cancel()
        self._killing = None
        if self._forkServer is not None:
            self._forkServer.close()
        self._closePorts()
        self.draining = False
