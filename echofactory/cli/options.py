"""
The command lines of the server and the client, and what they have in common.
"""

import getopt
import sys
import textwrap
from collections.abc import Callable
from typing import Any, ClassVar, NoReturn, TypeVar

from twisted import __version__ as twistedVersion
from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

from echofactory._version import __version__
from echofactory.cli.parsers import (
    parseCount,
    parseHost,
    parseKeepAlive,
    parsePatience,
    parsePort,
    parseStatus,
)
from echofactory.cli.streams import complain
from echofactory.client.settings import Patience
from echofactory.express.reactor import laneOf
from echofactory.values.printable import printable

T = TypeVar("T")


_PLACES = {"connect", "hdr", "html", "json", "message-file", "plot", "status"}
"""Options whose value is a file, or an address."""


class CommandOptions(usage.Options):
    """
    What all command lines have in common: options may stand before and after
    the arguments, each is read by a parser (L{echofactory.cli.parsers}), and a
    mistake is one line on stderr and exit status 2.

    @ivar given: whether there was anything on the command line.
    """

    program: ClassVar[str]
    examples: ClassVar[str]

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        @raise SystemExit: with status 2, after a line that says what is wrong.
        """
        words = sys.argv[1:] if options is None else options
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
        return readValue(f"--{option}", self[option], parse)

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


def readValue(name: str, text: str, parse: Callable[[str], T]) -> T:
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

NO_EXPRESS: list[object] = ["no-express", None, "Leave the fast lane out."]


KEEP_ALIVE: list[object] = [
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


STATUS: list[object] = [
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


CONNECT_TIMEOUT: list[object] = [
    "connect-timeout",
    None,
    "10s",
    "How long to wait for a connection, TLS included: 250ms, 10s, 2m or 1h.",
]
TRACE: list[object] = [
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
            host = readValue("HOST", self._address[0], parseHost)
            port = readValue("PORT", self._address[1], parsePort)
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
        return readValue("CONNECTIONS", self._address[2], parseCount)
