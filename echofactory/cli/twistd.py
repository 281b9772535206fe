"""
What the commands of C{twistd} run: services that end the process in one line if they
cannot listen, stop in turn, and stop at once at a second signal.
"""

import sys
from collections.abc import Callable, Sequence
from signal import SIGTERM, raise_signal
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from echofactory.cli.logfile import neverWaitForTheLog
from echofactory.cli.options import CommandOptions, ServerOptions, StatusOptions
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.endpoints import EndpointError, ListenError
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.signals import handle, heedSwallowed, stopInOrder
from echofactory.server.counts import Together
from echofactory.server.factory import EchoFactory, Limits
from echofactory.server.faults.echo import FaultyEchoFactory
from echofactory.server.service import EchoService, InTurn
from echofactory.server.workers.supervisor import Workers

_log = Logger()


class _CommandError(SystemExit, Exception):
    """
    Ends C{twistd} with status 1, and no more said. An C{Exception} too, because
    twistd removes its pid file, and tells the parent it daemonized from, for
    those.
    """

    code = 1


class Command(InTurn):
    """
    The services of a command. If one of them cannot listen, the process ends, with
    one line on stderr that names the option and the endpoint; a second signal has those
    that can, C{cut()} what they wait for.
    """

    def __init__(
        self, options: StatusOptions, reactor: Any, services: Sequence[IService]
    ) -> None:
        """
        @param options: what the line on stderr takes its names from.
        """
        super().__init__()
        self._options = options
        self._reactor = reactor
        for service in services:
            service.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._orExit(super().privilegedStartService)

    def startService(self) -> None:
        self._orExit(super().startService)
        stopInOrder(self._reactor)

    def _orExit(self, start: Callable[[], None]) -> None:
        try:
            start()
        except ListenError as error:
            text = f"{self._options.listenOption(error.endpoint)}: {error}"
            # A daemon has nothing but its log. Nothing worse than an error: twist, which
            # does not log yet, has what is critical on stderr.
            _log.error("{text}", text=text)
            # Past the log, which has taken the place of sys.stderr under twistd.
            print(f"{self._options.program}: {text}", file=sys.__stderr__)
            raise _CommandError(text) from None

    def stopService(self) -> Deferred[None]:
        handle(self._hurry)
        return super().stopService()

    def _hurry(self, *_: object) -> None:
        for service in self:
            if hasattr(service, "cut"):
                self._reactor.callFromThread(service.cut)


class _CommandEcho(EchoService):
    """An L{EchoService} whose failure to listen is the end of the process."""

    def listenFailed(self, error: ListenError) -> None:
        super().listenFailed(error)
        # What makes twistd stop in order, and with a status other than 0.
        raise_signal(SIGTERM)


def statusService(
    options: StatusOptions, reactor: Any, makeStatus: Callable[[], Any]
) -> list[IService]:
    """
    Return what serves the status that the command line asks for, if it does.

    @param makeStatus: returns the C{Status} to show.
    @raise SystemExit: with status 2 and one line, if the endpoint string describes no
        endpoint.
    """
    if options.status is None:
        return []
    # What it needs takes time and memory, which a program without it can spare.
    from echofactory.status import StatusService

    try:
        # Not on the lane: that is for connections which are many, and measured.
        return [StatusService(reactor, options.status, makeStatus())]
    except EndpointError as error:
        options.refuse("status", str(error))


def makeFactory(options: ServerOptions, limits: Limits, reactor: IReactorTime) -> EchoFactory:
    """Make what the command line says that connections are served by."""
    if options.faults is None:
        return EchoFactory(limits, options.trace, reactor)
    return FaultyEchoFactory(reactor, options.faults, options.faultSeed, limits, options.trace)


def prepare(options: CommandOptions, reactor: IReactorTime) -> None:
    """Do what every command does first."""
    useMonotonicTime(reactor)
    neverWaitForTheLog(options)
    heedSwallowed()
    raiseDescriptorLimit()


Options = ServerOptions


def makeService(options: ServerOptions) -> IService:
    """
    Make the service of C{twistd multiecho}.

    @raise SystemExit: with status 2 and one line, if an endpoint string
        describes no endpoint.
    """
    from twisted.internet import reactor as chosen

    reactor: Any = chosen
    prepare(options, reactor)
    serving: EchoService | Workers
    beside: list[EchoService] = []
    try:
        if options.workers is None:
            serving = _CommandEcho(
                options.connectionReactor(reactor),
                options.endpoints,
                makeFactory(options, options.limits, reactor),
                options.drain,
                options.datagrams,
                options.datagramRate,
            )
        else:
            serving = Workers(
                reactor, options.endpoints, options.words, options.workers, options.drain
            )
            if options.datagrams:
                # They are of no connection: this process serves them itself.
                alone = EchoFactory(trace=options.trace, reactor=reactor)
                beside = [
                    EchoService(
                        reactor, [], alone, 0.0, options.datagrams, options.datagramRate
                    )
                ]
    except EndpointError as error:
        options.refuse("listen", str(error))

    def makeStatus() -> Any:
        from echofactory.status import ServerStatus

        return ServerStatus(Together([serving, *beside]))

    # The status is the last to stop: it goes on telling while the others drain.
    status = statusService(options, reactor, makeStatus)
    return Command(options, reactor, [*status, *beside, serving])
