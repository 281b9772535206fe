"""
C{twistd multiecho-client}: a synthetic monitor.
"""

from typing import Any, cast

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from echofactory.cli.options import MonitorOptions
from echofactory.cli.twistd import Command, prepare, statusService
from echofactory.client.monitor import ProbeService
from echofactory.net.endpoints import EndpointError

_log = Logger()


Options = MonitorOptions


def makeService(options: MonitorOptions) -> IService:
    """
    Make the service of C{twistd multiecho-client}.

    @raise SystemExit: with status 2 and one line, if an endpoint string describes no
        endpoint.
    """
    from twisted.internet import reactor

    prepare(options, cast(IReactorTime, reactor))
    try:
        probing = ProbeService(
            options.connectionReactor(reactor),
            options.target,
            options.connections,
            options.rate,
            options.size,
            options.patience,
            options.trace,
        )
    except EndpointError as error:
        options.refuse("connect", str(error))

    def makeStatus() -> Any:
        from echofactory.status import ProbeStatus

        return ProbeStatus(probing, options.target)

    status = statusService(options, reactor, makeStatus)
    return Command(options, reactor, [*status, probing])
