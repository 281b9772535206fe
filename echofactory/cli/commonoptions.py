"""
Options that several programs have, and the base classes of programs that have more in common.
"""

from typing import Any

from twisted.internet.endpoints import quoteStringArgument
from twisted.python import usage

from echofactory.cli.options import CommandOptions, Flag, Option, readValue
from echofactory.cli.parsers import (
    parseCount,
    parseDuration,
    parseHost,
    parseHostAlone,
    parsePort,
    parseStatus,
    parseTrace,
)
from echofactory.client.settings import Patience
from echofactory.express.reactor import onExpress

CHART_OPTIONS = (
    Option(
        "plot",
        "FILE",
        str,
        None,
        "Draw latency by percentile and the run over time into this file. The suffix names the"
        " format: .png, .svg or .pdf. This needs matplotlib.",
        example="run.svg",
    ),
    Option(
        "html",
        "FILE",
        str,
        None,
        "Write one page with the figures and interactive charts to this file. The page needs"
        " no other file and no network.",
        example="run.html",
    ),
)

NO_EXPRESS = Flag("no-express", "Use Twisted's own transports instead of the fast lane.")

KEEP_ALIVE = Option(
    "keepalive",
    "DURATION",
    parseDuration,
    "60s",
    "Longest time without a byte on a TCP connection before the kernel probes the peer. From"
    " 1s to 9h. 0: no probes. The connection is lost after 4 probes without an answer; the time"
    " between 2 probes is a quarter of DURATION.",
    example="30s",
)

STATUS = Option(
    "status",
    "ENDPOINT",
    parseStatus,
    None,
    "Twisted server endpoint for a live page, /metrics (Prometheus), /healthz and"
    " /status.json. 9465 is short for tcp:9465:interface=127.0.0.1. These pages change nothing,"
    " but they have no password: everyone who can connect can read them.",
    defaultHelp="no status is served",
    example="9465",
)

CONNECT_TIMEOUT = Option(
    "connect-timeout",
    "DURATION",
    parseDuration,
    "10s",
    "Time limit for a connection to be made, TLS handshake included. The timeout can fire up to"
    " 10 % late.",
    example="2m",
)

TRACE = Option(
    "trace",
    "none|connections|data",
    parseTrace,
    "none",
    "Events of each connection to show. connections: its start and its end. data: also the"
    " bytes, abridged.",
    example="connections",
)


class ConnectingOptions(CommandOptions):
    """The command lines of programs that make or accept connections."""

    def connectionReactor(self, reactor: Any) -> Any:
        """Return the fast lane; with C{--no-express}, the reactor itself."""
        return reactor if self["no-express"] else onExpress(reactor)


class StatusOptions(ConnectingOptions):
    """
    The command lines of programs with a status.

    @ivar status: a server endpoint string; C{None}: no status is served.
    """

    def postOptions(self) -> None:
        self.status: str | None = self.value("status")

    def listenOption(self, endpoint: object) -> str:
        """
        Return the option that asks to listen on an endpoint.

        @param endpoint: as L{ListenError<echofactory.net.endpoints.ListenError>} names it.
        """
        return "--status"


class TargetOptions(ConnectingOptions):
    """The command lines of programs that connect to a target."""

    def __init__(self) -> None:
        super().__init__()
        self._address: tuple[str, ...] = ()

    def parseArgs(self, *arguments: str) -> None:
        self._address = arguments

    def readHost(self) -> str | None:
        """Return HOST; C{None}: it was not given."""
        return readValue("HOST", self._address[0], parseHostAlone) if self._address else None

    def readTarget(self) -> str | None:
        """
        Return the client endpoint string of the target; C{None}: the command line is empty.

        @raise usage.UsageError: if there is no target, or more than one.
        """
        endpoint: str | None = self["connect"]
        self.readHost()
        if len(self._address) not in (0, 2, 3):
            raise usage.UsageError("give HOST and PORT, or HOST, PORT and CONNECTIONS")
        if endpoint is not None and self._address:
            raise usage.UsageError("--connect: give --connect or HOST PORT, not both")
        if self._address:
            host = parseHost(self._address[0])
            port = readValue("PORT", self._address[1], parsePort)
            return f"tcp:{quoteStringArgument(host)}:{port}"
        if endpoint is None and self.given:
            raise usage.UsageError("nothing to connect to: give HOST PORT or --connect")
        return endpoint

    def readPatience(self) -> Patience:
        """Return how long to wait for a connection, and for a reply."""
        return self.built(
            Patience,
            {
                "connect": "connect-timeout",
                "reply": "reply-timeout",
                "keepAlive": "keepalive",
            },
        )

    def readConnections(self, default: int) -> int:
        """
        Return the number of connections.

        @param default: if it was not given.
        @raise usage.UsageError: if it is no number, or was given as option and as argument.
        """
        given: int | None = self.value("connections")
        if len(self._address) < 3:
            return given or default
        if given is not None:
            raise usage.UsageError("--connections: give --connections or CONNECTIONS, not both")
        return readValue("CONNECTIONS", self._address[2], parseCount)
