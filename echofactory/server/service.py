"""
The server as a Twisted service, and services that stop one after the other.
"""

import socket
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
    IReactorFDSet,
    IReactorTime,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.express.addresstext import addressText, hostPortText
from echofactory.express.reactor import reactorBehind
from echofactory.net.endpoints import ListenError, checkServerEndpoint, serverEndpoint
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


class IServiceReactor(IReactorTime, IReactorFDSet):
    """What an L{EchoService} asks of a reactor, besides what its endpoints do."""


def _checkHostAndPort(field: str, value: Any) -> None:
    accepted = "a host and a port, such as ('127.0.0.1', 7007)"
    checkType(field, value, tuple, accepted)
    if len(value) != 2:
        raise ValueError(f"{field}: {value!r} is not {accepted}")
    checkType(f"{field}: host", value[0], str)
    checkWhole(f"{field}: port", value[1], 0, 65535)


class EchoService(Service):
    """
    Serves one L{EchoFactory} on any number of endpoints, and the echo over UDP.

    Starting binds them all or none. Stopping closes the ports, leaves the open
    connections up to C{drain} seconds to finish, then cuts the rest and logs
    how many those were. It can be started again. Of these seconds, connections through a
    proxy have at most L{HEADER_TIMEOUT} to send their header.

    Its times are those of the reactor, and the reactor's follow the wall clock, unless
    L{useMonotonicTime} was called.

    @ivar factory: what is served.
    @ivar datagramCounts: what came of the datagrams.
    """

    def __init__(
        self,
        reactor: IServiceReactor,
        endpoints: Sequence[str | IStreamServerEndpoint],
        factory: EchoFactory,
        drain: float = 5.0,
        datagrams: Sequence[tuple[str, int]] = (),
        datagramRate: float = DEFAULT_RATE_PER_SOURCE,
    ) -> None:
        """
        @param endpoints: server endpoint strings, or endpoints.
        @param drain: seconds, 0 or more.
        @param datagrams: hosts and ports to echo on over UDP; port 0 has the system
            choose.
        @param datagramRate: how many a second are answered to one source, 1 or more;
            L{DatagramGuard} says what that is.
        @raise EndpointError: if a string describes no endpoint.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if C{drain} is less than 0, C{datagramRate} than 1, or a port
            is not from 0 to 65535.
        """
        accepted = "endpoint strings or endpoints, such as ['tcp:7007']"
        checkItems("endpoints", endpoints, accepted, checkServerEndpoint)
        checkType("factory", factory, EchoFactory)
        checkSeconds("drain", drain, zero=True)
        accepted = "hosts and ports, such as [('127.0.0.1', 7007)]"
        checkItems("datagrams", datagrams, accepted, _checkHostAndPort)
        checkRate("datagramRate", datagramRate, 1)
        self.factory = factory
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
        self._hurried = False

    @property
    def addresses(self) -> list[IAddress]:
        """Where it listens now; the ports that the system chose are filled in."""
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

        @raise ListenError: if one of them cannot be bound; none is, then.
        """
        super().privilegedStartService()
        self._listen()

    def startService(self) -> None:
        """
        Bind the endpoints, unless C{privilegedStartService} did.

        @raise ListenError: as that does.
        """
        # twist does not make the privileged start.
        if not self._pending and not self._ports:
            self._listen()
        super().startService()

    def listenFailed(self, error: ListenError) -> None:
        """
        Learn that an endpoint which took longer than C{startService} to bind,
        as none of Twisted's own does, has failed. This logs it.
        """
        _log.critical("{error}", error=error)

    def _listen(self) -> None:
        self._hurried = False
        if self._reading is not None:
            # The stop is to cut the connections of its time, not those of this start.
            self._reading.cancel()
        errors: list[ListenError] = []
        starting = True

        def failed(reason: Failure, given: object) -> None:
            if reason.check(CancelledError):
                return
            error = ListenError(given, reason.value)
            if starting:
                errors.append(error)
            else:
                self.listenFailed(error)

        for given, endpoint in self._endpoints:
            listening = maybeDeferred(endpoint.listen, self.factory)
            self._pending.append(
                listening.addCallbacks(self._bound, failed, errbackArgs=(given,))
            )
            if errors:
                self._close()
                raise errors[0]
        starting = False
        for host, number in self._datagrams:
            try:
                self._listenUDP(host, number)
            except (OSError, UnicodeError, CannotListenError) as error:
                self._close()
                raise ListenError(f"udp {hostPortText(host, number)}", error) from error

    def _listenUDP(self, host: str, number: int) -> None:
        """
        @raise OSError: if the host's name has no address.
        @raise UnicodeError: if it is no name.
        @raise CannotListenError: if the port cannot be bound.
        """
        found = socket.getaddrinfo(host, number, type=socket.SOCK_DGRAM)
        protocol = EchoDatagrams(
            self._guard, self.datagramCounts, self._reactor, self.factory.trace
        )
        port = DatagramPort(reactorBehind(self._reactor), found[0][-1], protocol)
        port.startListening()
        self._ports.append(port)
        _log.info("listening on udp {address}", address=addressText(port.getHost()))

    def _bound(self, port: IListeningPort) -> None:
        self._ports.append(port)
        address = tracedAddressText(port.getHost(), self.factory.trace)
        _log.info("listening on {address}", address=address)

    def _close(self) -> Deferred[list[object]]:
        """
        Listen no more. If a port fails to close, this is logged.

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
        Stop as the class says.

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
        Wait no longer for the connections that are still open; nor at all, if it comes
        before the waiting has begun.
        """
        self._hurried = True
        for waiting in (self._reading, self._waiting):
            if waiting is not None:
                waiting.cancel()

    async def _readHeaders(self, factories: Sequence[HeaderFactory]) -> None:
        """Wait for the headers of the connections that the ports have accepted."""

        async def read() -> None:
            for factory in factories:
                await factory.whenRead()

        within = 0.0 if self._hurried else min(self._drain, HEADER_TIMEOUT)
        self._reading = Deferred.fromCoroutine(read())
        try:
            await self._reading.addTimeout(within, self._reactor)
        except (TimeoutError, CancelledError):
            for factory in factories:
                factory.abort()
        self._reading = None
        self.factory.tellRefusals()

    async def _drainAndCut(self) -> None:
        proxied = [each for port in self._ports for each in headerFactories(port)]
        await self._close()
        self.datagramCounts.close()
        began = self._reactor.seconds()
        await self._readHeaders(proxied)
        # Those of now: the service may be started again before they are closed.
        old = set(self.factory.connections)
        spent = self._reactor.seconds() - began
        drain = 0.0 if self._hurried else max(0.0, self._drain - spent)
        if old and drain:
            _log.info(
                "waiting up to {drain:g} s for {open}",
                drain=round(drain, 2),
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
                "cut {cut} still open after {seconds:.2g} s",
                cut=counted(len(old), "connection"),
                seconds=self._reactor.seconds() - began,
            )
            await self.factory.whenClosed(old)


def echoFactory(settings: ServerSettings, reactor: IReactorTime) -> EchoFactory:
    """Return the factory that serves connections by these settings."""
    if settings.faults is None:
        return EchoFactory(settings.limits, settings.trace, reactor)
    return FaultyEchoFactory(
        reactor, settings.faults, settings.faultSeed, settings.limits, settings.trace
    )


class InTurn(MultiService):
    """
    Starts its services in order, and stops them in the opposite order, each when the
    one before it has stopped. A L{MultiService} stops them all at once.
    """

    def stopService(self) -> Deferred[None]:
        """
        Stop the services.

        @return: fires when all of them have stopped.
        """
        Service.stopService(self)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for service in reversed(list(self)):
            await maybeDeferred(service.stopService)
