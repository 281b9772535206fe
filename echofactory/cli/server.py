"""
The program C{twistd multiecho}: its options, and the service that it makes of them.
"""

from dataclasses import replace
from signal import SIGTERM, raise_signal
from typing import Any, ClassVar

from twisted.application.service import IService
from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

from echofactory.cli.commonoptions import (
    KEEP_ALIVE,
    NO_EXPRESS,
    STATUS,
    TRACE,
    StatusOptions,
)
from echofactory.cli.options import Flag, Option, readValue
from echofactory.cli.parsers import (
    parseDatagramAddress,
    parseDatagramRate,
    parseDuration,
    parseFault,
    parseHostAlone,
    parseListeningPort,
    parseSeed,
    parseWhole,
    parseWorkers,
)
from echofactory.cli.socketoptions import SOCKET_OPTIONS, readSocketOptions
from echofactory.cli.tlsoptions import SERVER_TLS_NAMES, SERVER_TLS_OPTIONS, readServerTLS
from echofactory.cli.twistd import Command, prepare, statusService
from echofactory.net.endpoints import EndpointError, ListenError, unwrapped
from echofactory.server.counts import CombinedCounts
from echofactory.server.factory import EchoFactory
from echofactory.server.faults.settings import Faults
from echofactory.server.guard import DEFAULT_RATE_PER_SOURCE
from echofactory.server.service import EchoService, echoFactory
from echofactory.server.settings import Limits, ServerSettings
from echofactory.server.workers.supervisor import Workers

_DEFAULT_ENDPOINT = "tcp:65432:interface=127.0.0.1"


