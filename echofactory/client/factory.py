"""
The client's factory: it opens the N connections and keeps the run's books.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echofactory.client.connection import Connection
from echofactory.client.datagram import DatagramClient
from echofactory.client.deadline import addDeadline
from echofactory.client.pacer import Pacer
from echofactory.client.rotation import Rotation
from echofactory.client.settings import Opening, Patience
from echofactory.client.slices import Slices
from echofactory.client.stream import EchoClient
from echofactory.client.target import IProbeReactor, Target, checkClientEndpoint
from echofactory.express.addresstext import addressText
from echofactory.net.tcpinfo import kernelView
from echofactory.net.tracing import Trace, dataText
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.latency import Latency, rankOf
from echofactory.results.path import Datagrams
from echofactory.values.checks import checkSeconds, checkType, checkWhole
from echofactory.values.printable import printable
from echofactory.workload.datagrams import refuseUnfit
from echofactory.workload.schedule import Schedule
from echofactory.workload.settings import Workload

_log = Logger()

C = TypeVar("C", bound=Connection)

_LAST_MOMENT_S = 0.1
"""Seconds after the duration in which a message that was due before may be sent."""

_TIMER_S = 0.001
"""Seconds: what a timer of the reactor's is about as exact as."""

_LOOKS = 10
"""Times that a connection is looked at within the time that a reply may take."""

_OPENED_AT_ONCE = 32
"""Connections asked for before the reactor has its turn: while it waits for
one, it notices of no other that it is connected."""


