"""
The plugins for Twisted: the commands C{multiecho} and C{multiecho-client}, and the endpoint
prefixes C{express:} and C{reuseport:}.
"""

import signal
from typing import Any

from twisted.application.reactors import Reactor
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
    """A command of C{twistd} and C{twist}."""

    @property
    def options(self) -> Any:
        """
        Return the class of the command's options.

        Twisted reads this if the command line names the command, before it imports any module
        of the package. From here until the command runs (L{echofactory.net.signals}), SIGINT
        ends the process, as SIGTERM does. Python's own handler would raise an exception at any
        place. Some C{except} clauses would catch it, and the signal would be lost.
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
    "A monitor that keeps connections to an echo server open and checks every reply.",
    "multiecho-client",
)


def _nested(
    reactor: Any, args: tuple[object, ...], kwargs: dict[str, object]
) -> tuple[Any, str]:
    """Return the lane, and the endpoint string that follows the prefix."""
    # Imported here, because every search for plugins loads this module.
    from echofactory.express.reactor import onExpress
    from echofactory.net.endpoints import joined

    return onExpress(reactor), joined(args, kwargs)


@implementer(
    IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor
)
class _Express:
    """C{express:tcp:8080}: the endpoint C{tcp:8080} on the fast lane."""

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
    """C{reuseport:8080}: C{tcp:8080} on a port that other processes share."""

    prefix = "reuseport"

    def parseStreamServer(
        self, reactor: Any, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        from echofactory.net.endpoints import joined
        from echofactory.net.reuseport import ReusePortReactor

        port = str(kwargs.get("port", args[0] if args else ""))
        if not port.isdecimal():
            raise ValueError(
                f"{port!r} is not a port: reuseport: takes the arguments of tcp:, such as"
                " reuseport:8080; express: comes first, express:reuseport:8080"
            )
        description = joined(["tcp", *args], kwargs)
        endpoint: IStreamServerEndpoint = serverFromString(
            ReusePortReactor(reactor), description
        )
        return endpoint


reuseport = _ReusePort()

expressReactor = Reactor(
    "express",
    "echofactory.express",
    "epoll(7), with stream connections on echofactory's fast lane.",
)