class ServerOptions(StatusOptions):
    """
    The command line of C{twistd multiecho}.

    @ivar endpoints: server endpoint strings.
    @ivar address: the one of them that C{HOST PORT} is short for; C{None}: it was not given.
    @ivar datagrams: hosts and ports to echo on over UDP.
    @ivar datagramRate: the maximum of datagrams per second that one source is sent.
    @ivar workers: the number of processes that serve; C{None}: this process serves.
    @ivar settings: how connections are served.
    """

    program = "multiecho"
    synopsis = "[options] [HOST PORT]"
    longdesc = (
        "Send back every byte that arrives, to many clients at the same time (RFC 862)."
        " HOST PORT is short for --listen tcp:PORT:interface=HOST. Without HOST PORT and"
        " --listen, the server listens on the loopback interface only."
    )
    examples = """\
twistd -n multiecho
    on 127.0.0.1, port 65432; the log shows each connection
twistd -n multiecho --listen tcp:7007 --listen unix:/run/echo.sock --trace none
    on port 7007 of every IPv4 address and on a UNIX socket; the log shows no connection
twistd -n multiecho --trace data 127.0.0.1 65432
    as the tutorial's multiconn-server.py does
"""
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Addresses": ("listen", "udp", "status", "dscp", "congestion"),
        "TLS on HOST PORT": SERVER_TLS_NAMES,
        "Limits": ("max-connections", "max-per-host", "udp-rate"),
        "Time": ("idle-timeout", "keepalive", "drain"),
        "Faults": ("fault", "fault-seed"),
        "Processes": ("workers", "no-express"),
        "Output": ("trace",),
    }
    parameters: ClassVar[tuple[Option, ...]] = (
        Option(
            "listen",
            "ENDPOINT",
            str,
            None,
            "Twisted server endpoint to listen on. Can be repeated. Tested: tcp:, unix:, ssl:,"
            " tls:, systemd: and haproxy:. If a client closes its sending side, the server"
            " sends all that is left. Over TLS, this needs TLS 1.3 and the fast lane.",
            defaultHelp=_DEFAULT_ENDPOINT,
            example="tcp:7007",
            repeated=True,
        ),
        replace(TRACE, default="connections", example="data"),
        Option(
            "drain",
            "DURATION",
            parseDuration,
            "5s",
            "Time that a stop waits for open connections before it cuts them. 0: no wait.",
            example="30s",
        ),
        Option(
            "workers",
            "N|auto",
            parseWorkers,
            None,
            "Number of processes that serve, from 1 to 256. They share the TCP ports; other"
            " ports are refused. auto: the number of cores that CPU affinity and the"
            " container's CPU quota allow. A worker that ends is started again.",
            defaultHelp="this process serves, without workers",
            example="4",
        ),
        Option(
            "max-connections",
            "N",
            parseWhole,
            None,
            "Maximum number of open connections. Further connections are closed immediately and"
            " counted as refused; the client sees closed-early or reset. Workers share the"
            " number evenly. A worker that is full leaves connections to those that have room.",
            defaultHelp="no limit",
            example="10000",
        ),
        Option(
            "max-per-host",
            "N",
            parseWhole,
            None,
            "Maximum number of open connections from one host: an IPv4 address, or an IPv6 /64"
            " network. With N workers, a host can have up to N times as many, because each"
            " worker counts its own connections. Behind haproxy:, the host is the client in the"
            " PROXY header.",
            defaultHelp="no limit",
            example="100",
        ),
        Option(
            "idle-timeout",
            "DURATION",
            parseDuration,
            None,
            "Time without a byte in either direction, after which the server cuts a connection."
            " A connection whose peer does not read is idle too. The timeout can fire up to"
            " 10 % late.",
            defaultHelp="never",
            example="10m",
        ),
        Option(
            "fault",
            "FAULTS",
            str,
            None,
            "Faults that the server makes on purpose, joined with commas. Can be repeated. Not"
            " with --udp."
            " delay=20ms: hold each chunk for 20 ms."
            " jitter=5ms: vary the delay by up to 5 ms."
            " throttle=1M: bytes per second of a connection."
            " dribble=3: bytes per write."
            " corrupt=1e-6, drop=1e-6 and repeat=1e-6: probability per byte."
            " truncate=64k: bytes after which a connection is closed."
            " stall=1s/10s: send nothing for 1 s in every 10 s."
            " reset=0.01 and refuse=0.1: probability per connection.",
            example="delay=20ms,corrupt=1e-6",
            repeated=True,
        ),
        Option(
            "fault-seed",
            "N",
            parseSeed,
            None,
            "Seed of the probabilities of --fault. The same seed reproduces the same faults."
            " Not with 2 or more workers, because the kernel chooses the worker of each"
            " connection.",
            defaultHelp="a random seed, which the log shows",
            example="1",
        ),
        Option(
            "udp",
            "HOST:PORT",
            parseDatagramAddress,
            None,
            "Echo over UDP too, on this address. Can be repeated. Port 0: the system chooses."
            " A forged source address can turn an echo over UDP into a loop or a reflector."
            " Therefore the server does not answer broadcasts, ports below 1024, its own ports,"
            " and what exceeds --udp-rate.",
            defaultHelp="no UDP",
            example="127.0.0.1:7007",
            repeated=True,
        ),
        Option(
            "udp-rate",
            "RATE",
            parseDatagramRate,
            None,
            "Maximum number of datagrams per second that the server answers to one IPv4 address"
            " or IPv6 /64 network. After a pause of 1 s, it answers as many in one burst."
            " Further datagrams are lost. Loopback addresses do not have this limit.",
            defaultHelp=f"{DEFAULT_RATE_PER_SOURCE / 1000:g}k",
            example="20k",
        ),
        *SERVER_TLS_OPTIONS,
        *SOCKET_OPTIONS,
        KEEP_ALIVE,
        STATUS,
    )
    flags: ClassVar[tuple[Flag, ...]] = (NO_EXPRESS,)

    def __init__(self) -> None:
        super().__init__()
        self.endpoints: list[str] = []
        self.address: str | None = None
        self._place: tuple[int, str | None] = 0, None

    def parseArgs(self, *arguments: str) -> None:
        if not arguments:
            return
        interface = readValue("HOST", arguments[0], parseHostAlone)
        if len(arguments) != 2:
            raise usage.UsageError("give HOST and PORT, such as 127.0.0.1 7007, or neither")
        number = readValue("PORT", arguments[1], parseListeningPort)
        self._place = number, interface
        self.address = f"tcp:{number}:interface={quoteStringArgument(interface)}"

    def listenOption(self, endpoint: object) -> str:
        """See L{StatusOptions.listenOption}."""
        if endpoint == self.address:
            return "HOST PORT"
        if endpoint in self.endpoints:
            return "--listen"
        return "--status" if endpoint == self.status else "--udp"

    def postOptions(self) -> None:
        super().postOptions()
        self.endpoints += self.value("listen")
        self.address = readServerTLS(self, *self._place) or self.address
        if self.address is not None:
            self.endpoints.append(self.address)
        if not self.endpoints:
            self.endpoints.append(_DEFAULT_ENDPOINT)
        self.datagrams: list[tuple[str, int]] = list(self.value("udp"))
        kinds = {unwrapped(text)[1].partition(":")[0].lower() for text in self.endpoints}
        if "udp" in kinds:
            raise usage.UsageError("--listen: for UDP, give --udp HOST:PORT")
        if kinds == {"unix"} and not self.datagrams:
            self._refuseForUNIX()
        self.workers: int | None = self.value("workers")
        self.settings = self._readSettings()
        places = self.settings.limits.connections
        if self.workers is not None and places is not None and places < self.workers:
            raise usage.UsageError(
                f"--max-connections: {places:,} is less than --workers, which is {self.workers}"
            )
        self.datagramRate: float = self.value("udp-rate") or DEFAULT_RATE_PER_SOURCE
        if self["udp-rate"] is not None and not self.datagrams:
            raise usage.UsageError("--udp-rate: give --udp too")
        if self.settings.faults is not None and self.datagrams:
            raise usage.UsageError("--fault and --udp: there are no faults over UDP")
        seed = self.settings.faultSeed
        if seed is not None and self.workers is not None and self.workers > 1:
            raise usage.UsageError(
                "--fault-seed and --workers: a seed would reproduce nothing, because the kernel"
                " chooses the worker of each connection"
            )

    def _refuseForUNIX(self) -> None:
        """Refuse options that none of the sockets could have."""
        for name in ("dscp", "congestion"):
            if self[name] is not None:
                raise usage.UsageError(f"--{name}: a UNIX socket has none")

    def _readSettings(self) -> ServerSettings:
        limits = self.built(
            Limits,
            {
                "connections": "max-connections",
                "perHost": "max-per-host",
                "idle": "idle-timeout",
                "keepAlive": "keepalive",
            },
        )
        return self.built(
            ServerSettings,
            {"trace": "trace", "drain": "drain", "faultSeed": "fault-seed"},
            limits=limits,
            faults=self._readFaults(),
            express=not self["no-express"],
            sockets=readSocketOptions(self),
        )

    def _readFaults(self) -> Faults | None:
        found: dict[str, Any] = {}
        written: dict[str, str] = {}
        for text in (fault for faults in self.value("fault") for fault in faults.split(",")):
            name, value = readValue("--fault", text, parseFault)
            if name in found:
                raise usage.UsageError(f"--fault: {text!r} is a second {name}: give it once")
            found[name], written[name] = value, text
        try:
            return Faults(**found) if found else None
        except ValueError as error:
            # The settings begin with the field, and usually the value.
            name, _, why = str(error).partition(": ")
            shown = f"{found[name]!r} is "
            if why.startswith(shown):
                why = f"{written[name]!r} is {why.removeprefix(shown)}"
                raise usage.UsageError(f"--fault: {why}") from None
            raise usage.UsageError(f"--fault: {error}") from None


class _CommandEcho(EchoService):
    """An L{EchoService} that ends the process if it cannot listen."""

    def listenFailed(self, error: ListenError) -> None:
        super().listenFailed(error)
        # Twistd then stops in order, with an exit status other than 0.
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
                # Workers share no UDP ports: this process serves them itself.
                alone = EchoFactory(trace=settings.trace, reactor=reactor)
                alone.socketOptions = settings.sockets
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

    # The status stops last: it answers while the others drain.
    status = statusService(options, reactor, makeStatus)
    return Command(options, reactor, [*status, *beside, serving])