class EchoClientFactory(ClientFactory):
    """
    Opens N connections to an echo server, each an L{EchoClient}, or over UDP a
    L{DatagramClient}, and keeps the books of the run.

    A factory serves one run.

    @ivar reactor: what it was given.
    @ivar results: the books, true at any time during the run.
    @ivar overUNIX: whether the target is known to be a UNIX socket.
    @ivar watchers: called at the end of each interval.
    """

    noisy = False

    def __init__(
        self,
        reactor: IProbeReactor,
        workload: Workload,
        connections: int = 2,
        patience: Patience | None = None,
        trace: Trace = Trace.NONE,
        clock: Callable[[], int] = perf_counter_ns,
        opening: Opening | None = None,
        interval: float = 1.0,
        settling: float = 0.0,
    ) -> None:
        """
        @param connections: how many, 1 or more; with C{churn}, how many at once.
        @param clock: C{perf_counter_ns}, or a test's; with C{rate}, that itself.
        @param interval: seconds; the results are kept by pieces of this length.
        @param settling: seconds of sending whose latencies do not count.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if C{connections} is less than 1, C{interval} not more than
            0, or C{settling} less than 0.
        """
        checkType("workload", workload, Workload)
        checkWhole("connections", connections)
        if patience is not None:
            checkType("patience", patience, Patience)
        checkType("trace", trace, Trace)
        if opening is not None:
            checkType("opening", opening, Opening)
        checkSeconds("interval", interval)
        checkSeconds("settling", settling, zero=True)
        self.reactor = reactor
        self.workload = workload
        self.patience = patience or Patience()
        self.trace = trace
        self.clock = clock
        self.results = Results(
            target="",
            workload=workload.facts(),
            requested=0 if workload.churn else connections,
        )
        self.results.intervalNs = int(interval * 1e9)
        if workload.rate is not None:
            self.results.service = Latency()
        self._schedule = workload.schedule(connections)
        if self._schedule is not None:
            self.results.rateAsked = self._schedule.rateOf(self._schedule.total)
        self._connections = connections
        self._opening = opening or Opening()
        self._interval = interval
        self._settling = settling
        self._settled: IDelayedCall | None = None
        self.overUNIX = False
        self.watchers: list[Callable[[Results], None]] = []
        self._kind: type[Connection] = EchoClient
        self._clients: set[Connection] = set()
        # Those of them for which time runs, and when they were looked at.
        self._awaited: set[Connection] = set()
        self._looks: deque[int] = deque(maxlen=_LOOKS)
        # What closing many connections has to do.
        self._slices = Slices(reactor)
        self._begun = False
        # Connections to ask for, those asked for, and those of them that are
        # neither up nor have failed.
        self._toOpen = connections
        self._asked = 0
        self._connecting = 0
        self._openLater: IDelayedCall | None = None
        # What ends the sending: the schedule's last message, or the end of the duration.
        self._pacer: Pacer | None = None
        self._timeUp: IDelayedCall | None = None
        self._lastMoment = False
        self._sending = False
        self._sendingAt = 0
        self._stoppedAt = 0
        # The connections that the schedule's messages go to in turn; and those
        # messages that wait for a connection of their own (churn).
        self._ready: Rotation[Connection] = Rotation()
        self._due: deque[int] = deque()
        self._resolving: Deferred[None] | None = None
        self._givenUp = False
        self._over: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> EchoClient:  # type: ignore[override]
        """Make the next connection's protocol."""
        return self._next(EchoClient)

    def _next(self, kind: type[C]) -> C:
        """Make the next connection."""
        self._asked += 1
        self._connecting += 1
        if self.workload.churn:
            self.results.requested += 1
        client = kind(self, self._asked)
        self._enlist(client)
        return client

    def _enlist(self, client: Connection) -> None:
        """A connection is asked for: time runs for it."""
        self._clients.add(client)
        self._awaited.add(client)

    async def run(self, endpoint: str | IStreamClientEndpoint) -> Results:
        """
        Open the connections and wait until the last one is closed.

        Cancelling this cuts what is open; L{interrupt} does so too, and has
        the results of what was done.

        @param endpoint: a client endpoint string, or an endpoint.
        @raise EndpointError: if the string describes no endpoint.
        @raise ValueError: if the endpoint is of UDP, and the workload does not go in
            datagrams.
        @raise TypeError: if the endpoint is neither.
        @raise RuntimeError: if this factory has run already.
        """
        if self._begun:
            raise RuntimeError("an EchoClientFactory serves one run")
        checkClientEndpoint(endpoint)
        self._begun = True
        if isinstance(endpoint, str):
            endpoint = Target(
                self.reactor, endpoint, self.patience.connect, self._opening.addresses
            )
        self._endpoint = endpoint
        self._text = self._tracedText = self.results.target = printable(repr(endpoint))
        if isinstance(endpoint, Target):
            self._text = printable(endpoint.text)
            self._tracedText = printable(endpoint.tracedText(self.trace))
            self.results.target = printable(endpoint.description)
            self.overUNIX = endpoint.overUNIX
            if endpoint.datagrams:
                refuseUnfit(self.workload)
                self._kind = DatagramClient
                self.results.datagrams = Datagrams()

        self.results.beganAt = self.clock()
        sweeper = self._every(
            self._sweep, min(self.patience.connect, self.patience.reply, 10.0) / _LOOKS
        )
        self._ticker = self._every(self._closeInterval, self._interval)
        try:
            if isinstance(endpoint, Target):
                await self._resolve(endpoint)
            if not self._over.called:
                if self.workload.churn:
                    self._beginSending()
                self._openSome()
                await self._over
        finally:
            for looping in (sweeper, self._ticker):
                if looping.running:
                    looping.stop()
            self._giveUp()
            self._closeInterval()
            self.results.elapsedNs = self.clock() - self.results.beganAt
            self._closeSchedule()
        return self.results

    def _every(self, call: Callable[[], None], seconds: float) -> LoopingCall:
        looping = LoopingCall(call)
        looping.clock = self.reactor
        looping.start(seconds, now=False)
        return looping

    def interrupt(self) -> None:
        """Cut what is open, open nothing more, and end the run with its results."""
        if not self._over.called:
            self.results.interrupted = True
            self._cut()

    def endEarly(self) -> None:
        """End a run whose outcome is certain, in the same way."""
        if not self._over.called:
            self.results.endedEarly = True
            self._cut()

    def _cut(self) -> None:
        self._giveUp()
        self._checkOver()

    def soFar(self) -> Results:
        """Return the books as they stand, for a report while the run goes on."""
        now = self.clock()
        results = replace(self.results, elapsedNs=now - self.results.beganAt, underWay=True)
        if self._pacer is not None and self._schedule is not None:
            self._tellDue(results, self._schedule, self._dueUntil(now))
        return results

    def remaining(self) -> float | None:
        """Return the seconds that are left to send; C{None} if replies decide."""
        schedule = self._schedule
        seconds = schedule.seconds if schedule is not None else self.workload.duration
        if seconds is None or not self._sending:
            return None
        return max(0.0, seconds - (self.clock() - self._sendingAt) / 1e9)

    async def _resolve(self, target: Target) -> None:
        """Look up the target's name; without an address, every connection has failed."""
        self._resolving = Deferred.fromCoroutine(target.resolve())
        addDeadline(self._resolving, self.patience.connect, self.reactor)
        try:
            await self._resolving
        except (DNSLookupError, TimeoutError) as reason:
            detail = str(reason)
            if isinstance(reason, TimeoutError):
                detail = f"no answer within {self.patience.connect:g} s"
            self.results.requested = self._connections
            for number in range(1, self._connections + 1):
                self.connectionFailed(number, None, FailureKind.DNS, detail)
            self._toOpen = 0
            self._checkOver()
        except CancelledError:
            if not self.results.interrupted:
                raise

    # Opening

    def _openSome(self) -> None:
        """Ask for some connections, and come back for the others."""
        self._openLater = None
        allowed = _OPENED_AT_ONCE
        if self._opening.rate is not None:
            elapsed = (self.clock() - self.results.beganAt) / 1e9
            # As many as are due, and none in advance.
            allowed = min(allowed, int(elapsed * self._opening.rate) + 1 - self._asked)
        for _ in range(min(self._toOpen, allowed)):
            self._toOpen -= 1
            self._open()
        if self._toOpen and self._openLater is None:
            wait = 0.0 if self._opening.rate is None else min(0.01, 1 / self._opening.rate)
            self._openLater = self.reactor.callLater(wait, self._openSome)
        self._checkOver()

    def _openAnother(self) -> None:
        self._toOpen += 1
        if self._openLater is None:
            self._openLater = self.reactor.callLater(0, self._openSome)

    def _open(self) -> None:
        client = self._next(self._kind)
        if self.trace >= Trace.CONNECTIONS:
            _log.info(
                "starting connection {number} to {target}",
                number=client.number,
                target=self._tracedText,
            )
        if self._due:
            # A connection of its own for a message that is due (churn).
            client.messageDue(self._due.popleft())
            client.finish()
        client.connecting = maybeDeferred(self._endpoint.connect, SingleProtocolFactory(client))
        client.connecting.addErrback(client.notConnected)

    # Sending

    def _beginSending(self) -> None:
        """Start the schedule, or the time that there is."""
        now = self._sendingAt = self.clock()
        if self._settling:
            self._settled = self.reactor.callLater(self._settling, self._forget)
        schedule, duration = self._schedule, self.workload.duration
        self._sending = schedule is not None or duration is not None
        if schedule is not None:
            if self.workload.churn:
                # One for each message, when it is due.
                self._toOpen = 0
            self.results.firstAt = now
            self._alignIntervals(now)
            self._pacer = Pacer(self.reactor, schedule, now, self._deliver, self._allHandedOut)
        if duration is not None:
            self._timeUp = self.reactor.callLater(duration, self._timeIsUp)

    def _alignIntervals(self, now: int) -> None:
        """
        Count intervals from the schedule's start, so that each has its share of it. If
        connecting took a noticeable part of one, it has a shorter one of its own.
        """
        intervals = self.results.intervals
        began = self.results.beganAt + (intervals[-1].endNs if intervals else 0)
        if now - began > self._interval * 1e9 / 20:
            self._closeInterval()
        self._ticker.reset()

    def _forget(self) -> None:
        left = self._left(self._settling)
        if left:
            self._settled = self.reactor.callLater(left, self._forget)
            return
        self._settled = None
        self.results.forgetLatencies()

    def _left(self, seconds: float) -> float:
        """
        Return what is left of some time since the sending began. If the wall clock is set
        forward, a timer of the reactor's comes early.
        """
        left = seconds - (self.clock() - self._sendingAt) / 1e9
        return left if left > _TIMER_S else 0.0

    def _deliver(self, dueAt: int) -> None:
        """A message is due: the next connection's turn."""
        self.results.sendLag.record(max(0, perf_counter_ns() - dueAt))
        if self.workload.churn:
            self._due.append(dueAt)
            if len(self._clients) + self._toOpen < self._connections:
                self._openAnother()
        elif self._ready:
            self._ready.next().messageDue(dueAt)

    def _allHandedOut(self) -> None:
        """The schedule has no other message."""
        if self.workload.duration is None or (self._lastMoment and not self._due):
            self._finish()

    def _timeIsUp(self) -> None:
        """
        The duration is over. What was due at the last moment may still be sent: the
        reactor's timers are late by a millisecond, and a busy machine's by more.
        """
        self._timeUp = None
        assert self.workload.duration is not None
        left = self._left(self.workload.duration)
        if left:
            self._timeUp = self.reactor.callLater(left, self._timeIsUp)
            return
        behind = self._due or (self._pacer is not None and not self._pacer.over)
        if behind and not self._lastMoment:
            self._lastMoment = True
            self._timeUp = self.reactor.callLater(_LAST_MOMENT_S, self._timeIsUp)
        else:
            self._finish()

    def _finish(self) -> None:
        """Begin no other message; what is under way goes to its end."""
        bounded = self.workload.duration is not None
        self._stopSending()
        if not self.workload.churn:
            # No connection begins another message; what that has to do comes after.
            for client in self._clients:
                if bounded:
                    client.stopSending()
                else:
                    client.finish()
                self._slices.add(client.proceed)
        elif bounded:
            # Those that were still to be opened would be for nothing.
            self._toOpen = 0
            self._due.clear()
        self._checkOver()

    # Ending

    def _sweep(self) -> None:
        """
        Look for what takes too long, among the connections for which time runs.

        A time counts only if it has been looked at as often as it has to be: while
        this process stood still, nothing that came was read, and nobody is to blame.
        """
        now = self.clock()
        if len(self._looks) == _LOOKS:
            begun = self._looks[0]
            connect, reply = (
                min(begun, now - int(seconds * 1e9))
                for seconds in (self.patience.connect, self.patience.reply)
            )
            for client in list(self._awaited):
                if not client.sweep(connect, reply):
                    self._awaited.discard(client)
        self._looks.append(now)

    def awaitReply(self, client: Connection) -> None:
        """A L{Connection} tells that time runs for it."""
        self._awaited.add(client)

    def _closeSchedule(self) -> None:
        """Tell what of the schedule was due, and how far the client kept to it."""
        results, schedule, pacer = self.results, self._schedule, self._pacer
        if schedule is None:
            return
        # Of a run that its connections did not survive, the rest was due all the same.
        cut = results.interrupted or results.endedEarly
        past = self._dueUntil(self._stoppedAt or self.clock())
        self._tellDue(results, schedule, past if cut else schedule.total)
        if pacer is not None and past:
            tookNs = pacer.lastAt - results.firstAt
            results.paced = min(1.0, pacer.handedOut / past)
            if tookNs > 0:
                results.paced = min(results.paced, schedule.dueNs(pacer.handedOut) / tookNs)
        if not results.endedEarly:
            results.judge()

    def _dueUntil(self, at: int) -> int:
        """Return how many messages were due before some time; 0 if none could be sent."""
        schedule, pacer = self._schedule, self._pacer
        if schedule is None or pacer is None:
            return 0
        return max(pacer.handedOut, schedule.dueBefore(at - self.results.firstAt))

    @staticmethod
    def _tellDue(results: Results, schedule: Schedule, due: int) -> None:
        results.due = due
        if due:
            results.scheduledNs = schedule.dueNs(due)
            results.rateAsked = schedule.rateOf(due)

    def isMissed(self, percent: float, limitNs: int) -> bool:
        """
        Tell whether the response time at a percentile is certain not to stay under a
        limit, whatever the rest of the schedule brings.

        @param percent: from 0 to 100.
        """
        results, schedule = self.results, self._schedule
        if schedule is None or self._pacer is None or self._settled is not None:
            return False
        counted = schedule.total - results.forgotten
        if counted <= 0:
            return False
        # Of those that were due so long ago, all but the ones that were in time are late.
        longDue = schedule.dueBefore(self.clock() - results.firstAt - limitNs)
        late = longDue - results.forgotten - results.response.under(limitNs)
        return late > counted - rankOf(percent, counted)

    def _closeInterval(self) -> None:
        self.results.closeInterval(self.clock() - self.results.beganAt)
        for watcher in list(self.watchers):
            try:
                watcher(self.results)
            except Exception:
                # Who watches is no reason to lose a run.
                _log.failure("while showing the run")
                self.watchers.remove(watcher)

    def _giveUp(self) -> None:
        self._givenUp = True
        self._toOpen = 0
        self._due.clear()
        self._slices.clear()
        self._stopSending()
        if self._openLater is not None:
            self._openLater.cancel()
            self._openLater = None
        if self._resolving is not None:
            self._resolving.cancel()
        for client in list(self._clients):
            client.giveUp()

    def _stopSending(self) -> None:
        self._sending = False
        # What is due while connections are cut is due no more.
        self._stoppedAt = self._stoppedAt or self.clock()
        if self._pacer is not None:
            self._pacer.stop()
        if self._timeUp is not None:
            self._timeUp.cancel()
            self._timeUp = None
        if self._settled is not None:
            self._settled.cancel()
            self._settled = None

    def _checkOver(self) -> None:
        if self._clients or self._toOpen or self._due or self._over.called:
            return
        if self.workload.churn and self._sending:
            return
        self._stopSending()
        self._over.callback(None)

    def _oneIsDecided(self) -> None:
        """A connection is up or has failed: if that was the last, time begins."""
        self._connecting -= 1
        if self._givenUp:
            return
        if self._asked == self._connections and not self._connecting and self._ready:
            self._beginSending()

    # What a Connection tells.

    def connectionUp(self, client: Connection, connectNs: int | None) -> None:
        """
        A L{Connection} tells that it is connected.

        @param connectNs: since it was asked for; C{None}: there was no wait for it.
        """
        self.results.connectionEstablished(connectNs)
        if self._schedule is None and not self.results.firstAt:
            self.results.firstAt = self.clock()
        if not self.workload.churn:
            self._ready.add(client)
            self._oneIsDecided()

    def connectionSettled(self, client: Connection) -> None:
        """A L{Connection} tells that its outcome is known, before it closes."""
        view = kernelView(client.transport)
        if view is not None:
            self.results.kernel.add(*view)
        self._ready.discard(client)

    def closeConnection(self, close: Callable[[], None]) -> None:
        """
        A L{Connection} tells that it has done its job, and how to close it. With churn,
        that is what is measured, and done at once.
        """
        if self.workload.churn:
            close()
        else:
            self._slices.add(close)

    def connectionOver(self, client: Connection) -> None:
        """A L{Connection} tells that its transport is gone, or never came."""
        self._clients.discard(client)
        self._awaited.discard(client)
        if client.established:
            self.results.open -= 1
        elif not self.workload.churn:
            self._oneIsDecided()
        if self.workload.churn and self._mayChurn():
            self._openAnother()
        self._checkOver()

    def _mayChurn(self) -> bool:
        """Tell whether another connection takes the place of one that is over."""
        if self._givenUp:
            return False
        if self.workload.rate is not None:
            return len(self._due) > self._toOpen
        if self.workload.duration is not None:
            return self._sending
        assert self.workload.messagesPerConnection is not None
        total = self._connections * self.workload.messagesPerConnection
        return self._asked + self._toOpen < total

    def connectionFailed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> None:
        """
        A L{Connection} tells that it cannot do its job.

        @param peer: at the other end; C{None}, if it never was connected.
        """
        told = printable(addressText(peer)) if peer is not None else self._text
        # It may quote what the peer sent: its certificate, say.
        detail = printable(detail)
        self.results.connectionFailed(ConnectionFailure(number, told, kind, detail))
        if self.trace >= Trace.CONNECTIONS:
            _log.info(
                "connection {number} to {peer} failed: {kind}: {detail}",
                number=number,
                peer=told,
                kind=str(kind),
                detail=detail,
            )

    def traceClosing(self, number: int) -> None:
        """A L{Connection} tells that it has done its job and closes."""
        if self.trace >= Trace.CONNECTIONS:
            _log.info("closing connection {number}", number=number)

    def traceSending(self, number: int, data: bytes) -> None:
        """Tell of bytes that go out."""
        _log.info("sending {data} to connection {number}", data=dataText(data), number=number)

    def traceReceived(self, number: int, data: bytes) -> None:
        """Tell of bytes that came in."""
        _log.info(
            "received {data} from connection {number}", data=dataText(data), number=number
        )


class SingleProtocolFactory(Factory):
    """Hands out the one protocol that an attempt to connect is for."""

    noisy = False

    def __init__(self, client: Connection) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> Connection:  # type: ignore[override]
        return self._client


async def probe(
    reactor: IProbeReactor,
    endpoint: str | IStreamClientEndpoint,
    workload: Workload,
    connections: int = 2,
    patience: Patience | None = None,
) -> Results:
    """
    Open connections to an echo server, send each a workload, check every byte
    that comes back, and return the books.

    What fails is counted in them, by kind; only a mistake in the call raises.

    @param endpoint: a client endpoint string, or an endpoint.
    @param connections: how many, 1 or more.
    @raise EndpointError: if the string describes no endpoint.
    @raise ValueError: if C{connections} is less than 1.
    """
    return await EchoClientFactory(reactor, workload, connections, patience).run(endpoint)
