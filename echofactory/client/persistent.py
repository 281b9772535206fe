"""
The connections of the monitor: N of them, which are kept up.
"""

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.client.backoff import Backoff
from echofactory.client.connection import Connection, SingleProtocol
from echofactory.client.deadline import addDeadline
from echofactory.client.receivelag import ReplySampler
from echofactory.client.rotation import Rotation
from echofactory.client.sender import Sender
from echofactory.client.settings import Patience
from echofactory.client.stream import EchoClient
from echofactory.client.target import NOWHERE, Destination, Target
from echofactory.client.tracelog import TraceLog
from echofactory.client.watch import Watch
from echofactory.net.tracing import Trace
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.latency import Latency
from echofactory.results.warnings import addWarnings
from echofactory.values.checks import checkType, checkWhole
from echofactory.values.quantities import counted
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

_log = Logger()

_FOREVER_S = 1e9
"""Seconds: thirty years."""

_LATE_NS = 1_000_000_000
"""Nanoseconds. A message that is later than this is skipped: this process or its machine was
stopped, and all messages of that time at once would be no low rate."""


class SharedLookUp:
    """
    Looks up the name of a target. Attempts that are made meanwhile share the answer: a
    look-up occupies a thread of the reactor's for as long as it takes, and cannot be
    cancelled. So there is one at a time.
    """

    def __init__(self, reactor: IReactorTime, timeout: float) -> None:
        """
        @param timeout: seconds that each attempt waits.
        """
        self._reactor = reactor
        self._timeout = timeout
        self._underWay = False
        self._waiting: set[Deferred[None]] = set()

    async def wait(self, target: Target) -> None:
        """
        @raise DNSLookupError: if the name has no address, or if there is no answer in time.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.add(waiting)
        if not self._underWay:
            self._underWay = True
            Deferred.fromCoroutine(target.resolve()).addBoth(self._done)
        addDeadline(waiting, self._timeout, self._reactor)
        try:
            await waiting
        except TimeoutError:
            raise DNSLookupError(f"no answer within {self._timeout:g} s") from None
        finally:
            self._waiting.discard(waiting)

    def _done(self, outcome: Failure | None) -> None:
        self._underWay = False
        for each in list(self._waiting):
            # One that another attempt has cancelled meanwhile has its answer.
            if not each.called:
                each.callback(outcome)


class PersistentConnections:
    """
    Opens N connections. A connection that has ended is opened again, after a pause that
    grows with each failure. Messages go to the connections that are up, in turn.

    Its results go on counting: C{requested} are the attempts, and the latest failure of each
    kind is kept instead of the first. There are no intervals.

    For its connections it is a L{Run<echofactory.client.connection.Run>}.

    @ivar reactor: what connections are made and timed by.
    @ivar connections: how many are kept.
    @ivar workload: what each connection sends.
    @ivar patience: the timeouts.
    @ivar clock: returns nanoseconds.
    @ivar destination: where the connections go.
    @ivar results: the books.
    @ivar latestAt: when the latest failure of each kind was.
    @ivar skipped: messages that were not sent, because they would have been over a second
        late.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        connections: int = 1,
        rate: float = 1.0,
        size: int = 64,
        patience: Patience | None = None,
        trace: Trace = Trace.NONE,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """
        @param rate: messages a second, over all connections.
        @param size: of the messages, in bytes.
        @param patience: the timeouts; C{None}: their defaults.
        @param clock: returns nanoseconds.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if a number is out of its range.
        """
        checkWhole("connections", connections)
        checkType("trace", trace, Trace)
        self.reactor = reactor
        self.connections = connections
        self.workload = Workload(size=size, rate=Rate(rate, rate), duration=_FOREVER_S)
        self.patience = patience or Patience()
        self.clock = clock
        self.results = Results(
            target="",
            workload=self.workload.facts(),
            requested=0,
            service=Latency(),
            intervalNs=1_000_000_000,
        )
        self.traceLog = TraceLog(trace)
        self.watch = Watch(reactor, self.patience, clock)
        self.sampler = ReplySampler(self.results, clock)
        self._sender = Sender(
            reactor,
            clock,
            self.results,
            self.workload.schedule(connections),
            None,
            0.0,
            self._deliver,
            lambda: False,
            lambda: None,
        )
        self.destination = NOWHERE
        self.latestAt: dict[FailureKind, datetime] = {}
        self.skipped = 0
        self._ready: Rotation[Connection] = Rotation()
        self._clients: set[Connection] = set()
        self._backoff = Backoff(reactor, clock, self._open)
        self._lookUp = SharedLookUp(reactor, self.patience.connect)
        # What is not logged yet, and what was logged last.
        self._unlogged: Counter[FailureKind] = Counter()
        self._skippedLogged = 0
        self._upLogged = 0
        self._cut = False
        self._over: Deferred[None] = Deferred()

    async def run(self, endpoint: IStreamClientEndpoint) -> Results:
        """Keep the connections, until L{interrupt} ends it; return the results."""
        self._endpoint = endpoint
        self.destination = self.traceLog.destination = Destination.of(endpoint)
        self.results.target = self.destination.description
        self.results.beganAt = self.clock()
        self.watch.start()
        logging = LoopingCall(self._logNews)
        logging.clock = self.reactor
        logging.start(1.0, now=False)
        self._sender.begin(self.results.beganAt)
        try:
            for number in range(1, self.connections + 1):
                self._open(number)
            await self._over
        finally:
            self._sender.stop()
            logging.stop()
            self.watch.stop()
            self._cutAll()
            self._logNews()
            self.results.elapsedNs = self.clock() - self.results.beganAt
            self._sender.tellAll()
            addWarnings(self.results)
        return self.results

    def interrupt(self) -> None:
        """Cut what is open, and end."""
        self.results.interrupted = True
        self._cutAll()
        self._checkOver()

    def _cutAll(self) -> None:
        self._cut = True
        self._backoff.stop()
        for client in list(self._clients):
            client.giveUp()

    def _checkOver(self) -> None:
        if self._cut and not self._clients and not self._over.called:
            self._over.callback(None)

    def _open(self, number: int) -> None:
        self.results.requested += 1
        client = EchoClient(self, number)
        self._clients.add(client)
        self.watch.add(client)
        client.connecting = Deferred.fromCoroutine(self._connect(client))
        client.connecting.addErrback(client.notConnected)

    async def _connect(self, client: Connection) -> IProtocol:
        endpoint: Any = self._endpoint
        if isinstance(endpoint, Target):
            # For each attempt: the name may come to mean another address.
            await self._lookUp.wait(endpoint)
        protocol: IProtocol = await endpoint.connect(SingleProtocol(client))
        return protocol

    def _deliver(self, dueAt: int) -> None:
        late = perf_counter_ns() - dueAt
        if late > _LATE_NS:
            self.skipped += 1
            return
        self.results.sendLag.record(max(0, late))
        if self._ready:
            self._ready.next().messageDue(dueAt)

    # What a connection tells: see L{Run<echofactory.client.connection.Run>}.

    def connectionUp(self, client: Connection, connectNs: int | None) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self.results.connectionEstablished(connectNs)
        self._ready.add(client)
        self._backoff.up(client.number)

    def connectionSettled(self, client: Connection) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self._ready.discard(client)

    def closeConnection(self, close: Callable[[], None]) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        close()

    def connectionFailed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self.results.examples.pop(kind, None)
        self.latestAt[kind] = datetime.now(UTC)
        self.results.connectionFailed(self.traceLog.failed(number, peer, kind, detail))
        self._backoff.failed(number)
        self._unlogged[kind] += 1

    def connectionOver(self, client: Connection) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self._clients.discard(client)
        self.watch.discard(client)
        if client.established:
            self.results.connectionClosed()
        if not self._cut:
            self._backoff.again(client.number)
        self._checkOver()

    def _logNews(self) -> None:
        """Once a second: log what is new, in a line or two."""
        results = self.results
        if self._unlogged:
            *_, latest = self._unlogged
            example: ConnectionFailure = results.examples[latest]
            _log.warn(
                "{failed} failed ({kinds}), such as connection {number} to {peer}: {detail}",
                failed=counted(self._unlogged.total(), "connection"),
                kinds=", ".join(f"{kind}: {n}" for kind, n in sorted(self._unlogged.items())),
                number=example.connection,
                peer=example.peer,
                detail=example.detail,
            )
            self._unlogged.clear()
        if self.skipped != self._skippedLogged:
            _log.warn(
                "skipped {what}: this process did not run when they were due",
                what=counted(self.skipped - self._skippedLogged, "message"),
            )
            self._skippedLogged = self.skipped
        if results.open != self._upLogged:
            _log.info(
                "{up} of {wanted} connections are up", up=results.open, wanted=self.connections
            )
        self._upLogged = results.open
