"""Twisted's own echo: wire_echo.py PORT."""

import sys

from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

endpoint = endpoints.serverFromString(reactor, f"tcp:{sys.argv[1]}:interface=127.0.0.1")
endpoint.listen(Factory.forProtocol(Echo))
reactor.run()
