"""
The program C{twistd multiecho}: its options, and the service that it makes of them.
"""

from signal import SIGTERM, raise_signal
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

from echofactory.cli.options import (
    KEEP_ALIVE,
    NO_EXPRESS,
    STATUS,
    StatusOptions,
    readValue,
)
from echofactory.cli.parsers import (
    parseCount,
    parseDatagramAddress,
    parseDatagramRate,
    parseDuration,
    parseFault,
    parseHost,
    parseKeepAlive,
    parseListeningPort,
    parsePatience,
    parseSeed,
    parseTrace,
    parseWorkers,
)
from echofactory.cli.twistd import Command, prepare, statusService
from echofactory.net.endpoints import EndpointError, ListenError
from echofactory.server.counts import CombinedCounts
from echofactory.server.factory import EchoFactory
from echofactory.server.faults.settings import Faults
from echofactory.server.guard import DEFAULT_RATE_PER_SOURCE
from echofactory.server.service import EchoService, echoFactory
from echofactory.server.settings import Limits, ServerSettings
from echofactory.server.workers.supervisor import Workers


class ServerOptions(StatusOptions):
    """
    The command line of C{twistd multiecho}.

    @ivar endpoints: server endpoint strings.
    @ivar address: the one of them that C{HOST PORT} is short for; C{None}: it was not given.
    @ivar datagrams: hosts and ports of UDP.
    @ivar datagramRate: how many a second are answered to one source.
    @ivar workers: how many processes serve; C{None}: this one.
    @ivar settings: how connections are served.
    """

    program = "multiecho"
    synopsis = "[options] [HOST PORT]"
    longdesc = (
        "Send back every byte that arrives, to any number of clients at once (RFC 862)."
        " HOST PORT is short for one more --listen tcp:PORT:interface=HOST. Listens on the"
        " loopback interface unless told otherwise."
    )
    examples = """\
twistd -n multiecho
    on 127.0.0.1, port 65432, telling of each connection
twistd -n multiecho --listen tcp:7007 --listen unix:/run/echo.sock --trace none
    on port 7007 of every IPv4 address and on a UNIX socket, quietly
twistd -n multiecho --trace data 127.0.0.1 65432
    as the tutorial's multiconn-server.py does
"""
    optParameters: ClassVar[list[list[object]]] = [
        [
            "trace",
            None,
            "connections",
            "What to tell per connection: none, connections, or data (what comes and goes,"
            " abridged).",
        ],
        [
            "drain",
            None,
            "5s",
            "How long a stop waits for open connections before it cuts them:"
            " 250ms, 10s, 2m or 1h; 0 cuts at once.",
        ],
        [
            "workers",
            None,
            None,
            "Serve with so many processes that share the ports, each on a core of its own;"
            " auto: as many as there are cores that this process may keep busy, by its affinity"
            " and by a container's quota. One that ends is started again. TCP ports"
            " only. [default: this process serves]",
        ],
        [
            "max-connections",
            None,
            None,
            "Connections open at once; more are refused. Workers share them out evenly."
            " [default: no limit]",
        ],
        [
            "max-per-host",
            None,
            None,
            "The same, of one host: an IPv4 address, or all of an IPv6 /64; with workers,"
            " in each of them."
            " Behind haproxy: it is the host of the proxy's client. [default: no limit]",
        ],
        [
            "idle-timeout",
            None,
            None,
            "Cut a connection when no byte has moved either way for so long: 30s, 10m;"
            " also one whose peer only refuses to read. [default: never]",
        ],
        [
            "udp-rate",
            None,
            None,
            "Datagrams a second that --udp answers to one address, or /64 of IPv6, and as"
            " many at once after a pause: 500 or 20k. A client that asks more of them, but"
            " for one on this machine's loopback addresses, loses what is over. [default: 1k]",
        ],
        [
            "fault-seed",
            None,
            None,
            "What the chances of --fault come from; the same number has the same go wrong"
            " again. Not with --workers, unless there is one: which of them a connection"
            " comes to is left to the kernel. [default: a random one, told in the log]",
        ],
        KEEP_ALIVE,
        STATUS,
    ]

    optFlags: ClassVar[list[list[object]]] = [NO_EXPRESS]

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[str] = []
        self.address: str | None = None
        self._faults: list[str] = []
        self.datagrams: list[tuple[str, int]] = []

    def opt_listen(self, endpoint: str) -> None:
        """
        A Twisted server endpoint to listen on; may be repeated. tcp:, unix:,
        ssl:, tls:, systemd: and haproxy: are known to work. TLS
        cannot half-close: a client there must count the bytes that come back,
        for those still on their way when it closes its side are lost.
        [default: tcp:65432:interface=127.0.0.1]
        """
        self.endpoints.append(endpoint)

    def opt_fault(self, text: str) -> None:
        """
        Misbehave on purpose; may be repeated, or several joined with commas.
        delay=20ms and jitter=5ms hold every chunk, throttle=1M is bytes a second
        on a connection, dribble=3 bytes in a write, corrupt=1e-6, drop=1e-6 and
        repeat=1e-6 are chances of a byte, truncate=64k closes after so many
        bytes, stall=1s/10s sends nothing for one second in ten, reset=0.01 and
        refuse=0.1 are chances of a connection. Not with --udp, whose datagrams meet
        none of them.
        """
        self._faults += text.split(",")

    def opt_udp(self, text: str) -> None:
        """
        Echo over UDP beside TCP, on this HOST:PORT, such as 127.0.0.1:7007 or [::1]:7007;
        may be repeated; port 0 has the system choose. As a forged source address
        can turn such an echo into a loop or a reflector, it answers no port below
        1024, no port that is echoed here, no broadcast, and no address more often
        than --udp-rate says. [default: off]
        """
        self.datagrams.append(readValue("--udp", text, parseDatagramAddress))

    def parseArgs(self, *arguments: str) -> None:
        if not arguments:
            return
        if len(arguments) != 2:
            raise usage.UsageError("give HOST and PORT, or neither")
        host, port = arguments
        number = readValue("PORT", port, parseListeningPort)
        interface = quoteStringArgument(readValue("HOST", host, parseHost))
        self.address = f"tcp:{number}:interface={interface}"
        self.endpoints.append(self.address)

    def listenOption(self, endpoint: object) -> str:
        """See L{StatusOptions.listenOption}."""
        if endpoint == self.address:
            return "HOST PORT"
        if endpoint in self.endpoints:
            return "--listen"
        return "--status" if endpoint == self.status else "--udp"

    def postOptions(self) -> None:
        super().postOptions()
        if not self.endpoints:
            self.endpoints.append("tcp:65432:interface=127.0.0.1")
        self.workers = self.readIfGiven("workers", parseWorkers)
        self.settings = self._readSettings()
        places = self.settings.limits.connections
        if self.workers is not None and places is not None and places < self.workers:
            raise usage.UsageError("--max-connections: fewer than there are --workers")
        self.datagramRate = (
            self.readIfGiven("udp-rate", parseDatagramRate) or DEFAULT_RATE_PER_SOURCE
        )
        if self["udp-rate"] is not None and not self.datagrams:
            raise usage.UsageError("--udp-rate: there is no --udp that it could be of")
        if self.settings.faults is not None and self.datagrams:
            raise usage.UsageError("--fault and --udp: datagrams meet no faults; give either")
        seed = self.settings.faultSeed
        if seed is not None and self.workers is not None and self.workers > 1:
            raise usage.UsageError(
                "--fault-seed and --workers: nothing would repeat, because the kernel chooses"
                " the worker of each connection"
            )

    def _readSettings(self) -> ServerSettings:
        faults = self._readFaults()
        seed = self.readIfGiven("fault-seed", parseSeed)
        if faults is None and seed is not None:
            raise usage.UsageError("--fault-seed: there is no --fault that it could be of")
        return ServerSettings(
            limits=Limits(
                connections=self.readIfGiven("max-connections", parseCount),
                perHost=self.readIfGiven("max-per-host", parseCount),
                idle=self.readIfGiven("idle-timeout", parsePatience),
                keepAlive=self.read("keepalive", parseKeepAlive),
            ),
            trace=self.read("trace", parseTrace),
            drain=self.read("drain", parseDuration),
            faults=faults,
            faultSeed=seed,
            express=not self["no-express"],
        )

    def _readFaults(self) -> Faults | None:
        found: dict[str, Any] = {}
        for text in self._faults:
            name, value = readValue("--fault", text, parseFault)
            if name in found:
                raise usage.UsageError(f"--fault: {text!r} is a second {name}: give it once")
            found[name] = value
        try:
            return Faults(**found) if found else None
        except ValueError as error:
            raise usage.UsageError(f"--fault: {error}") from None


