"""
The client's factory: it opens the N connections and keeps the run's books.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter_ns

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, maybeDeferred
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import ClientFactory, Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from echofactory.client.protocol import EchoClient
from echofactory.client.target import IProbeReactor, Target
from echofactory.results import ConnectionFailure, FailureKind, Results
from echofactory.trace import Trace, dataText
from echofactory.workload import Workload

_log = Logger()

_OPENED_AT_ONCE = 32
"""Connections asked for before the reactor has its turn: while it waits for
one, it notices of no other that it is connected."""


@dataclass(frozen=True, kw_only=True)
class Patience:
    """
    How long to wait, in seconds; what takes longer has failed. It is looked
    after ten times in the shorter of the two, so what fails may be a tenth
    late.

    @raise ValueError: from the constructor, naming the field and the value.
    """

    connect: float = 10.0
    """From asking for a connection to being connected, TLS handshake included."""
    reply: float = 10.0
    """For the next byte, while something is outstanding."""

    def __post_init__(self) -> None:
        for name in ("connect", "reply"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not more than 0 s")


class EchoClientFactory(ClientFactory):
    """
    Opens N connections to an echo server, each an L{EchoClient}, all at once.

    A factory serves one run.

    @ivar results: the books, true at any time during the run.
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
    ) -> None:
        """
        @param connections: how many, 1 or more.
        @param clock: nanoseconds, never set back.
        @raise ValueError: if C{connections} is less than 1.
        """
        if connections < 1:
            raise ValueError(f"connections: {connections} is not 1 or more")
        self.workload = workload
        self.patience = patience or Patience()
        self.trace = trace
        self.clock = clock
        self.results = Results(target="", workload=workload.asJSON(), requested=connections)
        self._reactor = reactor
        self._clients: set[EchoClient] = set()
        self._begun = False
        self._asked = 0
        self._opening: IDelayedCall | None = None
        self._resolving: Deferred[None] | None = None
        self._over: Deferred[None] = Deferred()

    def buildProtocol(self, addr: IAddress | None) -> EchoClient:  # type: ignore[override]
        """Make the next connection's protocol."""
        self._asked += 1
        client = EchoClient(self, self._asked)
        self._clients.add(client)
        return client

    async def run(self, endpoint: str | IStreamClientEndpoint) -> Results:
        """
        Open the connections and wait until the last one is closed.

        Cancelling this cuts what is open; L{interrupt} does so too, and has
        the results of what was done.

        @param endpoint: a client endpoint string, or an endpoint.
        @raise EndpointError: if the string describes no endpoint.
        @raise RuntimeError: if this factory has run already.
        """
        if self._begun:
            raise RuntimeError("an EchoClientFactory serves one run")
        self._begun = True
        if isinstance(endpoint, str):
            endpoint = Target(self._reactor, endpoint, self.patience.connect)
        self._endpoint = endpoint
        self._text = self.results.target = repr(endpoint)
        if isinstance(endpoint, Target):
            self._text, self.results.target = endpoint.text, endpoint.description

        startedAt = self.clock()
        sweeper = LoopingCall(self._sweep)
        sweeper.clock = self._reactor
        try:
            if isinstance(endpoint, Target):
                await self._resolve(endpoint)
            if self._asked < self.results.requested and not self.results.interrupted:
                sweeper.start(min(self.patience.connect, self.patience.reply, 10.0) / 10, False)
                self._openSome()
                await self._over
        finally:
            if sweeper.running:
                sweeper.stop()
            self._giveUp()
            self.results.elapsedNs = self.clock() - startedAt
        return self.results

    def interrupt(self) -> None:
        """Cut what is open, open nothing more, and end the run with its results."""
        if not self._over.called:
            self.results.interrupted = True
            self._giveUp()
            self._checkOver()

    async def _resolve(self, target: Target) -> None:
        """Look up the target's name; without an address, every connection has failed."""
        self._resolving = Deferred.fromCoroutine(target.resolve())
        self._resolving.addTimeout(self.patience.connect, self._reactor)
        try:
            await self._resolving
        except (DNSLookupError, TimeoutError) as reason:
            detail = str(reason)
            if isinstance(reason, TimeoutError):
                detail = f"no answer within {self.patience.connect:g} s"
            while self._asked < self.results.requested:
                self._asked += 1
                self.connectionFailed(self._asked, FailureKind.DNS, detail)
            self._checkOver()
        except CancelledError:
            if not self.results.interrupted:
                raise

    def _openSome(self) -> None:
        """Ask for some connections, and come back for the others."""
        self._opening = None
        missing = self.results.requested - self._asked
        for _ in range(min(missing, _OPENED_AT_ONCE)):
            self._open()
        if missing > _OPENED_AT_ONCE:
            self._opening = self._reactor.callLater(0, self._openSome)
        self._checkOver()

    def _open(self) -> None:
        client = self.buildProtocol(None)
        if self.trace >= Trace.CONNECTIONS:
            _log.info(
                "starting connection {number} to {target}",
                number=client.number,
                target=self._text,
            )
        client.connecting = maybeDeferred(self._endpoint.connect, _Only(client))
        client.connecting.addErrback(client.notConnected)

    def _sweep(self) -> None:
        now = self.clock()
        for client in list(self._clients):
            client.sweep(now)

    def _giveUp(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            self._opening = None
        if self._resolving is not None:
            self._resolving.cancel()
        for client in list(self._clients):
            client.giveUp()

    def _checkOver(self) -> None:
        opened = self.results.interrupted or self._asked == self.results.requested
        if opened and not self._clients and not self._over.called:
            self._over.callback(None)

    def connectionOver(self, client: EchoClient) -> None:
        """An L{EchoClient} tells that its transport is gone, or never came."""
        self._clients.discard(client)
        if client.established:
            self.results.open -= 1
        self._checkOver()

    def connectionFailed(self, number: int, kind: FailureKind, detail: str) -> None:
        """An L{EchoClient} tells that it cannot do its job."""
        self.results.connectionFailed(ConnectionFailure(number, kind, detail))
        if self.trace >= Trace.CONNECTIONS:
            _log.info(
                "connection {number} failed: {kind}: {detail}",
                number=number,
                kind=str(kind),
                detail=detail,
            )

    def traceClosing(self, number: int) -> None:
        """An L{EchoClient} tells that it has done its job and closes."""
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


class _Only(Factory):
    """Hands out the one protocol that an attempt to connect is for."""

    noisy = False

    def __init__(self, client: EchoClient) -> None:
        self._client = client

    def buildProtocol(self, addr: IAddress | None) -> EchoClient:  # type: ignore[override]
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
