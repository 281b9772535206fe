"""
The program C{twistd multiecho-client}, a synthetic monitor: its options, and the service
that it makes of them.
"""

from typing import Any, ClassVar, cast

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python import usage

from echofactory.cli.options import (
    CONNECT_TIMEOUT,
    KEEP_ALIVE,
    NO_EXPRESS,
    STATUS,
    TRACE,
    StatusOptions,
    TargetOptions,
)
from echofactory.cli.parsers import (
    MOST_LOW_RATE,
    parseLowRate,
    parseSize,
    parseTrace,
)
from echofactory.cli.twistd import Command, prepare, statusService
from echofactory.client.monitor import ProbeService
from echofactory.net.endpoints import EndpointError


class MonitorOptions(TargetOptions, StatusOptions):
    """
    The command line of C{twistd multiecho-client}.

    @ivar target: a client endpoint string.
    @ivar connections: how many to keep.
    @ivar rate: messages a second, over all of them.
    """

    program = "multiecho-client"
    synopsis = "[options] [HOST PORT [CONNECTIONS]]"
    longdesc = (
        "Keep connections to an echo server for as long as this runs, send messages at a low"
        " rate, check that every byte comes back, and show how it goes (--status). A"
        " connection that ends is opened again: after a second at first, and a minute at most"
        " when it fails again and again. To measure, there is python -m echofactory.client."
    )
    examples = """\
twistd -n multiecho-client 192.0.2.7 7007 --status tcp:9466:interface=127.0.0.1
    one connection, a message a second, and metrics, health and a page on port 9466
twistd -n multiecho-client --connect tls:echo.example:7007 -n 10 --rate 5
    ten connections over TLS, five messages a second over all of them
"""
    optParameters: ClassVar[list[list[object]]] = [
        ["connect", None, None, "A Twisted client endpoint to connect to, not HOST PORT."],
        ["connections", "n", None, "Connections to keep. [default: 1]"],
        ["rate", None, None, "Messages a second over all connections. [default: one each]"],
        ["size", None, "64", "Bytes of each message, generated: 64, 64k, 1M."],
        CONNECT_TIMEOUT,
        [
            "reply-timeout",
            None,
            "10s",
            "How long to wait for the next byte while something is outstanding.",
        ],
        KEEP_ALIVE,
        TRACE,
        STATUS,
    ]
    optFlags: ClassVar[list[list[object]]] = [NO_EXPRESS]

    def postOptions(self) -> None:
        super().postOptions()
        self.trace = self.read("trace", parseTrace)
        self.size = self.read("size", parseSize)
        target = self.readTarget()
        if target is None:
            raise usage.UsageError("nothing to connect to: give HOST PORT or --connect")
        self.target = target
        self.connections = self.readConnections(1)
        self.rate = self.readIfGiven("rate", parseLowRate) or min(
            float(self.connections), MOST_LOW_RATE
        )
        self.patience = self.readPatience()


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
