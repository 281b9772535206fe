"""
Several processes that serve the same ports, and the one that looks after them.

Twisted's own C{ProcessMonitor} restarts processes too, but its stop cannot be
waited for, its children outlive it if it is killed, and they cannot tell what they
count. Here each worker (L{echofactory.server.workers.child}) has a pipe in each direction
(L{echofactory.server.workers.channel}). If this process dies, the workers end.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, TimeoutError, gatherResults
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IReactorProcess,
    IReactorTime,
)
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.task import LoopingCall
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from echofactory.express.addresstext import addressText
from echofactory.net.endpoints import EndpointError, ListenError, serverEndpoint, unwrapped
from echofactory.net.reuseport import ReservingReactor
from echofactory.server.counts import Counts, PeerCounts, WorkerState, busiest
from echofactory.server.settings import ServerSettings
from echofactory.server.workers.channel import LONGEST_LINE, Lines, asLine
from echofactory.values.quantities import counted

_log = Logger()

_STABLE = 10.0
"""Seconds after which a worker that ends has not failed to start."""

_GRACE = 5.0
"""Seconds that a worker has beside the draining, before it is killed."""

_SILENT = 30
"""Looks, one a second, after which a worker that has told nothing is taken to hang. Not
seconds: while the whole machine is suspended, nobody looks."""

_ANSWER_WITHIN = 0.15
"""Seconds for a worker to say who its peers are: the page, which asks for them, takes a
server that is much slower for gone."""

_backoff = backoffPolicy(initialDelay=0.2, maxDelay=30.0, factor=2.0, jitter=lambda: 0.0)

_KINDS = ("tcp", "tcp6", "ssl", "tls")


def shareable(description: str) -> str:
    """
    Return the endpoint string without what only says that it is on the fast lane,
    where workers are anyway.

    @raise EndpointError: if it is none that processes can share.
    """
    wrappers, inner = unwrapped(description)
    kind, _, rest = inner.partition(":")
    if kind.lower() == "reuseport":
        inner = f"tcp:{rest}"
    elif kind.lower() not in _KINDS:
        reason = ValueError("workers cannot share it, only TCP ports")
        raise EndpointError(description, reason)
    return "haproxy:" * wrappers.count("haproxy") + inner


class IWorkersReactor(IReactorProcess, IReactorTime):
    """What looking after workers asks of a reactor."""


class _Worker(ProcessProtocol):
    """
    One worker: the process that it is now, and what those before it counted.

    @ivar number: from 1.
    @ivar listening: whether it has said so.
    @ivar restarts: how often it was started again.
    @ivar ended: fires when the process is gone, and is not to be started again.
    """

    def __init__(self, service: "Workers", number: int) -> None:
        self.number = number
        self.listening = False
        self.restarts = 0
        self.ended: Deferred[None] = Deferred()
        self._service = service
        self._failures = 0
        self._before = Counts()
        self._now = Counts()
        self._process: Any = None
        self._startedAt = 0.0
        self._silent = 0
        self._again: IDelayedCall | None = None
        # The busiest peers that it told last; whether it is asked again; who waits.
        self._peers: list[PeerCounts] = []
        self._asked = False
        self._asking: list[Deferred[list[PeerCounts]]] = []

    def begin(self) -> None:
        """Start the first process."""
        self.ended = Deferred()
        self.listening = False
        self._failures = 0
        self.start()

    @property
    def state(self) -> WorkerState:
        """How it is."""
        pid = self._pid if self._process is not None else None
        listening = self.listening and pid is not None
        return WorkerState(self.number, pid, self.restarts, self._now.open, listening)

    @property
    def counts(self) -> Counts:
        """Of the process that it is now, and of those before it."""
        return self._before + self._now

    def start(self) -> None:
        """Start a process."""
        service = self._service
        self._again = None
        self._silent = 0
        self._startedAt = service.reactor.seconds()
        self._lines = Lines()
        try:
            self._process = service.reactor.spawnProcess(
                self,
                sys.executable,
                # -P: as for twistd, what lies in the working directory is no module.
                [sys.executable, "-P", "-m", "echofactory.server.workers.child"],
                env=None,
                childFDs={0: "w", 1: 1, 2: 2, 3: "r"},
            )
        except OSError as error:
            # There may be memory, or a place for a process, later.
            self._startAgain(f"cannot be started: {error.strerror}", 0)
            return
        # The process forgets it when it ends.
        self._pid: int = self._process.pid
        self.say(start=service.startingWith(self.number))

    def say(self, **what: object) -> None:
        """Tell the process."""
        if self._process is not None:
            # One that is about to end has closed it already.
            with suppress(KeyError):
                self._process.writeToChild(0, asLine(**what))

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        before = self._lines.leftOut
        for line in self._lines.feed(data):
            try:
                self.told(json.loads(line))
            except Exception:
                # Another version of this program, perhaps: what it tells next may do.
                _log.failure("while a worker told something")
                self._missed()
        if self._lines.leftOut > before:
            self._missed()
            if not before:
                _log.warn(
                    "worker {number} told a line of more than {longest:,} bytes,"
                    " which is left out, as all such lines",
                    number=self.number,
                    longest=LONGEST_LINE,
                )

    def _missed(self) -> None:
        """What it told is lost. If that was its peers, it has to be asked again."""
        self._asked = False

    def told(self, what: dict[str, Any]) -> None:
        """The process has told something."""
        self._silent = 0
        if "log" in what:
            level, text = what["log"]
            _log.emit(
                LogLevel.levelWithName(level),
                "worker {number}: {text}",
                number=self.number,
                text=text,
            )
        elif "counts" in what:
            self._now = Counts(**what["counts"])
        elif "peers" in what:
            self._answered([PeerCounts(*peer) for peer in what["peers"]])
        elif "listening" in what:
            self.listening = True
            self._service.workerListens()

    def peers(self, most: int) -> "Deferred[list[PeerCounts]]":
        """
        Ask it for its busiest peers; if it does not answer in time, they are those that
        it told last. It is not asked again before it has answered.
        """
        asking: Deferred[list[PeerCounts]] = Deferred()
        if self._process is None:
            asking.callback([])
            return asking
        self._asking.append(asking)
        if not self._asked:
            self._asked = True
            self.say(peers=most)

        def late(reason: Failure) -> list[PeerCounts]:
            reason.trap(TimeoutError)
            self._asking.remove(asking)
            return self._peers

        return asking.addTimeout(_ANSWER_WITHIN, self._service.reactor).addErrback(late)

    def _answered(self, peers: list[PeerCounts]) -> None:
        self._peers = peers
        self._asked = False
        asking, self._asking = self._asking, []
        for each in asking:
            each.callback(peers)

    def processEnded(self, reason: Failure) -> None:
        self._process = None
        self._answered([])
        # What it had open is lost with it.
        cut = {"worker": self._now.open} if self._now.open else {}
        self._before += replace(self._now, open=0) + Counts(lost=cut)
        self._now = Counts()
        if self._service.draining:
            self._over()
            return
        ended: Any = reason.value
        how = f"exit status {ended.exitCode}"
        if ended.signal is not None:
            how = f"ended by signal {ended.signal}"
        self._startAgain(f"process {self._pid}: {how}", sum(cut.values()))

    def _startAgain(self, how: str, open_: int) -> None:
        """Start another process, after a pause that is longer the sooner this one ended."""
        if self._service.reactor.seconds() - self._startedAt > _STABLE:
            self._failures = 0
        delay = _backoff(self._failures)
        self._failures += 1
        self.listening = False
        _log.warn(
            "worker {number} is gone ({how}), and its {open}; it starts again in {delay:.1f} s",
            number=self.number,
            how=how,
            open=counted(open_, "connection"),
            delay=delay,
        )
        self.restarts += 1
        self._again = self._service.reactor.callLater(delay, self.start)

    def stop(self) -> None:
        """Start it no more, and have it drain."""
        if self._again is not None:
            self._again.cancel()
            self._again = None
        if self._process is None:
            self._over()
        else:
            self.say(stop=True)

    def _over(self) -> None:
        # Once, though it may be stopped twice.
        if not self.ended.called:
            self.ended.callback(None)

    def look(self) -> None:
        """Kill the process, if it has been silent for too long: another takes its place."""
        self._silent += 1
        if self._process is not None and self._silent == _SILENT:
            _log.warn(
                "worker {number} has told nothing for {looks} s, and is killed",
                number=self.number,
                looks=_SILENT,
            )
            self.kill()

    def kill(self) -> None:
        """End it by force."""
        if self._process is not None:
            try:
                self._process.signalProcess("KILL")
            except ProcessExitedAlready:
                return


class Workers(Service):
    """
    Serves the same ports with several processes, and starts one that ends again; one that
    has told nothing for half a minute, though each should once a second, is ended.

    A L{CountsSource<echofactory.server.counts.CountsSource>}: what is counted is the sum
    over the workers, as each told it within the last second, and does not run
    backwards when one is started again.
    """

    def __init__(
        self,
        reactor: IWorkersReactor,
        endpoints: Sequence[str],
        settings: ServerSettings,
        count: int,
    ) -> None:
        """
        @param endpoints: server endpoint strings.
        @param settings: how all of them serve.
        @param count: of the workers.
        @raise EndpointError: if a string describes no endpoint, or none that can be
            shared.
        """
        self.reactor = reactor
        self.draining = False
        self._settings = settings
        self._given = list(endpoints)
        self._texts = [shareable(text) for text in endpoints]
        self._reserving = [serverEndpoint(ReservingReactor(), text) for text in self._texts]
        self._ports: list[IListeningPort] = []
        self._told = False
        self._killing: IDelayedCall | None = None
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor
        self._workers = [_Worker(self, number + 1) for number in range(count)]

    @property
    def addresses(self) -> list[IAddress]:
        """Where they listen; the ports that the system chose are filled in."""
        return [port.getHost() for port in self._ports]

    def counts(self) -> Counts:
        """See L{CountsSource<echofactory.server.counts.CountsSource>}."""
        return sum((worker.counts for worker in self._workers), Counts())

    def workers(self) -> Sequence[WorkerState]:
        """See L{CountsSource<echofactory.server.counts.CountsSource>}."""
        return [worker.state for worker in self._workers]

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """See L{CountsSource<echofactory.server.counts.CountsSource>}."""
        # One that is busy here may be among the less busy there.
        asked = [worker.peers(10 * most) for worker in self._workers]
        answered: list[list[PeerCounts]] = await gatherResults(asked)
        return busiest(answered, most)

    def startingWith(self, number: int) -> dict[str, object]:
        """Return what a worker is told to begin with."""
        # L{shareable} lets only TCP through, whose addresses have ports.
        return {
            "settings": self._settings.asJSON(),
            "endpoints": self._texts,
            "ports": [port.getHost().port for port in self._ports],  # type: ignore[attr-defined]
            "number": number,
            "of": len(self._workers),
            "reactor": type(self.reactor).__module__,
        }

    def startService(self) -> None:
        """
        Take the ports, and start the workers.

        @raise ListenError: if a port cannot be taken; nothing is started then.
        """
        for given, endpoint in zip(self._given, self._reserving, strict=True):
            outcome: list[Any] = []
            endpoint.listen(Factory()).addBoth(outcome.append)
            (port,) = outcome
            if isinstance(port, Failure):
                self._giveUpPorts()
                raise ListenError(given, port.value)
            self._ports.append(port)
        super().startService()
        self._told = False
        for worker in self._workers:
            worker.begin()
        self._looking.start(1.0, now=False)

    def _look(self) -> None:
        for worker in self._workers:
            worker.look()

    def _giveUpPorts(self) -> None:
        ports, self._ports = self._ports, []
        for port in ports:
            port.stopListening()

    def workerListens(self) -> None:
        """A worker tells that it listens; once all do, that is told."""
        if not self._told and all(worker.listening for worker in self._workers):
            self._told = True
            for address in self.addresses:
                _log.info(
                    "listening on {address}, {count} workers",
                    address=addressText(address),
                    count=len(self._workers),
                )

    def cut(self) -> None:
        """Wait no longer for the connections that are still open."""
        for worker in self._workers:
            worker.say(cut=True)
        if self._killing is not None and self._killing.active():
            self._killing.reset(_GRACE)

    def stopService(self) -> Deferred[None]:
        """
        Have all drain and end; who takes longer than it may is killed.

        @return: fires when every process is gone.
        """
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        self.draining = True
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

    def _stopped(self, _: object) -> None:
        if self._killing is not None and self._killing.active():
            self._killing.cancel()
        self._killing = None
        self._giveUpPorts()
        self.draining = False
