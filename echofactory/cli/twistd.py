"""
What the commands of C{twistd} run: services that end the process in one line if they
cannot listen, stop in turn, and stop at once at a second signal.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from echofactory.cli.logfile import neverWaitForTheLog
from echofactory.cli.options import CommandOptions, StatusOptions
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.endpoints import EndpointError, ListenError
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.signals import (
    handleStopSignals,
    repeatSwallowedInterrupt,
    stopReactorOnSignal,
)
from echofactory.server.service import OrderedServices

_log = Logger()


class _CommandError(SystemExit, Exception):
    """
    Ends C{twistd} with status 1, and no more said. An C{Exception} too, because
    twistd removes its pid file, and tells the parent it daemonized from, for
    those.
    """

    code = 1


class Command(OrderedServices):
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
        stopReactorOnSignal(self._reactor)

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
        handleStopSignals(self._hurry)
        return super().stopService()

    def _hurry(self, *_: object) -> None:
        for service in self:
            if hasattr(service, "cut"):
                self._reactor.callFromThread(service.cut)


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


def prepare(options: CommandOptions, reactor: IReactorTime) -> None:
    """Do what every command does first."""
    useMonotonicTime(reactor)
    neverWaitForTheLog(options)
    repeatSwallowedInterrupt()
    raiseDescriptorLimit()
