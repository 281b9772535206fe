"""
The status over HTTP: read-only, and bounded.
"""

import json
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.resources import files
from io import BytesIO
from typing import Any, cast

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from twisted.application.service import Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocolNegotiationFactory,
    IReactorTime,
    IStreamServerEndpoint,
    ITCPTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request, datetimeToString
from zope.interface import implementer

from echofactory.hosts import isLoopback, namesLoopback
from echofactory.listening import ListenError, serverEndpoint
from echofactory.server import Refusal
from echofactory.status.view import Status
from echofactory.tally import Tally
from echofactory.trace import addressText

_log = Logger()

_EVERY_S = 1.0
"""Seconds between two samples."""

_CLOSING_S = 1.0
"""Seconds that a stop leaves to HTTP connections to take what was sent to them."""

_TEXT = "text/plain; charset=utf-8"

_HEADERS = {
    "Cache-Control": "no-store",
    # The page fetches nothing but its own files and figures, and nobody frames it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer has."""

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
}


@dataclass(frozen=True)
class _Answer:
    code: HTTPStatus
    body: bytes
    kind: str = _TEXT
    headers: dict[str, str] = field(default_factory=dict)


class _StatusCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        return self._status.collect()


class _Answers:
    """
    Answers requests; of HTTP it knows but paths and codes.

    @ivar loopbackOnly: whether requests for any other host are refused.
    """

    def __init__(self, status: Status) -> None:
        self._status = status
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(status))
        self._toldAt: object = None
        self._told: dict[str, Any] = {}
        self._written: dict[str, bytes] = {}
        self._samples = 0
        self.loopbackOnly = False
        folder = files("echofactory.status")
        self._files = {
            path: _Answer(HTTPStatus.OK, folder.joinpath(name).read_bytes(), kind)
            for path, (name, kind) in _FILES.items()
        }
        self._made: dict[str, Callable[[], Awaitable[_Answer]]] = {
            "/metrics": self._metrics,
            "/healthz": self._health,
            "/status.json": self._factsAndView,
            "/view.json": self._view,
        }

    def sample(self) -> None:
        # Even if the sample fails, the answer before it is a second old.
        self._samples += 1
        try:
            self._status.sample()
        except Exception:
            # An error that leaves here ends sampling: the page would show old figures.
            _log.failure("while a sample was taken")

    async def to(self, method: str, path: str, hosts: Iterable[str]) -> _Answer:
        """
        @param hosts: the C{Host} header; a program that leaves it out is not a browser.
        """
        # A page from elsewhere whose name was made to mean this machine (DNS
        # rebinding) would read what it liked.
        if self.loopbackOnly and not all(namesLoopback(host) for host in hosts):
            return _Answer(HTTPStatus.MISDIRECTED_REQUEST, b"ask for localhost\n")
        if method not in ("GET", "HEAD"):
            return _Answer(
                HTTPStatus.METHOD_NOT_ALLOWED,
                b"read-only: GET or HEAD\n",
                headers={"Allow": "GET, HEAD"},
            )
        if path in self._files:
            return self._files[path]
        if path in self._made:
            return await self._made[path]()
        return _Answer(HTTPStatus.NOT_FOUND, b"not here\n")

    async def _metrics(self) -> _Answer:
        return _Answer(HTTPStatus.OK, generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4)

    async def _health(self) -> _Answer:
        health = self._status.health
        code = HTTPStatus.OK if health == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
        return _Answer(code, f"{health}\n".encode())

    async def _factsAndView(self) -> _Answer:
        await self._tell()
        return self._asJSON("/status.json", self._told)

    async def _view(self) -> _Answer:
        """The page is spared the facts, which are as long again."""
        await self._tell()
        return self._asJSON("/view.json", self._told["view"])

    async def _tell(self) -> None:
        # Told and written but once for all who look within a second.
        current = (self._samples, self._status.health)
        if self._toldAt != current:
            facts = await self._status.facts()
            self._told = {"facts": facts, "view": self._status.view(facts)}
            self._toldAt = current
            self._written.clear()

    def _asJSON(self, path: str, what: object) -> _Answer:
        if path not in self._written:
            self._written[path] = json.dumps(what, separators=(",", ":")).encode()
        return _Answer(HTTPStatus.OK, self._written[path], "application/json")


class _Request(Request):
    """A request, answered by the factory's L{_Answers}."""

    channel: "_Channel"

    def gotLength(self, length: int | None) -> None:
        """Twisted would put the body into memory, or a file."""
        self.content = BytesIO()

    def handleContentChunk(self, data: bytes) -> None:
        """No request that is answered has a body."""

    def process(self) -> None:
        Deferred.fromCoroutine(self._respond())

    async def _respond(self) -> None:
        over = self.notifyFinish()
        over.addErrback(lambda _: None)
        try:
            answer = await self.channel.factory.answers.to(
                self.method.decode("latin-1"),
                self.path.decode("latin-1"),
                [host.decode("latin-1") for host in self._headers("Host")],
            )
        except Exception:
            _log.failure("while the status was asked for")
            answer = _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"the log says why\n")
        if over.called:
            return
        self.setResponseCode(answer.code.value, answer.code.phrase.encode())
        for name, value in {
            "Date": datetimeToString().decode(),
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            **_HEADERS,
            **answer.headers,
        }.items():
            self.setHeader(name, value)
        self.write(answer.body)
        self.finish()

    def _headers(self, name: str) -> list[bytes]:
        return list(self.requestHeaders.getRawHeaders(name.encode(), []))


