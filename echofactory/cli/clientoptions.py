"""
The options of C{python -m echofactory.client}.
"""

from pathlib import Path
from typing import ClassVar

from twisted.python import usage

from echofactory.cli.options import (
    CONNECT_TIMEOUT,
    KEEP_ALIVE,
    NO_EXPRESS,
    PICTURES,
    TRACE,
    TargetOptions,
    readValue,
)
from echofactory.cli.parsers import (
    parseAddress,
    parseCount,
    parseDuration,
    parseGoals,
    parsePatience,
    parseProgress,
    parseRate,
    parseRates,
    parseSize,
    parseTrace,
)
from echofactory.client.settings import Opening
from echofactory.net.tracing import dataText
from echofactory.values.printable import printable
from echofactory.workload.datagrams import MAX_DATAGRAM_SIZE
from echofactory.workload.settings import DEFAULT_MESSAGES, Workload


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
        CONNECT_TIMEOUT,
        [
            "reply-timeout",
            None,
            "10s",
            "How long to wait for the next byte while something is outstanding; over UDP, for"
            " each message, which is lost then.",
        ],
        KEEP_ALIVE,
        TRACE,
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
        NO_EXPRESS,
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
        self.addresses.append(readValue("--bind", text, parseAddress))

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
            raise usage.UsageError(f"--message-file: {path!r} is empty, and cannot come back")
        return content
