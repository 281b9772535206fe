"""
What twistd and endpoint strings find: the C{multiecho} command and the
C{express:} prefix.
"""

from typing import Any

from twisted.application.service import ServiceMaker
from twisted.internet.endpoints import (
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import (
    IStreamClientEndpoint,
    IStreamClientEndpointStringParserWithReactor,
    IStreamServerEndpoint,
    IStreamServerEndpointStringParser,
)
from twisted.plugin import IPlugin
from zope.interface import implementer

multiecho = ServiceMaker(
    "echofactory server",
    "echofactory.service",
    "An echo server for many connections (RFC 862).",
    "multiecho",
)


def _description(args: tuple[object, ...], kwargs: dict[str, object]) -> str:
    """Put together again the endpoint string that stood behind the prefix."""
    return ":".join(
        [
            *(quoteStringArgument(str(argument)) for argument in args),
            *(f"{name}={quoteStringArgument(str(value))}" for name, value in kwargs.items()),
        ]
    )


@implementer(
    IPlugin, IStreamServerEndpointStringParser, IStreamClientEndpointStringParserWithReactor
)
class _Express:
    """C{express:tcp:8080}: the endpoint that follows, on the fast lane."""

    prefix = "express"

    def parseStreamServer(
        self, reactor: Any, *args: object, **kwargs: object
    ) -> IStreamServerEndpoint:
        from echofactory.express import laneOf

        endpoint: IStreamServerEndpoint = serverFromString(
            laneOf(reactor), _description(args, kwargs)
        )
        return endpoint

    def parseStreamClient(
        self, reactor: Any, *args: object, **kwargs: object
    ) -> IStreamClientEndpoint:
        from echofactory.express import laneOf

        endpoint: IStreamClientEndpoint = clientFromString(
            laneOf(reactor), _description(args, kwargs)
        )
        return endpoint


express = _Express()
