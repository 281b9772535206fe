"""
The HTTP service of a status. It is read-only, and its cost is bounded.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from importlib.resources import files
from time import perf_counter
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.internet.task import LoopingCall
from twisted.internet.tcp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.express.addresstext import addressText
from echofactory.net.addresses import isLoopback, namesLoopback
from echofactory.net.endpoints import (
    EndpointError,
    checkServerEndpoint,
    serverEndpoint,
    startListening,
    unwrapped,
)
from echofactory.status.admission import AdmittingSocket
from echofactory.status.channel import BoundedHTTPFactory, Response
from echofactory.status.taskqueue import TaskQueue
from echofactory.status.view import Status
from echofactory.values.checks import checkSeconds, checkWhole

_log = Logger()

_EVERY_S = 1.0
"""Seconds between two samples."""

_METRICS_PAUSE_FACTOR = 19
"""If writing the metrics took some time, the same text is served for this many times as long.
With thousands of connections, writing takes milliseconds, and the echo waits meanwhile. Both
formats together take at most a tenth of the time."""

_OPENMETRICS = "application/openmetrics-text"

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/charts.js": ("charts.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
}


def wantsOpenMetrics(accept: str) -> bool:
    """
    Return whether a scraper wants OpenMetrics rather than the text format of Prometheus.

    @param accept: the C{Accept} header, see RFC 9110, 12.5.1. Empty: no preference.
    """
    best = {_OPENMETRICS: 0.0, "text/plain": 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in best:
            weights = [each[2:] for each in parameters if each.startswith("q=")]
            try:
                weight = float(weights[0]) if weights else 1.0
            except ValueError:
                continue
            best[kind] = max(best[kind], weight)
    return best[_OPENMETRICS] > 0 and best[_OPENMETRICS] >= best["text/plain"]


class _MetricsText:
    """The metrics in one format."""

    def __init__(self, write: Callable[[], bytes], kind: str) -> None:
        self._write = write
        self._kind = kind
        self._text = b""
        self._until = 0.0

    def response(self) -> Response:
        began = perf_counter()
        if began >= self._until:
            self._text = self._write()
            ended = perf_counter()
            self._until = ended + _METRICS_PAUSE_FACTOR * (ended - began)
        return Response(HTTPStatus.OK, self._text, self._kind)


class _StatusCollector(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterable[Metric]:
        return self._status.collect()


class _RequestHandler:
    """
    Answers requests. Of HTTP, it knows only methods, paths and status codes.

    @ivar loopbackOnly: whether requests with another host than the loopback interface are
        refused.
    """

    def __init__(self, status: Status, tasks: TaskQueue) -> None:
        self._status = status
        self._tasks = tasks
        registry = CollectorRegistry()
        registry.register(_StatusCollector(status))
        self._plainText = _MetricsText(
            lambda: generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
        )
        self._openMetrics = _MetricsText(
            lambda: openmetrics.generate_latest(registry), openmetrics.CONTENT_TYPE_LATEST
        )
        self._currentAt: object = None
        # Requests that wait for the status, which another request reads. C{None}: no request
        # reads it.
        self._waiting: list[Deferred[None]] | None = None
        self._current: dict[str, Any] = {}
        self._encoded: dict[str, bytes] = {}
        self._samples = 0
        self.loopbackOnly = False
        folder = files("echofactory.status")
        self._files = {
            path: Response(HTTPStatus.OK, folder.joinpath(name).read_bytes(), kind)
            for path, (name, kind) in _FILES.items()
        }
        self._routes: dict[str, Callable[[], Awaitable[Response]]] = {
            "/healthz": self._health,
            "/status.json": self._factsAndView,
            "/view.json": self._view,
        }

    def sample(self) -> None:
        # Even if the sample fails, the last response is too old.
        self._samples += 1
        try:
            self._status.sample()
        except Exception:
            # An error that leaves this method would end the sampling.
            _log.failure("cannot take a status sample")

    async def handle(
        self, method: str, path: str, hosts: Iterable[str], accept: str
    ) -> Response:
        """
        Answer a request.

        @param method: the method.
        @param path: the path of the URL.
        @param hosts: the C{Host} headers. Browsers send one. Other programs can omit it.
        @param accept: the C{Accept} headers, joined with commas.
        """
        # DNS rebinding: a foreign web page whose name resolves to this machine could read
        # the status.
        if self.loopbackOnly and not all(namesLoopback(host) for host in hosts):
            return Response(
                HTTPStatus.MISDIRECTED_REQUEST, b"use localhost or a loopback address\n"
            )
        if method not in ("GET", "HEAD"):
            return Response(
                HTTPStatus.METHOD_NOT_ALLOWED,
                b"only GET and HEAD are supported\n",
                headers={"Allow": "GET, HEAD"},
            )
        if path in self._files:
            return self._files[path]
        if path == "/metrics":
            text = self._openMetrics if wantsOpenMetrics(accept) else self._plainText
            return text.response()
        if path in self._routes:
            return await self._routes[path]()
        return Response(HTTPStatus.NOT_FOUND, b"not found\n")

    async def _health(self) -> Response:
        health = self._status.health
        code = HTTPStatus.OK if health == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(code, f"{health}\n".encode())

    async def _factsAndView(self) -> Response:
        await self._refresh()
        return self._asJSON("/status.json", self._current)

    async def _view(self) -> Response:
        """The view without the facts: the page needs only half of C{/status.json}."""
        await self._refresh()
        return self._asJSON("/view.json", self._current["view"])

    async def _refresh(self) -> None:
        # The status is read and encoded once for all requests within a second.
        while self._currentAt != (current := (self._samples, self._status.health)):
            if self._waiting is None:
                await self._readStatus(current)
            else:
                ready: Deferred[None] = Deferred()
                self._waiting.append(ready)
                await ready
                await self._tasks.turn()

    async def _readStatus(self, current: object) -> None:
        self._waiting = []
        try:
            facts = await self._status.facts()
            self._current = {"facts": facts, "view": self._status.view(facts)}
            self._currentAt = current
            self._encoded.clear()
        finally:
            waiting, self._waiting = self._waiting, None
            for ready in waiting:
                ready.callback(None)

    def _asJSON(self, path: str, what: object) -> Response:
        if path not in self._encoded:
            self._encoded[path] = json.dumps(what, separators=(",", ":")).encode()
        return Response(HTTPStatus.OK, self._encoded[path], "application/json")


class StatusService(Service):
    """
    Serves C{/metrics}, C{/healthz}, C{/status.json}, C{/view.json} and the live page on
    an endpoint.

    While the service runs, it takes a sample once a second. It can be started again.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str | IStreamServerEndpoint,
        status: Status,
        connections: int = 100,
        deadlineS: float = 10.0,
    ) -> None:
        """
        @param reactor: the clock of the samples and deadlines. It also listens, if
            C{endpoint} is a string.
        @param endpoint: a server endpoint string, or an endpoint. If it is bound to the
            loopback interface, only requests for C{localhost} and loopback addresses are
            answered.
        @param status: the status to serve.
        @param connections: maximum number of open connections, 1 or more. If all are taken,
            a new connection displaces the one that has waited longest for its peer.
            Default: 100.
        @param deadlineS: seconds after which a connection is aborted, from when it is
            accepted, more than 0. Default: 10.
        @raise EndpointError: if the string describes no endpoint, or begins with
            C{haproxy:}. Connections that wait for a proxy header would not be bounded.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if a number is out of its range.
        """
        checkServerEndpoint("endpoint", endpoint)
        checkWhole("connections", connections)
        checkSeconds("deadlineS", deadlineS)
        self._status = status
        tasks = TaskQueue(reactor)
        self._handler = _RequestHandler(status, tasks)
        self._factory = BoundedHTTPFactory(
            reactor, self._handler.handle, tasks, connections, deadlineS
        )
        self._given = endpoint
        if isinstance(endpoint, str):
            if "haproxy" in unwrapped(endpoint)[0]:
                reason = ValueError("haproxy: is not supported on the status port")
                raise EndpointError(endpoint, reason)
            endpoint = serverEndpoint(reactor, endpoint)
        self._endpoint = endpoint
        self._port: IListeningPort | None = None
        self._pending: Deferred[None] | None = None
        self._sampling = LoopingCall(self._handler.sample)
        self._sampling.clock = reactor

    @property
    def address(self) -> IAddress | None:
        """The address that the service listens on. C{None}: it does not listen."""
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
        Bind the endpoint, unless C{privilegedStartService} did, and start to take samples.

        @raise ListenError: as L{privilegedStartService}.
        """
        if self._pending is None:
            self._listen()
        super().startService()
        self._status.begin()
        self._sampling.start(_EVERY_S, now=False)

    def _listen(self) -> None:
        listening = startListening(self._endpoint, self._factory, self._given)
        self._pending = listening.addCallbacks(self._bound, self._failedLate)

    def _failedLate(self, reason: Failure) -> None:
        """None of Twisted's own endpoints fails after C{startService} has returned."""
        if reason.check(CancelledError) is None:
            _log.critical("{error}", error=reason.value)

    def _bound(self, port: IListeningPort) -> None:
        self._port = port
        if isinstance(port, Port):
            AdmittingSocket(port, self._factory.slots)
        address = port.getHost()
        self._handler.loopbackOnly = isLoopback(address)
        _log.info("status page on {address}", address=addressText(address))

    def stopService(self) -> Deferred[None]:
        """
        Stop.

        @return: fires when the port and every connection is closed.
        """
        super().stopService()
        if self._sampling.running:
            self._sampling.stop()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        pending, self._pending = self._pending, None
        port, self._port = self._port, None
        if pending is not None:
            pending.cancel()
        if port is not None:
            try:
                await maybeDeferred(port.stopListening)
            except Exception:
                _log.failure("while closing {port}", port=port)
        await self._factory.close()
