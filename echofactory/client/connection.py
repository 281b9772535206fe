"""
What a connection of the client is, whatever carries it: a share of the workload, and
an outcome.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from echofactory.client.failures import classify
from echofactory.client.settings import Patience
from echofactory.net.tracing import Trace
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.workload.settings import Workload

_NO_LIMIT = 1 << 62


class Run(Protocol):
    """What a L{Connection} needs of the run that it belongs to."""

    results: Results
    workload: Workload
    patience: Patience
    trace: Trace
    overUNIX: bool

    @property
    def reactor(self) -> IReactorTime:
        """What connections are timed by."""

    def clock(self) -> int:
        """Return the time in nanoseconds."""

    def connectionUp(self, client: "Connection", connectNs: int | None) -> None:
        """
        A connection tells that it is connected.

        @param connectNs: since it was asked for; C{None}: there was no wait for it.
        """

    def connectionSettled(self, client: "Connection") -> None:
        """A connection tells that its outcome is known, before it closes."""

    def closeConnection(self, close: Callable[[], None]) -> None:
        """A connection tells that it has done its job, and how to close it."""

    def connectionOver(self, client: "Connection") -> None:
        """A connection tells that its transport is gone, or never came."""

    def connectionFailed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> None:
        """
        A connection tells that it cannot do its job.

        @param peer: at the other end; C{None}, if it never was connected.
        """

    def awaitReply(self, client: "Connection") -> None:
        """A connection tells that time runs for it."""

    def traceClosing(self, number: int) -> None:
        """A connection tells that it has done its job and closes."""

    def traceSending(self, number: int, data: bytes) -> None:
        """Tell of bytes that go out."""

    def traceReceived(self, number: int, data: bytes) -> None:
        """Tell of bytes that came in."""


class Connection(ABC):
    """
    One connection's share of a run.

    It is settled once its outcome is known: completed, failed, or given up
    because the run was interrupted. It is over when the transport is gone.

    @ivar number: this connection's, from 1.
    @ivar established: whether it has been connected, TLS handshake included.
    @ivar settled: whether its outcome is known.
    @ivar connecting: what comes of the attempt to connect it, if the factory's
        run made it.
    @ivar askedAt: when the connection was asked for; C{perf_counter_ns}.
    """

    factory: Run
    transport: Any
    connecting: Deferred[Any] | None = None

    def __init__(self, factory: Run, number: int) -> None:
        workload = factory.workload
        self.factory = factory
        self.number = number
        self.established = False
        self.settled = False
        self._results = factory.results
        self._recordResponse = factory.results.response.record
        self._recordService = factory.results.serviceTime.record
        self._clock = factory.clock
        self._script = workload.script(number)
        # The next block to send, the one to stop before as yet, and whether that
        # one is the last.
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
        self._tracing = factory.trace >= Trace.DATA
        # When the scheduled messages were due that are not sent yet.
        self._dueAt: deque[int] = deque()
        self._held: IDelayedCall | None = None
        self.askedAt = self._clock()

    def notConnected(self, reason: Failure) -> None:
        """The attempt to connect has failed, or was cancelled."""
        self._fail(*classify(reason.value, self.factory.overUNIX))
        self.factory.connectionOver(self)

    def messageDue(self, dueAt: int) -> None:
        """
        Send another message, as soon as the connection and the window let it.

        @param dueAt: when the schedule wanted it sent; C{perf_counter_ns}.
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
        """Send what there is room for; close, if all is sent and back."""

    @abstractmethod
    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """
        Give up what has taken too long.

        @param connectBefore: a connection that was asked for before this, and is not
            up, has; C{perf_counter_ns}.
        @param replyBefore: a reply that was waited for before this, and is not here,
            has.
        @return: whether time still runs for this connection. If not, it says so when
            it does (L{Run.awaitReply}).
        """

    def _complete(self) -> None:
        """All is back: close, once it has been held open for as long as is asked."""
        if self.settled or self._held is not None:
            return
        hold = self.factory.workload.hold
        if hold:
            self._held = self.factory.reactor.callLater(hold, self._release)
        else:
            self._release()

    def _release(self) -> None:
        self._held = None
        self._settle()
        self._results.completed += 1
        self.factory.closeConnection(self._closeDone)

    def _closeDone(self) -> None:
        self.factory.traceClosing(self.number)
        self._close()

    def _fail(self, kind: FailureKind, detail: str) -> None:
        if not self.settled:
            self._settle()
            self.factory.connectionFailed(self.number, self._peer(), kind, detail)
            self._abort()

    def _settle(self) -> None:
        """The outcome is known: send nothing more, expect nothing more."""
        self.settled = True
        self._final = True
        self._end = self._next
        self._results.unanswered += self._forget()
        self._dueAt.clear()
        if self._held is not None:
            self._held.cancel()
            self._held = None
        if self.established:
            self.factory.connectionSettled(self)

    def giveUp(self) -> None:
        """The run was interrupted: the outcome will not be known."""
        if not self.settled:
            self._settle()
        self._abort()

    def _abort(self) -> None:
        """Close now, or stop connecting."""
        if self.transport is not None:
            self._cut()
        elif self.connecting is not None:
            try:
                self.connecting.cancel()
            except NotConnectingError:
                # It failed halfway, and nobody will be told.
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
