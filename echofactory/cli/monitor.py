"""
The program C{twistd multiecho-client}, a synthetic monitor: its options, and the service
that it makes of them.
"""

from typing import Any, ClassVar, cast

from twisted.application.service import IService
from twisted.internet.interfaces import IReactorTime
from twisted.python import usage

from echofactory.cli.commonoptions import (
    CONNECT_TIMEOUT,
    KEEP_ALIVE,
    NO_EXPRESS,
    STATUS,
    TRACE,
    StatusOptions,
    TargetOptions,
)
from echofactory.cli.options import Flag, Option
from echofactory.cli.parsers import (
    MAX_MONITOR_RATE,
    parseCount,
    parseDuration,
    parseMonitorRate,
    parseSize,
)
from echofactory.cli.socketoptions import FAMILY_FLAGS, readFamily
from echofactory.cli.twistd import Command, prepare, statusService
from echofactory.client.monitor import ProbeService
from echofactory.client.target import Target
from echofactory.net.endpoints import EndpointError
from echofactory.net.tracing import Trace
from echofactory.workload.settings import Workload


class MonitorOptions(TargetOptions, StatusOptions):
    """
    The command line of C{twistd multiecho-client}.

    @ivar target: a client endpoint string.
    @ivar family: the IP version of the addresses of HOST to use; C{None}: both.
    @ivar connections: the number of connections that are kept open.
    @ivar rate: messages per second over all connections.
    @ivar size: bytes of a message.
    @ivar patience: how long to wait for a connection and for a reply.
    @ivar trace: which events of each connection the log shows.
    """

    program = "multiecho-client"
    synopsis = "[options] [HOST PORT [CONNECTIONS]]"
    longdesc = (
        "Keep connections to an echo server open until this program is stopped. Send messages"
        " at a low rate, check that every byte comes back, and show the figures (--status). A"
        " connection that ends is opened again: after about 1 s, and after up to 1 min if it"
        " fails repeatedly. To measure, use python -m echofactory.client."
    )
    examples = """\
twistd -n multiecho-client 192.0.2.7 7007 --status tcp:9466:interface=127.0.0.1
    one connection, one message per second; metrics, health and a page on port 9466
twistd -n multiecho-client --connect tls:echo.example:7007 -n 10 --rate 5
    ten connections over TLS; five messages per second over all of them
"""
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Target": ("connect", "ipv4", "ipv6"),
        "Load": ("connections", "rate", "size"),
        "Time": ("connect-timeout", "reply-timeout", "keepalive"),
        "Output": ("status", "trace"),
    }
    parameters: ClassVar[tuple[Option, ...]] = (
        Option(
            "connect",
            "ENDPOINT",
            str,
            None,
            "Twisted client endpoint to connect to, instead of HOST PORT. Not over UDP.",
            example="tls:echo.example:7007",
        ),
        Option(
            "connections",
            "N",
            parseCount,
            None,
            "Number of connections to keep open.",
            short="n",
            defaultHelp="1",
            example="10",
        ),
        Option(
            "rate",
            "RATE",
            parseMonitorRate,
            None,
            "Messages per second over all connections, up to 1,000.",
            defaultHelp="1 per connection, up to 1,000",
            example="5",
        ),
        Option(
            "size",
            "SIZE",
            parseSize,
            "64",
            "Bytes of each message. The messages are generated.",
            example="1k",
        ),
        CONNECT_TIMEOUT,
        Option(
            "reply-timeout",
            "DURATION",
            parseDuration,
            "10s",
            "Time limit for the next byte of a reply. The timeout can fire up to 10 % late.",
            example="500ms",
        ),
        KEEP_ALIVE,
        TRACE,
        STATUS,
    )
    flags: ClassVar[tuple[Flag, ...]] = (*FAMILY_FLAGS, NO_EXPRESS)

    def postOptions(self) -> None:
        super().postOptions()
        self.trace: Trace = self.value("trace")
        # The workload knows which sizes there are.
        self.size = self.built(Workload, {"size": "size"}).longest
        target = self.readTarget()
        if target is None:
            raise usage.UsageError("nothing to connect to: give HOST PORT or --connect")
        self.target = target
        self.family = readFamily(self, self.readHost())
        self.connections = self.readConnections(1)
        self.rate: float = self.value("rate") or min(float(self.connections), MAX_MONITOR_RATE)
        self.patience = self.readPatience()


Options = MonitorOptions


def makeService(options: MonitorOptions) -> IService:
    """
    Make the service of C{twistd multiecho-client}.

    @raise SystemExit: with status 2 and one line, if an endpoint string describes no
        endpoint.
    """
    from twisted.internet import reactor

    prepare(options, cast(IReactorTime, reactor))
    connecting = options.connectionReactor(reactor)
    try:
        probing = ProbeService(
            connecting,
            Target(connecting, options.target, options.patience.connect, family=options.family),
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
