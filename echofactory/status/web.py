"""
The status over HTTP: read-only, and bounded.
"""

import json
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from importlib.resources import files
from time import perf_counter
from typing import Any

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
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

from echofactory.net.addresses import isLoopback, namesLoopback
from echofactory.net.endpoints import (
    EndpointError,
    checkServerEndpoint,
    serverEndpoint,
    startListening,
    unwrapped,
)
from echofactory.net.tracing import addressText
from echofactory.status.admission import Entrance
from echofactory.status.channel import Answer, BoundedHTTPFactory
from echofactory.status.turns import Turns
from echofactory.status.view import Status
from echofactory.values.checks import checkSeconds, checkWhole

_log = Logger()

_EVERY_S = 1.0
"""Seconds between two samples."""

_METRICS_PAUSE = 9
"""Times as long as writing the metrics took, they are not written anew: with thousands of
connections to count, that takes milliseconds, which the echo waits for."""

_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
    "/status.css": ("status.css", "text/css; charset=utf-8"),
    "/status.js": ("status.js", "text/javascript; charset=utf-8"),
}


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

    def __init__(self, status: Status, turns: Turns) -> None:
        self._status = status
        self._turns = turns
        self._registry = CollectorRegistry()
        self._registry.register(_StatusCollector(status))
        self._toldAt: object = None
        # Those who wait for what somebody else has asked for; C{None}: nobody has.
        self._waiting: list[Deferred[None]] | None = None
        self._told: dict[str, Any] = {}
        self._written: dict[str, bytes] = {}
        self._samples = 0
        self._metricsText = b""
        self._metricsUntil = 0.0
        self.loopbackOnly = False
        folder = files("echofactory.status")
        self._files = {
            path: Answer(HTTPStatus.OK, folder.joinpath(name).read_bytes(), kind)
            for path, (name, kind) in _FILES.items()
        }
        self._made: dict[str, Callable[[], Awaitable[Answer]]] = {
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

    async def to(self, method: str, path: str, hosts: Iterable[str]) -> Answer:
        """
        @param hosts: the C{Host} header; a program that leaves it out is not a browser.
        """
        # A page from elsewhere whose name was made to mean this machine (DNS
        # rebinding) would read what it liked.
        if self.loopbackOnly and not all(namesLoopback(host) for host in hosts):
            return Answer(HTTPStatus.MISDIRECTED_REQUEST, b"ask for localhost\n")
        if method not in ("GET", "HEAD"):
            return Answer(
                HTTPStatus.METHOD_NOT_ALLOWED,
                b"read-only: GET or HEAD\n",
                headers={"Allow": "GET, HEAD"},
            )
        if path in self._files:
            return self._files[path]
        if path in self._made:
            return await self._made[path]()
        return Answer(HTTPStatus.NOT_FOUND, b"not here\n")

    async def _metrics(self) -> Answer:
        began = perf_counter()
        if began >= self._metricsUntil:
            self._metricsText = generate_latest(self._registry)
            ended = perf_counter()
            self._metricsUntil = ended + _METRICS_PAUSE * (ended - began)
        return Answer(HTTPStatus.OK, self._metricsText, CONTENT_TYPE_PLAIN_0_0_4)

    async def _health(self) -> Answer:
        health = self._status.health
        code = HTTPStatus.OK if health == "ok" else HTTPStatus.SERVICE_UNAVAILABLE
        return Answer(code, f"{health}\n".encode())

    async def _factsAndView(self) -> Answer:
        await self._tell()
        return self._asJSON("/status.json", self._told)

    async def _view(self) -> Answer:
        """The page is spared the facts, which are as long again."""
        await self._tell()
        return self._asJSON("/view.json", self._told["view"])

    async def _tell(self) -> None:
        # Told and written but once for all who look within a second.
        while self._toldAt != (current := (self._samples, self._status.health)):
            if self._waiting is None:
                await self._tellOf(current)
            else:
                told: Deferred[None] = Deferred()
                self._waiting.append(told)
                await told
                await self._turns.next()

    async def _tellOf(self, current: object) -> None:
        self._waiting = []
        try:
            facts = await self._status.facts()
            self._told = {"facts": facts, "view": self._status.view(facts)}
            self._toldAt = current
            self._written.clear()
        finally:
            waiting, self._waiting = self._waiting, None
            for told in waiting:
                told.callback(None)

    def _asJSON(self, path: str, what: object) -> Answer:
        if path not in self._written:
            self._written[path] = json.dumps(what, separators=(",", ":")).encode()
        return Answer(HTTPStatus.OK, self._written[path], "application/json")


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
        deadlineS: float = 10.0,
    ) -> None:
        """
        @param endpoint: a server endpoint string, or an endpoint. Bound to the loopback
            interface, only requests for C{localhost} and loopback addresses are answered.
        @param connections: most that are open at once. If there are as many, a new one
            displaces the one that has waited longest for its peer.
        @param deadlineS: seconds from when a connection is accepted until it is cut,
            whatever comes.
        @raise EndpointError: if the string describes no endpoint, or begins with
            C{haproxy:}: connections that wait for their header would not have the bounds.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if a number is out of its range.
        """
        checkServerEndpoint("endpoint", endpoint)
        checkWhole("connections", connections)
        checkSeconds("deadlineS", deadlineS)
        self._status = status
        turns = Turns(reactor)
        self._answers = _Answers(status, turns)
        self._factory = BoundedHTTPFactory(
            reactor, self._answers.to, turns, connections, deadlineS
        )
        self._given = endpoint
        if isinstance(endpoint, str):
            if "haproxy" in unwrapped(endpoint)[0]:
                raise EndpointError(endpoint, ValueError("the status port takes no haproxy:"))
            endpoint = serverEndpoint(reactor, endpoint)
        self._endpoint = endpoint
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
        listening = startListening(self._endpoint, self._factory, self._given)
        self._pending = listening.addCallbacks(self._bound, self._failedLate)

    def _failedLate(self, reason: Failure) -> None:
        """None of Twisted's own endpoints fails after C{startService} has returned."""
        if reason.check(CancelledError) is None:
            _log.critical("{error}", error=reason.value)

    def _bound(self, port: IListeningPort) -> None:
        self._port = port
        if isinstance(port, Port):
            Entrance(port, self._factory.places)
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
