"""
The command lines of the server and the client, and what they have in common.
"""

import getopt
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from twisted import __version__ as twistedVersion
from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

from echofactory._version import __version__
from echofactory.cli.parsers import (
    MOST_LOW_RATE,
    parseAddress,
    parseCount,
    parseDatagramAddress,
    parseDatagramRate,
    parseDuration,
    parseFault,
    parseGoals,
    parseHost,
    parseKeepAlive,
    parseListeningPort,
    parseLowRate,
    parsePatience,
    parsePort,
    parseProgress,
    parseRate,
    parseRates,
    parseSeed,
    parseSize,
    parseStatus,
    parseTrace,
    parseWorkers,
)
from echofactory.cli.streams import complain
from echofactory.client.settings import Opening, Patience
from echofactory.express.reactor import laneOf
from echofactory.net.tracing import dataText
from echofactory.server.factory import Limits
from echofactory.server.faults.settings import Faults
from echofactory.server.guard import DEFAULT_RATE_PER_SOURCE
from echofactory.values.printable import printable
from echofactory.workload.datagrams import MOST_BYTES
from echofactory.workload.settings import DEFAULT_MESSAGES, Workload

T = TypeVar("T")


_PLACES = {"connect", "hdr", "html", "json", "message-file", "plot", "status"}
"""Options whose value is a file, or an address."""


class CommandOptions(usage.Options):
    """
    What all command lines have in common: options may stand before and after
    the arguments, each is read by a parser (L{echofactory.cli.parsers}), and a
    mistake is one line on stderr and exit status 2.

    @ivar given: whether there was anything on the command line.
    @ivar words: what there was.
    """

    program: ClassVar[str]
    examples: ClassVar[str]

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        @raise SystemExit: with status 2, after a line that says what is wrong.
        """
        words = sys.argv[1:] if options is None else options
        self.words = list(words)
        self.given = bool(words)
        try:
            try:
                found, arguments = getopt.gnu_getopt(words, self.shortOpt, self.longOpt)
            except getopt.GetoptError as error:
                raise usage.UsageError(str(error)) from None
            self._refuseTwice([option for option, _ in found])
            ordered = [word for pair in found for word in self._words(*pair)]
            super().parseOptions([*ordered, "--", *arguments])
        except usage.UsageError as error:
            self._exit(str(error))

    def _refuseTwice(self, given: list[str]) -> None:
        """
        Of most options the last value counts, as usual. One that names a place is not
        given up without a word.
        """
        for option in given:
            if option.removeprefix("--") in _PLACES and given.count(option) > 1:
                raise usage.UsageError(f"{option}: given twice")

    def _words(self, option: str, value: str) -> list[str]:
        """Return what getopt took apart as it can be taken apart again."""
        if f"{option[2:]}=" in self.longOpt:
            return [f"{option}={value}"]
        if option[1] != "-" and f"{option[1]}:" in self.shortOpt:
            return [option, value]
        return [option]

    def getUsage(self, width: int | None = None) -> str:
        """Return the options, and after them the examples."""
        # Those that come from docstrings are indented there.
        self.docs = {name: " ".join((doc or "").split()) for name, doc in self.docs.items()}
        return f"{super().getUsage(width)}\nExamples:\n{textwrap.indent(self.examples, '  ')}"

    def refuse(self, option: str, text: str) -> NoReturn:
        """
        Say what is wrong with an option that could be read.

        @raise SystemExit: with status 2.
        """
        self._exit(f"--{option}: {text}")

    def _exit(self, text: str) -> NoReturn:
        complain(f"{self.program}: {printable(text)}")
        raise SystemExit(2)

    def read(self, option: str, parse: Callable[[str], T]) -> T:
        """
        Return an option's value, parsed.

        @raise usage.UsageError: naming the option, the value and what is
            accepted.
        """
        return _read(f"--{option}", self[option], parse)

    def readIfGiven(self, option: str, parse: Callable[[str], T]) -> T | None:
        """Return an option's value, parsed; C{None} if it was not given."""
        return None if self[option] is None else self.read(option, parse)

    def opt_version(self) -> NoReturn:
        """
        Show the versions and exit.
        """
        print(f"echofactory {__version__} (Twisted {twistedVersion})")
        raise SystemExit(0)

    def opt_help(self) -> NoReturn:
        """
        Show this help and exit.
        """
        print(self)
        raise SystemExit(0)

    opt_h = opt_help


