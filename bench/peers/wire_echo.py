"""
Twisted's own echo: wire_echo.py REACTOR ENDPOINT, where REACTOR is a name that
twistd --reactor takes.
"""

import sys

from twisted.application.reactors import installReactor

installReactor(sys.argv[1])

from twisted.internet import endpoints, reactor
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

endpoints.serverFromString(reactor, sys.argv[2]).listen(Factory.forProtocol(Echo))
reactor.run()
