"""
The options of C{python -m echofactory.client}.
"""

from pathlib import Path
from typing import ClassVar

from twisted.python import usage

from echofactory.cli import socketoptions, tlsoptions
from echofactory.cli.commonoptions import (
    CONNECT_TIMEOUT,
    KEEP_ALIVE,
    NO_EXPRESS,
    STATUS,
    TRACE,
    StatusOptions,
    TargetOptions,
)
from echofactory.cli.daskoptions import DASK_NAMES, DASK_OPTIONS, readDask
from echofactory.cli.expecting import (
    EXPECT,
    readExpectations,
    refuseRelative,
    refuseUnmeasured,
)
from echofactory.cli.options import Flag, Option
from echofactory.cli.outputoptions import RUN_OUTPUTS, readLabels
from echofactory.cli.parsers import (
    parseAddress,
    parseCount,
    parseDuration,
    parseMessage,
    parseRate,
    parseSize,
    parseWhole,
)
from echofactory.cli.scheduleoptions import RECONNECT, SCHEDULE_OPTIONS
from echofactory.client.search import FIRST, WARM_UP
from echofactory.client.settings import Opening
from echofactory.net.endpoints import unwrapped
from echofactory.net.tracing import Trace, dataText
from echofactory.results.expectations import Expectation
from echofactory.results.labels import labelsText
from echofactory.values.printable import printable
from echofactory.workload.datagrams import MAX_DATAGRAM_SIZE
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload
from echofactory.workload.stages import Stages

DEFAULT_STEP_S = 5.0
"""Seconds for which a search tries each rate, without C{--duration}."""


