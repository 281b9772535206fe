"""
A run of the client: N connections to an echo server, and the books of what came of them.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter_ns
from typing import TypeVar

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory

from echofactory.client.connection import Connection, SingleProtocol
from echofactory.client.datagram import DatagramClient
from echofactory.client.lookup import lookUpProblem
from echofactory.client.opener import Opener
from echofactory.client.receivelag import ReplySampler
from echofactory.client.reconnect import Reconnects
from echofactory.client.rotation import Rotation
from echofactory.client.sender import Gate, Sender
from echofactory.client.settings import Opening, Patience
from echofactory.client.slices import Slices
from echofactory.client.stream import EchoClient
from echofactory.client.target import NOWHERE, Destination, Target, checkClientEndpoint
from echofactory.client.ticker import Ticker
from echofactory.client.tracelog import TraceLog
from echofactory.client.watch import Watch
from echofactory.net.tracing import Trace
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.results.path import Datagrams
from echofactory.results.warnings import addWarnings
from echofactory.values.checks import checkSeconds, checkType, checkWhole
from echofactory.workload.datagrams import refuseUnfit
from echofactory.workload.settings import Workload
from echofactory.workload.share import WHOLE_RUN, Share

C = TypeVar("C", bound=Connection)


class EchoClientFactory(ClientFactory):
    """
    Opens N connections to an echo server, each an L{EchoClient}, or over UDP a
    L{DatagramClient}, and keeps the books of the run.

    A factory serves one run. The L{Opener} asks for connections, the L{Sender} says when
    messages are sent, the L{Watch} fails what takes too long. This class has them work
    together::

        ========== ==================================== =====================================
        state      what happens                         left when
        ========== ==================================== =====================================
        new        nothing                              run is called
        looking up the name of the target is looked up  there is an address; or none
        opening    connections are asked for            each is established or has failed
        sending    messages go out (with churn, in      the Sender has finished; without a
                   connections of their own, from the   schedule and a duration: each
                   beginning)                           connection has sent its share
        finishing  messages that are out come back      the last connection is over
        over       run() returns the results
        ========== ==================================== =====================================

    It has over 20 methods: the public ones, those of L{Run<echofactory.client.connection.Run>},
    and a private one for each transition.

    From each state, L{interrupt} and L{endEarly} lead to C{finishing} by cutting what is open.

    @ivar reactor: what connections are made and timed by.
    @ivar workload: what each connection sends.
    @ivar patience: the timeouts.
    @ivar clock: returns nanoseconds.
    @ivar results: the books, true at any time during the run.
    @ivar traceLog: logs what happens to connections.
    @ivar watch: fails the connections that take too long.
    @ivar sender: when messages are sent.
    @ivar ticker: closes the intervals, and tells who watches.
    @ivar sampler: takes the receive lag of some replies.
    @ivar destination: where the connections go.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        workload: Workload,
        connections: int = 2,
        patience: Patience | None = None,
        trace: Trace = Trace.NONE,
        clock: Callable[[], int] = perf_counter_ns,
        opening: Opening | None = None,
        interval: float = 1.0,
        spin: bool = False,
        share: Share = WHOLE_RUN,
        gate: Gate | None = None,
    ) -> None:
        """
        @param connections: how many in all shares, 1 or more; with C{churn}, how many at once.
        @param patience: the timeouts; C{None}: their defaults.
        @param clock: C{perf_counter_ns}, or a test's. A schedule needs the former.
        @param opening: how connections are asked for; C{None}: all at once.
        @param interval: seconds; the results are kept by pieces of this length.
        @param spin: whether to keep a core awake, so that messages are sent on time.
        @param share: which connections and messages of the run this factory has.
        @param gate: when the sending begins; C{None}: as soon as it can.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if C{connections} is less than 1, C{interval} not more than 0, or
            C{spin} is set without a rate.
        """
        checkType("workload", workload, Workload)
        checkWhole("connections", connections)
        if patience is not None:
            checkType("patience", patience, Patience)
        checkType("trace", trace, Trace)
        if opening is not None:
            checkType("opening", opening, Opening)
        checkSeconds("interval", interval)
        self.reactor = reactor
        self.workload = workload
        self.patience = patience or Patience()
        self.clock = clock
        self.results = workload.books(share.count(connections), interval)
        self.traceLog = TraceLog(trace)
        self.watch = Watch(reactor, self.patience, clock)
        self.sampler = ReplySampler(self.results, clock)
        self.ticker = Ticker(reactor, clock, self.results)
        self.sender = Sender(
            reactor, clock, self.results,
            workload.schedule(connections, share), workload.sending, workload.warmUp,
            self._deliver, lambda: self._due, self._finish, self.ticker.align, spin,
        )  # fmt: skip
        self.destination = NOWHERE
        self._opening = opening or Opening()
        self._opener = Opener(reactor, self._opening.rate, clock, self._ask, share)
        self._connections, self._share = connections, share
        self._opener.toAsk = self._places = share.count(connections)
        self._gate, self._alone = gate or (lambda begin: begin(clock())), gate is None
        self._reconnects = Reconnects(
            reactor, clock, self.results, self._places, connections, self._opener
        )
        self._slices = Slices(reactor)
        self._kind: type[Connection] = EchoClient
        self._clients: set[Connection] = set()
        # How many connections are neither established nor failed.
        self._undecided = self._places
        # The connections that the schedule's messages go to in turn; and those messages
        # that wait for a connection of their own (churn).
        self._ready: Rotation[Connection] = Rotation()
        self._due: deque[int] = deque()
        self._begun = self._cut = False
        self._resolving: Deferred[str | None] | None = None
        self._over: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> EchoClient:  # type: ignore[override]
        """Make the next connection's protocol, for endpoints that ask the factory itself."""
        self._opener.asked += 1
        return self._next(EchoClient)

    def _next(self, kind: type[C]) -> C:
        """Make the next connection."""
        if self.workload.churn:
            self.results.requested += 1
        client = kind(self, self._share.number(self._opener.asked))
        self._reconnects.numbered(client.number)
        self._clients.add(client)
        self.watch.add(client)
        return client

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
        self.destination = self.traceLog.destination = Destination.of(endpoint)
        self.results.target = self.destination.description
        if self.destination.datagrams:
            refuseUnfit(self.workload)
            self._kind = DatagramClient
            self.results.datagrams = Datagrams()

        self.results.beganAt = self.clock()
        self.watch.start()
        self.ticker.start()
        try:
            if isinstance(endpoint, Target):
                await self._lookUp(endpoint)
            if not self._over.called and not self._cut:
                if self.workload.churn:
                    self._gate(self._beginSending)
                else:
                    self._opener.begin(self.results.beganAt)
            self._checkOver()
            await self._over
        finally:
            self.watch.stop()
            self._cutAll()
            self.ticker.stop()
            self.results.elapsedNs = self.clock() - self.results.beganAt
            self.sender.tellAll()
        if self._alone:
            addWarnings(self.results)
        return self.results

    async def _lookUp(self, target: Target) -> None:
        """Look up the target's name; without an address, every connection has failed."""
        looking = lookUpProblem(target, self.patience.connect, self.reactor)
        self._resolving = Deferred.fromCoroutine(looking)
        try:
            problem = await self._resolving
        except CancelledError:
            if not self.results.interrupted:
                raise
            return
        if problem is not None:
            self.results.requested = self._places
            for place in range(1, self._places + 1):
                self.connectionFailed(self._share.number(place), None, FailureKind.DNS, problem)
            self._opener.stop()
            self._checkOver()

    def interrupt(self) -> None:
        """Cut what is open, open nothing more, and end the run with its results."""
        if not self._over.called:
            self.results.interrupted = True
            self._cutAll()

    def endEarly(self) -> None:
        """End a run whose outcome is certain, in the same way."""
        if not self._over.called:
            self.results.endedEarly = True
            self._cutAll()

    def soFar(self) -> Results:
        """Return the present books. They make a report while the run goes on."""
        elapsedNs = self.clock() - self.results.beganAt
        self.results.setAside()
        self._reconnects.tell()
        results = replace(self.results, elapsedNs=elapsedNs, underWay=True)
        self.sender.tellSoFar(results)
        return results

    # Opening and sending

    def _ask(self) -> None:
        """Ask for a connection."""
        client = self._next(self._kind)
        self.traceLog.starting(client.number)
        if self._due:
            # A connection of its own for a message that is due (churn).
            client.messageDue(self._due.popleft())
            client.finish()
        client.connecting = maybeDeferred(self._endpoint.connect, SingleProtocol(client))
        client.connecting.addErrback(client.notConnected)

    def _beginSending(self, now: int) -> None:
        if self._cut or self._over.called:
            return
        self._reconnects.begin(now)
        if self.workload.rate is not None and self.workload.churn:
            # One for each message, when it is due.
            self._opener.toAsk = 0
        self.sender.begin(now)
        if self.workload.rate is not None:
            self.ticker.align(now)
        if self.workload.churn:
            self._opener.begin(now)

    def _deliver(self, dueAt: int) -> None:
        """A message is due: the next connection's turn."""
        self.results.sendLag.record(max(0, perf_counter_ns() - dueAt))
        if self.workload.churn:
            self._due.append(dueAt)
            if len(self._clients) + self._opener.toAsk < self._places:
                self._opener.askAnother()
        elif self._ready:
            self._ready.next().messageDue(dueAt)

    def _finish(self) -> None:
        """Begin no other message; what is under way goes to its end."""
        bounded = self.workload.sending is not None
        self.sender.stop()
        self._reconnects.stop()
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
            self._opener.stop()
            self._due.clear()
        self._checkOver()

    def _mayChurn(self) -> bool:
        """Tell whether another connection takes the place of one that is over."""
        if self.workload.rate is not None:
            return len(self._due) > self._opener.toAsk
        if (each := self.workload.messagesPerConnection) is None:
            return self.sender.active
        total = self._share.count(self._connections * each)
        return self._opener.asked + self._opener.toAsk < total

    # Ending

    def _cutAll(self) -> None:
        """Open nothing more, send nothing more, and cut what is open."""
        self._cut = True
        self._reconnects.stop()
        self._opener.stop()
        self._due.clear()
        self._slices.clear()
        self.sender.stop()
        if self._resolving is not None:
            self._resolving.cancel()
        for client in list(self._clients):
            client.giveUp()
        self._checkOver()

    def _checkOver(self) -> None:
        if self._clients or self._opener.toAsk or self._due or self._over.called:
            return
        if self._reconnects.waiting or (self.workload.churn and self.sender.active):
            return
        self.sender.stop()
        self._over.callback(None)

    def _oneIsDecided(self, first: bool) -> None:
        """A connection is established or has failed: after the last first one, send."""
        self._undecided -= first
        if not self._undecided and not self.results.established:
            # There is nothing to connect to.
            self._reconnects.stop()
        if not (self._cut or self._undecided or self._reconnects.begun) and self._ready:
            self._gate(self._beginSending)

    def connectionUp(self, client: Connection, connectNs: int | None) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self.results.connectionEstablished(connectNs)
        if self.workload.rate is None and not self.results.firstAt:
            self.results.firstAt = self.clock()
        if not self.workload.churn:
            self._ready.add(client)
            self._oneIsDecided(self._reconnects.up(client.number))

    def connectionSettled(self, client: Connection) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self._ready.discard(client)

    def closeConnection(self, close: Callable[[], None]) -> None:
        """
        See L{Run<echofactory.client.connection.Run>}. With churn, closing is part of what
        is measured, and not put off.
        """
        if self.workload.churn:
            close()
        else:
            self._slices.add(close)

    def connectionFailed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self.results.connectionFailed(self.traceLog.failed(number, peer, kind, detail))
        self._reconnects.failed(number)

    def connectionOver(self, client: Connection) -> None:
        """See L{Run<echofactory.client.connection.Run>}."""
        self._clients.discard(client)
        self.watch.discard(client)
        first = self._reconnects.over(client.number)
        if client.established:
            self.results.connectionClosed()
        elif not self.workload.churn:
            self._oneIsDecided(first)
        if self.workload.churn and not self._cut and self._mayChurn():
            self._opener.askAnother()
        self._checkOver()