class _Channel(HTTPChannel):
    """An HTTP connection, which the factory knows of."""

    factory: "_StatusFactory"
    requestFactory = _Request

    def connectionMade(self) -> None:
        self.factory.channels.add(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        self.factory.channelClosed(self)

    def timeoutConnection(self) -> None:
        """Twisted's own says so in the log, each time."""
        self.cut()

    def cut(self) -> None:
        cast(ITCPTransport, self.transport).abortConnection()


@implementer(IProtocolNegotiationFactory)
class _StatusFactory(HTTPFactory):
    """
    Makes HTTP connections, up to a limit.

    @ivar channels: the open ones.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(
        self, reactor: IReactorTime, answers: _Answers, connections: int, idleS: float
    ) -> None:
        super().__init__(timeout=idleS, reactor=reactor)
        self.answers = answers
        self.channels: set[_Channel] = set()
        self._connections = connections
        self._empty: Deferred[None] = succeed(None)

    def acceptableProtocols(self) -> list[bytes]:
        """Without this, a TLS client that asks for a protocol, as browsers do, fails."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Not even an empty access log, nor its clock."""

    def stopFactory(self) -> None:
        """See L{startFactory}."""

    def log(self, request: Request) -> None:
        """Nothing, for each request."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # type: ignore[override]
        if len(self.channels) >= self._connections:
            return Refusal()
        return cast(Protocol, super().buildProtocol(addr))

    def channelClosed(self, channel: _Channel) -> None:
        self.channels.discard(channel)
        if not self.channels and not self._empty.called:
            self._empty.callback(None)

    async def close(self) -> None:
        """Close the connections; those that take too long are cut."""
        if not self.channels:
            return
        self._empty = Deferred()
        for channel in list(self.channels):
            channel.loseConnection()
        try:
            await self._empty.addTimeout(_CLOSING_S, self.reactor)
        except TimeoutError:
            self._empty = Deferred()
            for channel in list(self.channels):
                channel.cut()
            await self._empty


class StatusService(Service):
    """
    Serves C{/metrics}, C{/healthz}, C{/status.json}, C{/view.json} and the live page on
    an endpoint.

    It samples once a second, and only while it runs. It can be started again.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str | IStreamServerEndpoint,
        status: Status,
        connections: int = 100,
        idleS: float = 60.0,
    ) -> None:
        """
        @param endpoint: a server endpoint string, or an endpoint. Bound to the loopback
            interface, only requests for C{localhost} and loopback addresses are answered.
        @param connections: open at once; more are closed.
        @param idleS: seconds without a request, after which a connection is cut.
        @raise EndpointError: if the string describes no endpoint.
        """
        self._status = status
        self._answers = _Answers(status)
        self._factory = _StatusFactory(reactor, self._answers, connections, idleS)
        self._given = endpoint
        self._refusals = Tally(reactor, self._tellRefusals)
        self._endpoint = (
            serverEndpoint(reactor, endpoint, self._refuseHeader)
            if isinstance(endpoint, str)
            else endpoint
        )
        self._port: IListeningPort | None = None
        self._pending: Deferred[None] | None = None
        self._sampling = LoopingCall(self._answers.sample)
        self._sampling.clock = reactor

    @property
    def address(self) -> IAddress | None:
        """Where it listens now; C{None}: it does not."""
        return None if self._port is None else self._port.getHost()

    def privilegedStartService(self) -> None:
        """
        Bind the endpoint.

        @raise ListenError: if it cannot be bound.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """
        Bind the endpoint, unless C{privilegedStartService} did, and start to sample.

        @raise ListenError: as that does.
        """
        if self._pending is None:
            self._listen()
        super().startService()
        self._status.begin()
        self._sampling.start(_EVERY_S, now=False)

    def _listen(self) -> None:
        errors: list[ListenError] = []
        starting = True

        def failed(reason: Failure) -> None:
            if reason.check(CancelledError):
                return
            error = ListenError(self._given, reason.value)
            if starting:
                errors.append(error)
            else:
                _log.critical("{error}", error=error)

        self._pending = maybeDeferred(self._endpoint.listen, self._factory).addCallbacks(
            self._bound, failed
        )
        if errors:
            self._pending = None
            raise errors[0]
        starting = False

    def _bound(self, port: IListeningPort) -> None:
        self._port = port
        address = port.getHost()
        self._answers.loopbackOnly = isLoopback(address)
        _log.info("status page on {address}", address=addressText(address))

    def stopService(self) -> Deferred[None]:
        """
        Stop sampling and serving.

        @return: fires when the port and every connection is closed.
        """
        super().stopService()
        if self._sampling.running:
            self._sampling.stop()
        return Deferred.fromCoroutine(self._stop())

    def _refuseHeader(self, peer: IAddress, why: str) -> None:
        self._refusals.add("header", f"{addressText(peer)} ({why})")

    def _tellRefusals(self, counts: Counter[str], first: str) -> None:
        _log.warn(
            "status page: closed {count} without a valid PROXY header, the first from {peer}",
            count=counts.total(),
            peer=first,
        )

    async def _stop(self) -> None:
        pending, self._pending = self._pending, None
        port, self._port = self._port, None
        if pending is not None:
            pending.cancel()
        if port is not None:
            await maybeDeferred(port.stopListening)
        self._refusals.close()
        await self._factory.close()