class _CommandEcho(EchoService):
    """An L{EchoService} whose failure to listen is the end of the process."""

    def listenFailed(self, error: ListenError) -> None:
        super().listenFailed(error)
        # What makes twistd stop in order, and with a status other than 0.
        raise_signal(SIGTERM)


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
    settings = options.settings
    serving: EchoService | Workers
    beside: list[EchoService] = []
    try:
        if options.workers is None:
            serving = _CommandEcho(
                options.connectionReactor(reactor),
                options.endpoints,
                echoFactory(settings, reactor),
                settings.drain,
                options.datagrams,
                options.datagramRate,
            )
        else:
            serving = Workers(reactor, options.endpoints, settings, options.workers)
            if options.datagrams:
                # They are of no connection: this process serves them itself.
                alone = EchoFactory(trace=settings.trace, reactor=reactor)
                beside = [
                    EchoService(
                        reactor, [], alone, 0.0, options.datagrams, options.datagramRate
                    )
                ]
    except EndpointError as error:
        options.refuse("listen", str(error))

    def makeStatus() -> Any:
        from echofactory.status import ServerStatus

        return ServerStatus(CombinedCounts([serving, *beside]))

    # The status is the last to stop: it goes on telling while the others drain.
    status = statusService(options, reactor, makeStatus)
    return Command(options, reactor, [*status, *beside, serving])
