"""
The server and the client as Twisted services.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from signal import SIGTERM, raise_signal
from typing import cast

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import (
    CancelledError,
    Deferred,
    TimeoutError,
    gatherResults,
    maybeDeferred,
    succeed,
)
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.client import EchoClientFactory, Patience
from echofactory.client.target import IProbeReactor, Target
from echofactory.counts import Counts, PeerCounts, WorkerState
from echofactory.descriptors import raiseDescriptorLimit
from echofactory.listening import EndpointError, ListenError, serverEndpoint
from echofactory.options import ServerOptions
from echofactory.results import Results
from echofactory.server import EchoFactory
from echofactory.trace import addressText
from echofactory.workload import Workload

_log = Logger()


class EchoService(Service):
    """
    Serves one L{EchoFactory} on any number of endpoints.

    Starting binds them all or none. Stopping closes the ports, leaves the open
    connections up to C{drain} seconds to finish, then cuts the rest and logs
    how many those were. It can be started again.

    @ivar factory: what is served.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoints: Sequence[str | IStreamServerEndpoint],
        factory: EchoFactory,
        drain: float = 5.0,
    ) -> None:
        """
        @param endpoints: server endpoint strings, or endpoints.
        @param drain: seconds, 0 or more.
        @raise EndpointError: if a string describes no endpoint.
        @raise ValueError: if C{drain} is less than 0.
        """
        if drain < 0:
            raise ValueError(f"drain: {drain} is not 0 s or more")
        self.factory = factory
        self._reactor = reactor
        self._drain = drain
        self._endpoints = [
            (each, serverEndpoint(reactor, each) if isinstance(each, str) else each)
            for each in endpoints
        ]
        self._ports: list[IListeningPort] = []
        self._pending: list[Deferred[None]] = []
        self._draining = False

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
        return self.factory.counts()

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
        if not self._pending:
            self._listen()
        super().startService()

    def listenFailed(self, error: ListenError) -> None:
        """
        Learn that an endpoint which took longer than C{startService} to bind,
        as none of Twisted's own does, has failed. This logs it.
        """
        _log.critical("{error}", error=error)

    def _listen(self) -> None:
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

    def _bound(self, port: IListeningPort) -> None:
        self._ports.append(port)
        _log.info("listening on {address}", address=addressText(port.getHost()))

    def _close(self) -> Deferred[list[object]]:
        """Listen no more; the result fires when every port is closed."""
        pending, self._pending = self._pending, []
        for listening in pending:
            listening.cancel()
        ports, self._ports = self._ports, []
        return gatherResults([maybeDeferred(port.stopListening) for port in ports])

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

    async def _drainAndCut(self) -> None:
        await self._close()
        # Those of now: the service may be started again before they are closed.
        old = set(self.factory.connections)
        if old and self._drain:
            _log.info(
                "waiting up to {drain:g} s for {open} open connections",
                drain=self._drain,
                open=len(old),
            )
        try:
            await self.factory.whenClosed(old).addTimeout(self._drain, self._reactor)
        except TimeoutError:
            old &= self.factory.connections
            for echo in old:
                echo.abort()
            _log.warn(
                "cut {cut} connections that were still open after {drain:g} s",
                cut=len(old),
                drain=self._drain,
            )
            await self.factory.whenClosed(old)


class ProbeService(Service):
    """
    Runs one probe while it is started: N connections to a target, every byte
    checked. Stopping interrupts what is left of it. It can be started again,
    for another probe.

    @ivar done: fires with the results of the probe that was started last.
    """

    def __init__(
        self,
        reactor: IProbeReactor,
        endpoint: str | IStreamClientEndpoint,
        workload: Workload,
        connections: int = 2,
        patience: Patience | None = None,
    ) -> None:
        """
        @param endpoint: a client endpoint string, or an endpoint.
        @raise EndpointError: if the string describes no endpoint.
        """
        patience = patience or Patience()
        if isinstance(endpoint, str):
            endpoint = Target(reactor, endpoint, patience.connect)
        self._endpoint = endpoint
        self.done: Deferred[Results] = Deferred()
        self._over: Deferred[None] = succeed(None)
        self._factory: EchoClientFactory | None = None
        self._newFactory = partial(EchoClientFactory, reactor, workload, connections, patience)

    def startService(self) -> None:
        """Start opening the connections."""
        super().startService()
        self._factory = self._newFactory()
        self.done = Deferred()
        running = Deferred.fromCoroutine(self._factory.run(self._endpoint))
        self._over = running.addBoth(self.done.callback)

    def stopService(self) -> Deferred[None]:
        """
        Interrupt what is not done.

        @return: fires when every connection is closed.
        """
        super().stopService()
        if self._factory is not None:
            self._factory.interrupt()
        return self._over


class _CommandError(SystemExit, Exception):
    """
    Ends C{twistd} with status 1, and no more said. An C{Exception} too, because
    twistd removes its pid file, and tells the parent it daemonized from, for
    those.
    """

    code = 1


def _orExit(listen: Callable[[], None]) -> None:
    """End the process, with one line on stderr, if this cannot listen."""
    try:
        listen()
    except ListenError as error:
        # Past the log, which has taken the place of sys.stderr under twistd.
        print(f"multiecho: {error}", file=sys.__stderr__)
        raise _CommandError(str(error)) from None


class _CommandService(EchoService):
    """An L{EchoService} whose failure to listen is the end of the process."""

    def _listen(self) -> None:
        _orExit(super()._listen)

    def listenFailed(self, error: ListenError) -> None:
        super().listenFailed(error)
        # What makes twistd stop in order, and with a status other than 0.
        raise_signal(SIGTERM)


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


class _CommandServices(InTurn):
    """Services the failure of one of which to listen is the end of the process."""

    def privilegedStartService(self) -> None:
        _orExit(super().privilegedStartService)

    def startService(self) -> None:
        _orExit(super().startService)


Options = ServerOptions


def makeService(options: ServerOptions) -> IService:
    """
    Make the service of C{twistd multiecho}.

    @raise SystemExit: with status 2 and one line, if an endpoint string
        describes no endpoint.
    """
    from twisted.internet import reactor

    raiseDescriptorLimit()
    factory = EchoFactory(options.limits, options.trace, cast(IReactorTime, reactor))
    try:
        chosen = options.connectionReactor(reactor)
        echo = _CommandService(chosen, options.endpoints, factory, options.drain)
    except EndpointError as error:
        options.refuse("listen", str(error))
    if options.status is None:
        return echo
    # What it needs takes time and memory, which a server without it can spare.
    from echofactory.status import ServerStatus, StatusService

    try:
        # Not on the lane: that is for connections which are many, and measured.
        status = StatusService(cast(IReactorTime, reactor), options.status, ServerStatus(echo))
    except EndpointError as error:
        options.refuse("status", str(error))
    # It goes on telling, while the echo drains.
    both = _CommandServices()
    status.setServiceParent(both)
    echo.setServiceParent(both)
    return both
