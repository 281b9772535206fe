"""
The server as a Twisted service, and a service that stops its services in order.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from twisted.application.service import MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError,
    gatherResults,
    maybeDeferred,
)
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.express.addresstext import addressText, hostPortText
from echofactory.express.reactor import reactorBehind
from echofactory.net.endpoints import (
    ListenError,
    checkServerEndpoint,
    serverEndpoint,
    startListening,
)
from echofactory.net.proxyprotocol import HEADER_TIMEOUT, HeaderFactory, headerFactories
from echofactory.net.tracing import tracedAddressText
from echofactory.net.udp import DatagramPort
from echofactory.server.counts import Counts, PeerCounts, WorkerState
from echofactory.server.datagrams import DatagramCounts, EchoDatagrams
from echofactory.server.factory import EchoFactory
from echofactory.server.faults.echo import FaultyEchoFactory
from echofactory.server.guard import DEFAULT_RATE_PER_SOURCE, DatagramGuard
from echofactory.server.settings import ServerSettings
from echofactory.values.checks import checkItems, checkRate, checkSeconds, checkType, checkWhole
from echofactory.values.quantities import counted

_log = Logger()


def _checkHostAndPort(field: str, value: Any) -> None:
    accepted = "a host and a port, such as ('127.0.0.1', 7007)"
    checkType(field, value, tuple, accepted)
    if len(value) != 2:
        raise ValueError(f"{field}: {value!r} is not {accepted}")
    checkType(f"{field}: host", value[0], str)
    checkWhole(f"{field}: port", value[1], 0, 65535)


class EchoService(Service):
    """
    Serves one L{EchoFactory} on any number of endpoints, and echoes over UDP.

    A start binds all ports or none. A stop closes the ports and waits up to C{drain}
    seconds for open connections. Then it aborts the connections that are still open, and
    logs their number. Connections through a proxy have at most L{HEADER_TIMEOUT} of these
    seconds to send their header. The service can be started again.

    The reactor measures the times. Unless L{useMonotonicTime} was called, the reactor's
    time follows the wall clock.

    The states of the service:

     - stopped: there is no port. C{startService} leads to serving.
     - serving: the ports are open. C{stopService} leads to reading.
     - reading (C{_reading} is set): the ports are closed. The service waits for the headers
       of connections through a proxy. The last header, the timeout or L{cut} leads to
       draining.
     - draining (C{_waiting} is set): the service waits for open connections. The last
       close leads to stopped. The timeout or L{cut} aborts the connections first.

    L{draining} is true in the last two states.

    @ivar factory: serves the connections.
    @ivar datagramCounts: the counts of the datagrams.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoints: Sequence[str | IStreamServerEndpoint],
        factory: EchoFactory,
        drain: float = 5.0,
        datagrams: Sequence[tuple[str, int]] = (),
        datagramRate: float = DEFAULT_RATE_PER_SOURCE,
    ) -> None:
        """
        @param reactor: the clock of the service. It also listens on UDP, and on endpoints
            that are given as strings.
        @param endpoints: server endpoint strings, or endpoints.
        @param factory: serves the connections.
        @param drain: seconds that a stop waits for open connections, 0 or more.
            Default: 5.
        @param datagrams: hosts and ports to echo on over UDP. Port 0: the system chooses a
            port. Default: none.
        @param datagramRate: maximum number of answers per second to one source, 1 or more.
            Default: 1,000. L{DatagramGuard} defines a source.
        @raise EndpointError: if a string describes no endpoint.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if C{drain} is less than 0, C{datagramRate} is less than 1, or a
            port is not from 0 to 65535.
        """
        accepted = "endpoint strings or endpoints, such as ['tcp:7007']"
        checkItems("endpoints", endpoints, accepted, checkServerEndpoint)
        checkType("factory", factory, EchoFactory)
        checkSeconds("drain", drain, zero=True)
        accepted = "hosts and ports, such as [('127.0.0.1', 7007)]"
        checkItems("datagrams", datagrams, accepted, _checkHostAndPort)
        checkRate("datagramRate", datagramRate, 1)
        self.factory = factory
        self.limits = factory.limits
        self._reactor = reactor
        self._drain = drain
        self._endpoints = [
            (
                each,
                serverEndpoint(reactor, each, factory.refuseHeader)
                if isinstance(each, str)
                else each,
            )
            for each in endpoints
        ]
        self._datagrams = tuple(datagrams)
        self.datagramCounts = DatagramCounts(reactor)
        self._guard = DatagramGuard(datagramRate)
        self._ports: list[IListeningPort] = []
        self._pending: list[Deferred[None]] = []
        self._draining = False
        self._waiting: Deferred[None] | None = None
        self._reading: Deferred[None] | None = None
        self._cutRequested = False

    @property
    def addresses(self) -> list[IAddress]:
        """The addresses that the service listens on, with the ports that the system chose."""
        return [port.getHost() for port in self._ports]

    @property
    def draining(self) -> bool:
        """See L{CountsSource}."""
        return self._draining

    def counts(self) -> Counts:
        """See L{CountsSource}."""
        return replace(
            self.factory.counts(),
            datagrams=self.datagramCounts.answered,
            unanswered={
                str(refusal): count for refusal, count in self.datagramCounts.refused.items()
            },
        )

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        """See L{CountsSource}."""
        return self.factory.peers(most)

    def workers(self) -> Sequence[WorkerState]:
        """See L{CountsSource}."""
        return ()

    def privilegedStartService(self) -> None:
        """
        Bind the endpoints.

        @raise ListenError: if an endpoint cannot be bound. Then none is bound.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """
        Bind the endpoints, unless C{privilegedStartService} did.

        @raise ListenError: as L{privilegedStartService}.
        """
        # twist does not call privilegedStartService.
        if not self._pending and not self._ports:
            self._listen()
        super().startService()

    def listenFailed(self, error: ListenError) -> None:
        """
        Called if an endpoint fails after C{startService} has returned. None of Twisted's own
        endpoints does. This method logs the error.

        @param error: names the endpoint and the reason.
        """
        _log.critical("{error}", error=error)

    def _listen(self) -> None:
        self._cutRequested = False
        if self._reading is not None:
            # An earlier stop must abort its own connections, not those of this start.
            self._reading.cancel()
        try:
            for given, endpoint in self._endpoints:
                listening = startListening(endpoint, self.factory, given)
                self._pending.append(listening.addCallbacks(self._bound, self._failedLate))
            for host, number in self._datagrams:
                self._listenUDP(host, number)
        except ListenError:
            self._close()
            raise

    def _failedLate(self, reason: Failure) -> None:
        if reason.check(CancelledError) is None:
            reason.trap(ListenError)
            self.listenFailed(cast(ListenError, reason.value))

    def _listenUDP(self, host: str, number: int) -> None:
        """
        @raise ListenError: if the host has no address, or the port cannot be bound.
        """
        protocol = EchoDatagrams(
            self._guard, self.datagramCounts, self._reactor, self.factory.trace
        )
        try:
            found = socket.getaddrinfo(host, number, type=socket.SOCK_DGRAM)
            port = DatagramPort(
                reactorBehind(self._reactor), found[0][-1], protocol, self.factory.socketOptions
            )
            port.startListening()
            self.factory.tellSocketOptions(port.socket)
        except (OSError, UnicodeError, CannotListenError) as error:
            raise ListenError(f"udp {hostPortText(host, number)}", error) from error
        self._ports.append(port)
        _log.info("listening on udp {address}", address=addressText(port.getHost()))

    def _bound(self, port: IListeningPort) -> None:
        self._ports.append(port)
        address = tracedAddressText(port.getHost(), self.factory.trace)
        _log.info("listening on {address}", address=address)

    def _close(self) -> Deferred[list[object]]:
        """
        Stop listening. If a port fails to close, the failure is logged.

        @return: fires when every port is closed.
        """
        pending, self._pending = self._pending, []
        for listening in pending:
            listening.cancel()
        ports, self._ports = self._ports, []
        return gatherResults([self._closePort(port) for port in ports])

    def _closePort(self, port: IListeningPort) -> Deferred[object]:
        def failed(reason: Failure) -> None:
            _log.failure("while closing {port}", reason, port=port)

        return maybeDeferred(port.stopListening).addErrback(failed)

    def stopService(self) -> Deferred[None]:
        """
        Stop as the class describes.

        @return: fires when every port and connection is closed.
        """
        super().stopService()
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        self._draining = True
        try:
            await self._drainAndCut()
        finally:
            self._draining = False
            self._waiting = self._reading = None

    def cut(self) -> None:
        """
        Abort the connections that a stop waits for. If the stop does not wait yet, it will
        not wait at all.
        """
        self._cutRequested = True
        for waiting in (self._reading, self._waiting):
            if waiting is not None:
                waiting.cancel()

    async def _readHeaders(self, factories: Sequence[HeaderFactory]) -> None:
        """Wait for the proxy headers of the connections that the ports have accepted."""

        async def read() -> None:
            for factory in factories:
                await factory.whenRead()

        within = 0.0 if self._cutRequested else min(self._drain, HEADER_TIMEOUT)
        self._reading = Deferred.fromCoroutine(read())
        try:
            await self._reading.addTimeout(within, self._reactor)
        except (TimeoutError, CancelledError):
            for factory in factories:
                factory.abort()
        self._reading = None
        self.factory.flushRefusals()

    async def _drainAndCut(self) -> None:
        proxied = [each for port in self._ports for each in headerFactories(port)]
        await self._close()
        self.datagramCounts.close()
        began = self._reactor.seconds()
        await self._readHeaders(proxied)
        # If the service is started again meanwhile, the new connections are not aborted.
        old = set(self.factory.connections)
        # A service whose ports have no headers to read has spent no time on them.
        spent = self._reactor.seconds() - began if proxied else 0.0
        drain = 0.0 if self._cutRequested else max(0.0, self._drain - spent)
        if old and drain:
            _log.info(
                "waiting up to {drain:g} s for {open}",
                drain=max(0.1, round(drain, 1)) if proxied else drain,
                open=counted(len(old), "open connection"),
            )
        self._waiting = self.factory.whenClosed(old)
        try:
            await self._waiting.addTimeout(drain, self._reactor)
        except (TimeoutError, CancelledError):
            old &= self.factory.connections
            for echo in old:
                echo.abort()
            _log.warn(
                "aborted {cut} still open after {seconds:.1f} s",
                cut=counted(len(old), "connection"),
                seconds=self._reactor.seconds() - began,
            )
            await self.factory.whenClosed(old)


def echoFactory(settings: ServerSettings, reactor: IReactorTime) -> EchoFactory:
    """Return the factory that these settings describe."""
    if settings.faults is None:
        factory = EchoFactory(settings.limits, settings.trace, reactor)
    else:
        factory = FaultyEchoFactory(
            reactor, settings.faults, settings.faultSeed, settings.limits, settings.trace
        )
    factory.socketOptions = settings.sockets
    return factory


class OrderedServices(MultiService):
    """
    Starts its services in order, and stops them in reverse order: each after the previous
    one has stopped. A C{MultiService} stops all its services at the same time.
    """

    def __init__(self) -> None:
        # MultiService has no types.
        super().__init__()

    def stopService(self) -> Deferred[None]:
        """
        Stop the services.

        @return: fires when all services have stopped.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)
