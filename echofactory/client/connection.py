"""
A connection of the client, whatever carries it: a share of the workload, and an outcome.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from echofactory.client.failures import classify
from echofactory.client.receivelag import ReplySampler
from echofactory.client.settings import Patience
from echofactory.client.smallqueue import SmallQueue
from echofactory.client.target import Destination
from echofactory.client.tracelog import TraceLog
from echofactory.client.watch import Watch
from echofactory.net.tcpinfo import kernelView
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.workload.settings import Workload

_NO_LIMIT = 1 << 62

Fault = tuple[FailureKind, str]
"""Why a connection has failed, and what happened."""


class Run(Protocol):
    """
    What a L{Connection} needs of the run that it belongs to.

    @ivar results: the books of the run.
    @ivar workload: what each connection sends.
    @ivar patience: the timeouts.
    @ivar traceLog: logs what happens to connections.
    @ivar watch: fails the connections that take too long.
    @ivar sampler: takes the receive lag of some replies.
    @ivar destination: where the connections go.
    """

    results: Results
    workload: Workload
    patience: Patience
    traceLog: TraceLog
    watch: Watch
    sampler: ReplySampler
    destination: Destination

    @property
    def reactor(self) -> IReactorTime:
        """What connections are timed by."""

    def clock(self) -> int:
        """Return the time in nanoseconds."""

    def connectionUp(self, client: "Connection", connectNs: int | None) -> None:
        """
        A connection is established.

        @param connectNs: nanoseconds since it was asked for; C{None}: there was nothing to
            wait for.
        """

    def connectionSettled(self, client: "Connection") -> None:
        """The outcome of an established connection is known; the connection closes next."""

    def closeConnection(self, close: Callable[[], None]) -> None:
        """A connection has done its job: call C{close} now, or soon."""

    def connectionFailed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> None:
        """
        A connection has failed.

        @param peer: at the other end; C{None}: the connection never was established.
        """

    def connectionOver(self, client: "Connection") -> None:
        """The transport of a connection is gone, or never came."""


class Connection(ABC):
    """
    One connection's share of a run, and its states::

        ========== ============================== ==========================================
        state      attributes                     left by
        ========== ============================== ==========================================
        asked      neither of the below           established; or the attempt fails
        up         established                    everything is back; a fault; the run is cut
        held       established, _held             the time of hold is over; a fault; a cut
        settled    settled                        the transport is gone
        over       no transport                   (the run is told connectionOver)
        ========== ============================== ==========================================

    The outcome is decided in one place (L{_conclude}): completed, failed, or not known because
    the run was cut.

    It has over 20 methods: most of them are what a kind of connection fills in.

    @ivar number: this connection's, from 1.
    @ivar established: whether it has been connected, TLS handshake included.
    @ivar settled: whether its outcome is decided.
    @ivar connecting: what comes of the attempt to connect it, if the run made the attempt.
    @ivar askedAt: when the connection was asked for, in nanoseconds of the run's clock.
    """

    factory: Run
    transport: Any

    def __init__(self, factory: Run, number: int) -> None:
        workload = factory.workload
        self.factory = factory
        self.number = number
        # All attributes are set at the beginning, the protocol's too. If the first instances
        # have all of them, and at most 30, CPython keeps them in an array. A dict takes 1.2 KiB
        # more for each connection, and is slower.
        self.transport = None
        self.connecting: Deferred[Any] | None = None
        self.established = False
        self.settled = False
        self._results = factory.results
        self._clock = factory.clock
        self._sampler = factory.sampler
        self._script = workload.script(number)
        # The next block to send, the block to stop before as yet, and whether that is the
        # end of the script.
        self._next = 0
        self._end = 0
        self._final = False
        self._messagesDue = 0
        self._scheduled = workload.rate is not None
        if not self._scheduled:
            messages = 1 if workload.churn else workload.messagesPerConnection
            self._final = messages is not None
            self._end = self._script.end(messages) if messages is not None else _NO_LIMIT
        self._window = workload.outstanding or _NO_LIMIT
        # When the scheduled messages were due that are not sent yet.
        self._dueAt: SmallQueue[int] = SmallQueue()
        self._held: IDelayedCall | None = None
        self.askedAt = self._clock()

    def attemptBegins(self) -> None:
        """The attempt to connect has waited for another one, and begins: it counts from now."""
        self.askedAt = self._clock()

    def notConnected(self, reason: Failure) -> None:
        """The attempt to connect has failed, or was cancelled."""
        self._fail(*classify(reason.value, self.factory.destination.overUNIX))
        self.factory.connectionOver(self)

    def messageDue(self, dueAt: int) -> None:
        """
        Send another message, as soon as the connection and the window let it.

        @param dueAt: when the schedule has it due, in nanoseconds.
        """
        self._dueAt.append(dueAt)
        self._messagesDue += 1
        self._end = self._script.end(self._messagesDue)
        if self.established:
            self._send()

    def finish(self) -> None:
        """No other message will be due: close when all are back (L{proceed})."""
        self._final = True

    def stopSending(self) -> None:
        """
        Begin no other message, due or not, and close when all that are out are back
        (L{proceed}).
        """
        if not self._final and not self.settled:
            message, offset = self._script.place(self._next)
            self._end = self._script.end(message) if offset else self._next
        self.finish()

    def proceed(self) -> None:
        """Do what L{finish} or L{stopSending} left to be done."""
        if self.established and not self.settled:
            self._send()

    @abstractmethod
    def _send(self) -> None:
        """Send what there is room for; if all is sent and back, complete."""

    @abstractmethod
    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """See L{Watched.sweep<echofactory.client.watch.Watched.sweep>}."""

    # The outcome

    def _complete(self) -> None:
        """All is back: end, once the connection was held open for as long as asked."""
        if self.settled or self._held is not None:
            return
        hold = self.factory.workload.hold
        if hold:
            self._held = self.factory.reactor.callLater(hold, self._holdIsOver)
        else:
            self._conclude(completed=True)

    def _holdIsOver(self) -> None:
        self._held = None
        self._conclude(completed=True)

    def _fail(self, kind: FailureKind, detail: str) -> None:
        """Something is wrong: end."""
        self._conclude(fault=(kind, detail))

    def giveUp(self) -> None:
        """The run is cut: end, whatever the outcome would have been."""
        self._conclude()
        self._abort()

    def _conclude(self, completed: bool = False, fault: Fault | None = None) -> None:
        """
        Decide the outcome, and end.

        @param completed: whether the job is done; otherwise, without a fault, the outcome
            is not known.
        """
        if self.settled:
            return
        fault = fault or self._knownFault()
        self._settle()
        if fault is not None:
            self.factory.connectionFailed(self.number, self._peer(), *fault)
            self._abort()
        elif completed:
            self._results.completed += 1
            self.factory.closeConnection(self._closeDone)

    def _sampleNext(self) -> None:
        """Take the receive lag of the next reply, if there will be one."""
        if not (self._final and self._next == self._end):
            self._sampler.sample(self.transport)

    def _knownFault(self) -> Fault | None:
        """Return what is known to be wrong, though the connection went on."""
        return None

    def _settle(self) -> None:
        """The outcome is decided: send nothing more, expect nothing more."""
        self.settled = True
        self._final = True
        self._end = self._next
        self._results.unanswered += self._forget()
        self._dueAt.clear()
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if self.established:
            view = kernelView(self.transport)
            if view is not None:
                self._results.kernel.add(*view)
            self.factory.connectionSettled(self)

    def _closeDone(self) -> None:
        self.factory.traceLog.closing(self.number)
        self._close()

    def _abort(self) -> None:
        """Close now, or stop connecting."""
        if self.transport is not None:
            self._cut()
        elif self.connecting is not None:
            try:
                self.connecting.cancel()
            except NotConnectingError:
                # The attempt failed halfway, and Twisted tells nobody.
                self.factory.connectionOver(self)

    @abstractmethod
    def _forget(self) -> int:
        """Forget the messages that are out; return how many those were."""

    @abstractmethod
    def _peer(self) -> IAddress | None:
        """Return the address at the other end; C{None}: never connected."""

    @abstractmethod
    def _close(self) -> None:
        """Close in order."""

    @abstractmethod
    def _cut(self) -> None:
        """Close now."""


class SingleProtocol(Factory):
    """Hands out the protocol that one attempt to connect is for."""

    noisy = False

    def __init__(self, client: Connection) -> None:
        self._client = client
        self.attemptBegins = client.attemptBegins

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        """Return the protocol."""
        return self._client
