"""
A WebSocket echo on autobahn: autobahn_echo.py REACTOR PORT, where REACTOR is a name that
twistd --reactor takes.
"""

import sys

from twisted.application.reactors import installReactor

installReactor(sys.argv[1])

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import endpoints, reactor


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


factory = WebSocketServerFactory()
factory.protocol = Echo
endpoint = endpoints.serverFromString(reactor, f"tcp:{sys.argv[2]}:interface=127.0.0.1")
endpoint.listen(factory)
reactor.run()
