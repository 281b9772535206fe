"""
What twistd and endpoint strings find: the C{multiecho} and C{multiecho-client}
commands, and the prefixes C{express:} and C{reuseport:}.
"""

import signal
from typing import Any

from twisted.application.service import ServiceMaker
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer


class _Command(ServiceMaker):
    """A command of C{twistd}, and of C{twist}."""

    @property
    def options(self) -> Any:
        """
        Begin: this is asked for when the command line names the command, and before
        anything of the package is imported. From here until the command runs
        (L{echofactory.net.signals}), SIGINT ends the process as SIGTERM does. Python's own
        handler raises an exception wherever it happens to be, and not every C{except}
        lets it through: the signal was lost, or half a start was.
        """
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        return super().options


multiecho = _Command(
    "echofactory server",
    "echofactory.cli.server",
    "An echo server for many connections (RFC 862).",
    "multiecho",
)

multiechoClient = _Command(
    "echofactory monitor",
    "echofactory.cli.monitor",
    "Keeps connections to an echo server, and checks and shows how they fare.",
    "multiecho-client",
)


def _nested(
    reactor: Any, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[Any, str]:
    """Return the lane and the endpoint string that stood behind the prefix."""
    # Late: whoever looks for plugins loads this module, used or not.
    from echofactory.express.reactor import laneOf
    from echofactory.net.endpoints import joined

    return laneOf(reactor), joined(args, kwargs)


@implementer(
    IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor
)
class _Express:
    """C{express:tcp:8080}: the endpoint that follows, on the fast lane."""

    prefix = "express"

    def parseStreamServer(
        self, reactor: Any, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        endpoint: IStreamServerEndpoint = serverFromString(*_nested(reactor, args, kwargs))
        return endpoint

    def parseStreamClient(
        self, reactor: Any, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = clientFromString(*_nested(reactor, args, kwargs))
        return endpoint


express = _Express()


@implementer(IPlugin, IStreamServerEndpointStringParser)
class _ReusePort:
    """C{reuseport:8080}: as C{tcp:}, on a port that other processes share."""

    prefix = "reuseport"

    def parseStreamServer(
        self, reactor: Any, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        from echofactory.net.endpoints import joined
        from echofactory.net.reuseport import ReusePortReactor

        port = str(kwargs.get("port", args[0] if args else ""))
        if not port.isdecimal():
            raise ValueError(
                f"{port!r} is no port: reuseport: takes the arguments of tcp:, such as"
                " reuseport:8080, and express: stands before it, express:reuseport:8080"
            )
        description = joined(["tcp", *args], kwargs)
        endpoint: IStreamServerEndpoint = serverFromString(
            ReusePortReactor(reactor), description
        )
        return endpoint


reuseport = _ReusePort()