class ClientOptions(TargetOptions, StatusOptions):
    """
    The command line of C{python -m echofactory.client}.

    @ivar target: a client endpoint string; C{None}: a server of this process.
    @ivar family: the IP version of the addresses of HOST to use; C{None}: both.
    @ivar tls: the TLS of C{--tls}; C{None}: the endpoint string decides.
    @ivar socketOptions: the options of the sockets.
    @ivar connections: the number of connections.
    @ivar workload: what each connection sends.
    @ivar patience: how long to wait for a connection and for a reply.
    @ivar opening: how connections are opened.
    @ivar goals: the goals of C{--find-rate}; C{None}: no search.
    @ivar expectations: what the run is judged by.
    @ivar interval: the length of the run's intervals, in seconds.
    @ivar progress: one of L{CHOICES<echofactory.report.live.CHOICES>}.
    @ivar title: the title of the run; empty: it has none.
    @ivar labels: the labels of the run.
    @ivar percents: the percentiles of the report; C{None}: those of every report.
    @ivar dask: where the run is made; C{None}: in this process.
    @ivar trace: which events of each connection are shown.
    """

    program = "echofactory.client"
    synopsis = "Usage: python -m echofactory.client [options] [HOST PORT [CONNECTIONS]]"
    longdesc = (
        "Open connections to an echo server, check that every byte comes back, and report."
        " Without address and options, the program starts a server in its own process and"
        " connects to it."
        " Exit status: 0 every message came back unchanged; 1 something was lost, refused, late"
        " or wrong; 2 bad usage; 3 every message came back, but an expectation (--expect) was"
        " not met; 130, 143 or 129 interrupted by SIGINT, SIGTERM or SIGHUP."
    )
    examples = """\
python -m echofactory.client 127.0.0.1 65432 100 --size 1k --count 1000
    100 connections; each sends 1000 generated messages of 1 KiB
python -m echofactory.client 127.0.0.1 65432 50 --size 64 --rate 1k --duration 10s
    1,000 messages per second for 10 seconds, sent on schedule
python -m echofactory.client 127.0.0.1 65432 50 --size 64 --find-rate 'p99<5ms'
    the highest rate whose response time is less than 5 ms at p99
"""
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Target": ("connect", "bind", "ipv4", "ipv6", "dscp", "congestion"),
        "TLS on HOST PORT": tlsoptions.CLIENT_TLS_NAMES,
        "Load": (
            "connections", "connect-rate", "size", "message", "message-file", "count", "rate",
            "arrivals", "window", "churn", "reconnect", "hold", "half-close", "find-rate",
            "spin",
        ),
        "Time": ("duration", "warm-up", "connect-timeout", "reply-timeout", "keepalive"),
        "Several processes": DASK_NAMES,
        "Pass or fail": ("expect",),
        "Output": (
            "json", "json-lines", "csv", "hdr", "plot", "html", "title", "label",
            "percentiles", "interval", "progress", "status", "trace", "quiet",
        ),
    }  # fmt: skip
    parameters: ClassVar[tuple[Option, ...]] = (
        Option(
            "connect",
            "ENDPOINT",
            str,
            None,
            "Twisted client endpoint to connect to, instead of HOST PORT. udp:HOST:PORT sends"
            f" each message as one datagram of at most {MAX_DATAGRAM_SIZE} bytes.",
            example="tls:echo.example:7007",
        ),
        Option(
            "connections",
            "N",
            parseCount,
            None,
            "Number of connections. With --churn, the number that is open at the same time.",
            short="n",
            defaultHelp="2",
            example="500",
        ),
        Option(
            "message",
            "TEXT",
            parseMessage,
            None,
            "Message to send. Can be repeated: each connection sends the messages in this"
            " order.",
            defaultHelp="the 2 messages of the tutorial",
            example="hello",
            repeated=True,
        ),
        Option(
            "message-file",
            "FILE",
            str,
            None,
            "Send the content of this file as one message.",
            example="photo.jpg",
        ),
        Option(
            "size",
            "SIZE",
            parseSize,
            None,
            "Send generated messages of this many bytes, instead of --message.",
            example="64k",
        ),
        Option(
            "count",
            "N",
            parseWhole,
            None,
            "Number of messages per connection. After the last --message, the first one"
            " follows.",
            defaultHelp="each --message once; one generated message",
            example="1000",
        ),
        Option(
            "window",
            "N",
            parseWhole,
            None,
            "Maximum number of messages per connection that wait for their reply.",
            defaultHelp="the number of --message, 1 with --size, no limit with --rate",
            example="8",
        ),
        *SCHEDULE_OPTIONS,
        EXPECT,
        Option(
            "connect-rate",
            "RATE",
            parseRate,
            None,
            "Connections to open per second.",
            defaultHelp="all at the same time",
            example="500",
        ),
        Option(
            "hold",
            "DURATION",
            parseDuration,
            None,
            "Time to keep a connection open after its last reply.",
            defaultHelp="0",
            example="30s",
        ),
        Option(
            "bind",
            "ADDRESS",
            parseAddress,
            None,
            "Source address, one of this machine. Can be repeated: connections use the"
            " addresses in turn.",
            defaultHelp="the system chooses",
            example="127.0.0.1",
            repeated=True,
        ),
        *tlsoptions.CLIENT_TLS_OPTIONS,
        *socketoptions.SOCKET_OPTIONS,
        CONNECT_TIMEOUT,
        Option(
            "reply-timeout",
            "DURATION",
            parseDuration,
            "10s",
            "Time limit for the next byte of a reply. Over UDP: time limit for each reply,"
            " after which the datagram counts as lost. The timeout can fire up to 10 % late.",
            example="500ms",
        ),
        KEEP_ALIVE,
        *DASK_OPTIONS,
        TRACE,
        STATUS,
        *RUN_OUTPUTS,
    )
    flags: ClassVar[tuple[Flag, ...]] = (
        *tlsoptions.CLIENT_TLS_FLAGS,
        *socketoptions.FAMILY_FLAGS,
        Flag("churn", "Open a new connection for each message."),
        RECONNECT,
        Flag(
            "half-close",
            "Close the sending side after the last message. The server must return every byte"
            " and then end the stream. Over TLS, this needs TLS 1.3 and the fast lane.",
        ),
        Flag(
            "spin",
            "Keep a core awake while messages are sent, so that they are sent within a few"
            " microseconds of when they are due. It needs --rate or --find-rate.",
        ),
        NO_EXPRESS,
        Flag("quiet", "Print no report. Failures and warnings still go to stderr."),
    )

    def __init__(self) -> None:
        super().__init__()
        self.target: str | None = None

    def postOptions(self) -> None:
        super().postOptions()
        self.trace: Trace = self.value("trace")
        self.goals: tuple[Expectation, ...] | None = self.value("find-rate")
        if not all(path.endswith(".hgrm") for path in self["hdr"]):
            self._refuseTogether("find-rate", "hdr", "a log is of one run")
        if "-" in self["hdr"]:
            raise usage.UsageError("--hdr: '-' is not a file")
        self.title: str = self.value("title") or ""
        self.labels = readLabels(self)
        self.percents: tuple[float, ...] | None = self.value("percentiles")
        if self["spin"] and not (self["rate"] or self["find-rate"]):
            raise usage.UsageError("--spin: it needs --rate or --find-rate")
        self.interval: float = self.value("interval")
        self.progress: str = self.value("progress")
        self.opening = self.built(Opening, {"rate": "connect-rate", "addresses": "bind"})
        self.patience = self.readPatience()
        self.target = self.readTarget()
        self.tls = tlsoptions.readClientTLS(self, self.readHost())
        if self.tls is not None and self.target is not None:
            # The report names what it is.
            self.target = f"tls:{self.target.removeprefix('tcp:')}"
        self.family = socketoptions.readFamily(self, self.readHost())
        self.socketOptions = socketoptions.readSocketOptions(self)
        # Of what the string names, whatever carries it.
        described = unwrapped(self.target or "")[1].lower()
        if self.socketOptions and described.startswith("unix:"):
            name = "congestion" if self.socketOptions.dscp is None else "dscp"
            raise usage.UsageError(f"--{name}: a UNIX socket has none")
        self.connections = self.readConnections(2)
        self.dask = readDask(self, self.connections, self.trace, self.target)
        self.workload = self._readWorkload()
        self.expectations = readExpectations(self)
        refuseRelative(
            self.expectations, "it works in python -m echofactory.report, with several files"
        )
        scheduled = self.workload.rate is not None or self.goals is not None
        refuseUnmeasured(self.expectations, scheduled, self.target)
        overTLS = described.startswith(("tls:", "ssl:"))
        if self.workload.halfClose and overTLS and self["no-express"]:
            raise usage.UsageError(
                "--half-close: over TLS, it needs the fast lane: leave out --no-express"
            )
        if (self.target or "").lower().startswith("udp:"):
            self._refuseForDatagrams()

    def effective(self) -> list[tuple[str, str]]:
        """
        Return each option that the run uses with its value as printable text, defaults
        included.
        """
        found: dict[str, object] = {
            "connect": self.target,
            "connections": self.connections,
            "message": ", ".join(dataText(message) for message in self.value("message")),
            "bind": ", ".join(self.opening.addresses),
            "expect": ",".join(self["expect"]),
            "hdr": ", ".join(self["hdr"]),
            "label": labelsText(self.labels),
        }
        return [
            (f"--{name}", printable(str(value)))
            for name, value in sorted((self | found).items())
            if value not in (None, 0, "")
        ]

    def _readWorkload(self) -> Workload:
        sources = [name for name in ("message", "message-file", "size") if self[name]]
        if len(sources) > 1:
            named = " and ".join(f"--{name}" for name in sources)
            raise usage.UsageError(f"{named}: give one of them")
        self._refuseTogether("find-rate", "reconnect", "a failure breaks every goal")
        self._refuseTogether("find-rate", "count", "each rate is tried for --duration")
        others: dict[str, object] = {}
        if self["find-rate"]:
            first = self.value("rate")
            if first is not None and (isinstance(first, Stages) or first.first != first.last):
                raise usage.UsageError(
                    "--find-rate and --rate: the search begins at one rate, such as 500"
                )
            defaults = {
                "duration": ("duration", DEFAULT_STEP_S),
                "rate": ("rate", Rate(FIRST, FIRST)),
                "warmUp": ("warm-up", WARM_UP),
            }
            others = {
                field: value for field, (name, value) in defaults.items() if self[name] is None
            }
        fields = {
            "size": "size",
            "count": "count",
            "duration": "duration",
            "warmUp": "warm-up",
            "rate": "rate",
            "arrivals": "arrivals",
            "reconnect": "reconnect",
            "window": "window",
            "churn": "churn",
            "halfClose": "half-close",
            "hold": "hold",
        }
        if self["message-file"] is not None:
            content = self._readFile(self["message-file"])
            return self.built(Workload, fields, messages=(content,), **others)
        return self.built(Workload, fields | {"messages": "message"}, **others)

    def _refuseForDatagrams(self) -> None:
        if self.socketOptions.congestion is not None:
            raise usage.UsageError("--congestion: UDP has no congestion control")
        if self.workload.halfClose:
            raise usage.UsageError("--half-close: over UDP there is no stream to end")
        if self.workload.longest > MAX_DATAGRAM_SIZE:
            given = next((name for name in ("size", "message-file") if self[name]), "message")
            raise usage.UsageError(
                f"--{given}: {self.workload.longest:,} bytes are more than a datagram"
                f" holds, which is {MAX_DATAGRAM_SIZE:,}"
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
            raise usage.UsageError(
                f"--message-file: {path!r} is empty: an empty message cannot come back"
            )
        return content
