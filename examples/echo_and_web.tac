"""
An application of two services: the echo, and a web page that shows its counts.

    twistd -ny examples/echo_and_web.tac

The environment variables ECHO and WEB set the server endpoints of the two services.
"""

import os

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import Application
from twisted.internet import reactor  # noqa: TID253 - a .tac file is run, not imported
from twisted.internet.endpoints import serverFromString
from twisted.web.resource import Resource
from twisted.web.server import Request, Site

from echofactory import EchoFactory, EchoService, Limits


class CountsPage(Resource):
    """Shows the counts of an echo, as text."""

    isLeaf = True

    def __init__(self, echo: EchoFactory) -> None:
        super().__init__()
        self._echo = echo

    def render_GET(self, request: Request) -> bytes:
        request.setHeader("Content-Type", "text/plain; charset=utf-8")
        counts = self._echo.counts()
        return (
            f"{counts.accepted} connections so far, {counts.open} open;"
            f" {counts.bytesIn} bytes in, {counts.bytesOut} out\n"
        ).encode()


application = Application("echo and web")

factory = EchoFactory(limits=Limits(connections=10_000))
echo = EchoService(reactor, [os.environ.get("ECHO", "tcp:7007:interface=127.0.0.1")], factory)
echo.setServiceParent(application)

endpoint = serverFromString(reactor, os.environ.get("WEB", "tcp:8080:interface=127.0.0.1"))
web = StreamServerEndpointService(endpoint, Site(CountsPage(factory)))
web.setServiceParent(application)