def _read(name: str, text: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(text)
    except ValueError as error:
        raise usage.UsageError(f"{name}: {text!r} is {error}") from None


PICTURES: list[list[object]] = [
    [
        "plot",
        None,
        None,
        "Draw latency by percentile, and the run over time, into this file: png, svg or pdf"
        " by its suffix.",
    ],
    ["html", None, None, "Write one self-contained page to this file: figures and plots."],
]

_NO_EXPRESS: list[object] = ["no-express", None, "Leave the fast lane out."]


_KEEP_ALIVE: list[object] = [
    "keepalive",
    None,
    "60s",
    "Time without a byte on a TCP connection, after which the kernel probes whether the peer"
    " is still there: 30s, 2m, or 0 for never. The connection is lost if 4 probes, a quarter of"
    " that time apart, have no answer.",
]


class ConnectingOptions(CommandOptions):
    """Those of what makes connections, or accepts them, on the fast lane or without."""

    def connectionReactor(self, reactor: Any) -> Any:
        """Return what connections are to be made on: the fast lane, or the reactor."""
        return reactor if self["no-express"] else laneOf(reactor)


_STATUS: list[object] = [
    "status",
    None,
    None,
    "Serve a live page, /metrics (Prometheus), /healthz and /status.json on this"
    " Twisted server endpoint: tcp:9465:interface=127.0.0.1, for which 9465 is short."
    " It changes nothing, but has no password: whoever reaches it can read it."
    " [default: none]",
]


class StatusOptions(ConnectingOptions):
    """
    Those of what can be watched.

    @ivar status: a server endpoint string; C{None}: no status is served.
    """

    def postOptions(self) -> None:
        self.status = self.readIfGiven("status", parseStatus)

    def listenOption(self, endpoint: object) -> str:
        """
        Return what on the command line asks to listen on an endpoint.

        @param endpoint: as L{ListenError<echofactory.net.endpoints.ListenError>} names it.
        """
        return "--status"


class ServerOptions(StatusOptions):
    """
    The command line of C{twistd multiecho}.

    @ivar endpoints: server endpoint strings.
    @ivar address: the one of them that C{HOST PORT} is short for; C{None}: it was not given.
    @ivar datagrams: hosts and ports of UDP.
    @ivar datagramRate: how many a second are answered to one source.
    @ivar drain: seconds.
    @ivar faults: C{None}: none were asked for.
    @ivar faultSeed: C{None}: any.
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
        _KEEP_ALIVE,
        _STATUS,
    ]

    optFlags: ClassVar[list[list[object]]] = [_NO_EXPRESS]

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
        self.datagrams.append(_read("--udp", text, parseDatagramAddress))

    def parseArgs(self, *arguments: str) -> None:
        if not arguments:
            return
        if len(arguments) != 2:
            raise usage.UsageError("give HOST and PORT, or neither")
        host, port = arguments
        number = _read("PORT", port, parseListeningPort)
        interface = quoteStringArgument(_read("HOST", host, parseHost))
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
        self.drain = self.read("drain", parseDuration)
        self.workers = self.readIfGiven("workers", parseWorkers)
        self.trace = self.read("trace", parseTrace)
        self.limits = Limits(
            connections=self.readIfGiven("max-connections", parseCount),
            perHost=self.readIfGiven("max-per-host", parseCount),
            idle=self.readIfGiven("idle-timeout", parsePatience),
            keepAlive=self.read("keepalive", parseKeepAlive),
        )
        places = self.limits.connections
        if self.workers is not None and places is not None and places < self.workers:
            raise usage.UsageError("--max-connections: fewer than there are --workers")
        self.datagramRate = (
            self.readIfGiven("udp-rate", parseDatagramRate) or DEFAULT_RATE_PER_SOURCE
        )
        if self["udp-rate"] is not None and not self.datagrams:
            raise usage.UsageError("--udp-rate: there is no --udp that it could be of")
        self.faults = self._readFaults()
        self.faultSeed = self.readIfGiven("fault-seed", parseSeed)
        if self.faults is None and self.faultSeed is not None:
            raise usage.UsageError("--fault-seed: there is no --fault that it could be of")
        if self.faults is not None and self.datagrams:
            raise usage.UsageError("--fault and --udp: datagrams meet no faults; give either")
        if self.faultSeed is not None and self.workers is not None and self.workers > 1:
            raise usage.UsageError(
                "--fault-seed and --workers: nothing would repeat, for which worker a"
                " connection comes to is left to the kernel"
            )

    def _readFaults(self) -> Faults | None:
        found: dict[str, Any] = {}
        for text in self._faults:
            name, value = _read("--fault", text, parseFault)
            if name in found:
                raise usage.UsageError(f"--fault: {text!r} is a second {name}: give it once")
            found[name] = value
        try:
            return Faults(**found) if found else None
        except ValueError as error:
            raise usage.UsageError(f"--fault: {error}") from None


_CONNECT_TIMEOUT: list[object] = [
    "connect-timeout",
    None,
    "10s",
    "How long to wait for a connection, TLS included: 250ms, 10s, 2m or 1h.",
]
_TRACE: list[object] = [
    "trace",
    None,
    "none",
    "What to tell per connection: none, connections, or data (what comes and goes, abridged).",
]


class TargetOptions(ConnectingOptions):
    """Those of what connects: where to, and how often."""

    def __init__(self) -> None:
        super().__init__()
        self._address: tuple[str, ...] = ()

    def parseArgs(self, *arguments: str) -> None:
        self._address = arguments

    def readTarget(self) -> str | None:
        endpoint: str | None = self["connect"]
        if len(self._address) not in (0, 2, 3):
            raise usage.UsageError("give HOST and PORT, or HOST, PORT and CONNECTIONS")
        if endpoint is not None and self._address:
            raise usage.UsageError("--connect: give either that or HOST PORT")
        if self._address:
            host = _read("HOST", self._address[0], parseHost)
            port = _read("PORT", self._address[1], parsePort)
            return f"tcp:{quoteStringArgument(host)}:{port}"
        if endpoint is None and self.given:
            raise usage.UsageError("nothing to connect to: give HOST PORT or --connect")
        return endpoint

    def readPatience(self) -> Patience:
        """Return how long to wait for a connection, and for a reply."""
        return Patience(
            connect=self.read("connect-timeout", parsePatience),
            reply=self.read("reply-timeout", parsePatience),
            keepAlive=self.read("keepalive", parseKeepAlive),
        )

    def readConnections(self, default: int) -> int:
        given = self.readIfGiven("connections", parseCount)
        if len(self._address) < 3:
            return given or default
        if given is not None:
            raise usage.UsageError("--connections: give either that or CONNECTIONS")
        return _read("CONNECTIONS", self._address[2], parseCount)


class ClientOptions(TargetOptions):
    """
    The command line of C{python -m echofactory.client}.

    @ivar target: a client endpoint string; C{None}: serve yourself.
    @ivar connections: how many.
    """

    program = "echofactory.client"
    synopsis = "Usage: python -m echofactory.client [options] [HOST PORT [CONNECTIONS]]"
    longdesc = (
        "Open connections to an echo server, check that every byte comes back, and report."
        " With neither address nor options, show it all against a server in the same process."
        " Exit status: 0 every message came back whole; 1 something was lost, refused, late"
        " or wrong; 2 bad usage; 130, 143 or 129 interrupted by SIGINT, SIGTERM or SIGHUP."
    )
    examples = """\
python -m echofactory.client 127.0.0.1 65432 100 --size 1k --count 1000
    100 connections, each sending 1000 generated messages of 1 KiB
python -m echofactory.client 127.0.0.1 65432 50 --size 64 --rate 1k --duration 10s
    1,000 messages a second for 10 seconds, whether or not replies come
python -m echofactory.client 127.0.0.1 65432 50 --size 64 --find-rate 'p99<5ms'
    the highest rate at which 99 of 100 messages are back within 5 ms
"""
    optParameters: ClassVar[list[list[object]]] = [
        [
            "connect",
            None,
            None,
            "A Twisted client endpoint to connect to, not HOST PORT; or udp:HOST:PORT, where"
            " each message is a datagram of at most 65507 bytes.",
        ],
        ["connections", "n", None, "Connections to open, all at once. [default: 2]"],
        ["message-file", None, None, "Send this file's bytes, as one message."],
        ["size", None, None, "Send generated messages of so many bytes: 64, 64k, 1M or 1G."],
        [
            "count",
            None,
            None,
            "Messages per connection, the list over and over."
            " [default: each --message once, or one]",
        ],
        [
            "window",
            None,
            None,
            "Messages outstanding per connection."
            " [default: the number of --message, or one; no limit with --rate]",
        ],
        ["duration", None, None, "Send for so long, not a count of messages: 10s, 2m or 1h."],
        [
            "rate",
            None,
            None,
            "Messages a second over all connections, sent on schedule whether or not replies"
            " come (open loop), for --duration or a --count: 500, 20k, or 1k..20k to rise"
            " evenly."
            " [default: as fast as replies make room in the window]",
        ],
        [
            "find-rate",
            None,
            None,
            "Find the highest rate at which the response times keep this promise, and nothing"
            " fails: p99<5ms, or several such as p50<300us,max<1s. It begins at 500; each"
            " rate is tried for --duration [default: 5s], after a second to settle.",
        ],
        [
            "connect-rate",
            None,
            None,
            "Connections to ask for in a second: 500 or 20k. [default: all at once]",
        ],
        [
            "hold",
            None,
            None,
            "How long to keep a connection open after its last message is back: 250ms, 10s.",
        ],
        _CONNECT_TIMEOUT,
        [
            "reply-timeout",
            None,
            "10s",
            "How long to wait for the next byte while something is outstanding; over UDP, for"
            " each message, which is lost then.",
        ],
        _KEEP_ALIVE,
        _TRACE,
        [
            "json",
            None,
            None,
            "Write the results to this file as JSON; - is stdout, and the report then"
            " goes to stderr.",
        ],
        [
            "hdr",
            None,
            None,
            "Write the response times to this file as an HdrHistogram log, a histogram for each"
            " interval.",
        ],
        *PICTURES,
        [
            "progress",
            None,
            "auto",
            "What to show on stderr during the run: auto (a live view, on a terminal), always"
            " (without a terminal, a line for each interval) or never.",
        ],
        [
            "interval",
            None,
            "1s",
            "Length of the pieces that the run is shown and kept in: 250ms, 10s.",
        ],
    ]
    optFlags: ClassVar[list[list[object]]] = [
        ["churn", None, "Open a new connection for every message."],
        [
            "half-close",
            None,
            "Close the sending side after the last message: every byte and then the end of"
            " the stream must come back. Not over TLS, which has no half-close.",
        ],
        _NO_EXPRESS,
        ["quiet", None, "No report; failures are still told on stderr."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.target: str | None = None
        self.messages: list[bytes] = []
        self.addresses: list[str] = []

    def opt_message(self, text: str) -> None:
        """
        A message to send; may be repeated.
        [default: the two of the tutorial, "Message 1 from client." and 2]
        """
        self.messages.append(text.encode("utf-8", "surrogateescape"))

    def opt_bind(self, text: str) -> None:
        """
        A source address; may be repeated, and they are used in turn.
        [default: the system chooses]
        """
        self.addresses.append(_read("--bind", text, parseAddress))

    def postOptions(self) -> None:
        self.trace = self.read("trace", parseTrace)
        self.goals = self.readIfGiven("find-rate", parseGoals)
        self._refuseTogether("find-rate", "hdr", "a log is of one run")
        if self["hdr"] == "-":
            raise usage.UsageError("--hdr: '-' is not a file")
        self.interval = self.read("interval", parsePatience)
        self.progress = self.read("progress", parseProgress)
        self.opening = Opening(
            rate=self.readIfGiven("connect-rate", parseRate), addresses=tuple(self.addresses)
        )
        self.patience = self.readPatience()
        self.target = self.readTarget()
        self.connections = self.readConnections(2)
        self.workload = self._readWorkload()
        if self.workload.halfClose and (self.target or "").lower().startswith(("tls:", "ssl:")):
            raise usage.UsageError(
                "--half-close: TLS has no half-close; count the bytes instead"
            )
        if (self.target or "").lower().startswith("udp:"):
            self._refuseForDatagrams()

    def used(self) -> list[tuple[str, str]]:
        """Return the options that the run goes by, those that were not given too."""
        repeated = {
            "message": [dataText(message) for message in self.messages],
            "bind": self.addresses,
        }
        named = {"connect": self.target, "connections": self.connections} | {
            name: value
            for name, value in (self | repeated).items()
            if name not in ("connect", "connections")
        }
        return [
            (
                f"--{name}",
                printable(", ".join(value) if isinstance(value, list) else str(value)),
            )
            for name, value in sorted(named.items())
            if value not in (None, 0, [])
        ]

    def _readWorkload(self) -> Workload:
        sources = [
            name
            for name, given in (
                ("--message", self.messages),
                ("--message-file", self["message-file"] is not None),
                ("--size", self["size"] is not None),
            )
            if given
        ]
        if len(sources) > 1:
            raise usage.UsageError(f"{' and '.join(sources)}: give one of them")
        if self["message-file"] is not None:
            self.messages = [self._readFile(self["message-file"])]
        elif b"" in self.messages:
            raise usage.UsageError("--message: '' is empty, and cannot come back")
        self._refuseTogether("find-rate", "rate", "it is what the search decides")
        self._refuseTogether("find-rate", "count", "each rate is tried for --duration")
        self._refuseTogether("count", "duration", "a run ends by one of them")
        self._refuseTogether("churn", "window", "a connection has but one message then")
        self._refuseTogether("hold", "half-close", "a half-closed connection is not kept open")
        rate = self.readIfGiven("rate", parseRates)
        if rate is not None and not self["duration"] and not self["count"]:
            raise usage.UsageError(
                "--rate: give --duration or --count too, such as --rate 500 --duration 10s"
            )
        return Workload(
            messages=tuple(self.messages) or DEFAULT_MESSAGES,
            size=self.readIfGiven("size", parseSize),
            count=self.readIfGiven("count", parseCount),
            duration=self.readIfGiven("duration", parsePatience),
            rate=rate,
            window=self.readIfGiven("window", parseCount),
            churn=bool(self["churn"]),
            halfClose=bool(self["half-close"]),
            hold=self.readIfGiven("hold", parseDuration) or 0.0,
        )

    def _refuseForDatagrams(self) -> None:
        if self.workload.halfClose:
            raise usage.UsageError("--half-close: over UDP there is no stream to end")
        if self.workload.longest > MOST_BYTES:
            given = next((name for name in ("size", "message-file") if self[name]), "message")
            raise usage.UsageError(
                f"--{given}: {self.workload.longest:,} bytes are more than a datagram"
                f" holds, which is {MOST_BYTES:,}"
            )

    def _refuseTogether(self, one: str, other: str, why: str) -> None:
        if self[one] and self[other]:
            raise usage.UsageError(f"--{one} and --{other}: {why}")

    def _readFile(self, path: str) -> bytes:
        file = Path(path)
        try:
            if file.exists() and not file.is_file():
                raise usage.UsageError(f"--message-file: {path!r} is not a regular file")
            content = file.read_bytes()
        except OSError as error:
            raise usage.UsageError(f"--message-file: {path!r}: {error.strerror}") from None
        if not content:
            raise usage.UsageError(f"--message-file: {path!r} is empty, and cannot come back")
        return content


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
        _CONNECT_TIMEOUT,
        [
            "reply-timeout",
            None,
            "10s",
            "How long to wait for the next byte while something is outstanding.",
        ],
        _KEEP_ALIVE,
        _TRACE,
        _STATUS,
    ]
    optFlags: ClassVar[list[list[object]]] = [_NO_EXPRESS]

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
