"""
The service of a C{twistd} command. If it cannot listen, the process ends with one line. Its
services stop in order; a second signal stops them immediately.
"""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from echofactory.cli.commonoptions import StatusOptions
from echofactory.cli.logfile import useNonBlockingLog
from echofactory.cli.options import CommandOptions
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.endpoints import EndpointError, ListenError
from echofactory.net.garbage import searchRarely
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.signals import (
    handleStopSignals,
    repeatSwallowedInterrupt,
    stopReactorOnSignal,
)
from echofactory.server.service import OrderedServices

_log = Logger()


class _ListenExit(SystemExit, Exception):
    """
    Ends C{twistd} with status 1 and no further message. It is an C{Exception} too: if the
    start of a service raises one, twistd removes its pid file and reports to its parent.
    """

    code = 1


class Command(OrderedServices):
    """
    The services of a command. If one of them cannot listen, the process ends with one line
    on stderr, which names the option and the endpoint. A second signal calls C{cut()} of each
    service that has it.
    """

    def __init__(
        self, options: StatusOptions, reactor: Any, services: Sequence[IService]
    ) -> None:
        """
        @param options: name the option in the line on stderr.
        @param services: the services, in the order in which they start.
        """
        super().__init__()
        self._options = options
        self._reactor = reactor
        for service in services:
            service.setServiceParent(self)

    def privilegedStartService(self) -> None:
        self._exitIfItCannotListen(super().privilegedStartService)

    def startService(self) -> None:
        self._exitIfItCannotListen(super().startService)
        stopReactorOnSignal(self._reactor)

    def _exitIfItCannotListen(self, start: Callable[[], None]) -> None:
        try:
            start()
        except ListenError as error:
            text = f"{self._options.listenOption(error.endpoint)}: {error}"
            # A daemon has only its log. The level is error: twist, which does not log yet,
            # writes critical events to stderr.
            _log.error("{text}", text=text)
            # Under twistd, sys.stderr is the log.
            print(f"{self._options.program}: {text}", file=sys.__stderr__)
            raise _ListenExit(text) from None

    def stopService(self) -> Deferred[None]:
        handleStopSignals(self._cutServices)
        return super().stopService()

    def _cutServices(self, *_: object) -> None:
        for service in self:
            if hasattr(service, "cut"):
                self._reactor.callFromThread(service.cut)


def statusService(
    options: StatusOptions, reactor: Any, makeStatus: Callable[[], Any]
) -> list[IService]:
    """
    Return the service for C{--status}; without that option, an empty list.

    @param makeStatus: returns the C{Status} to show.
    @raise SystemExit: with status 2 and one line, if the endpoint string describes no
        endpoint.
    """
    if options.status is None:
        return []
    # The import takes time and memory, so only a program with a status does it.
    from echofactory.status import StatusService

    try:
        # Not on the fast lane, which is for the measured connections.
        return [StatusService(reactor, options.status, makeStatus())]
    except EndpointError as error:
        options.refuse("status", str(error))


def prepare(options: CommandOptions, reactor: IReactorTime) -> None:
    """Prepare the process: its clock, log, signals, descriptor limit and garbage collection."""
    useMonotonicTime(reactor)
    useNonBlockingLog(options)
    repeatSwallowedInterrupt()
    raiseDescriptorLimit()
    searchRarely()
