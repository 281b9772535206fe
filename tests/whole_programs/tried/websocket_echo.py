"""
A WebSocket server and a client on Autobahn. The client compares each message that comes back.

    python websocket_echo.py server
    python websocket_echo.py client PORT
"""

import hashlib
import sys

from autobahn.twisted.websocket import (
    WebSocketClientFactory,
    WebSocketClientProtocol,
    WebSocketServerFactory,
    WebSocketServerProtocol,
)
from twisted.internet import reactor

SIZES = [0, 1, 125, 126, 65535, 65536, 1_000_000]
MESSAGES = [hashlib.shake_256(b"%d" % size).digest(size) for size in SIZES]


class Server(WebSocketServerProtocol):
    """Echoes messages."""

    def onMessage(self, payload, isBinary):
        """Send it back."""
        self.sendMessage(payload, isBinary)


class Client(WebSocketClientProtocol):
    """Sends all messages at once, and compares."""

    def onOpen(self):
        """Send."""
        self.expected = list(MESSAGES)
        for message in MESSAGES:
            self.sendMessage(message, isBinary=True)

    def onMessage(self, payload, isBinary):
        """Compare."""
        assert isBinary
        assert payload == self.expected.pop(0)
        if not self.expected:
            self.sendClose(1000)

    def onClose(self, wasClean, code, reason):
        """Tell how it ended."""
        print("clean end:", wasClean, code, len(self.expected), flush=True)
        reactor.stop()


if sys.argv[1] == "server":
    factory = WebSocketServerFactory()
    factory.protocol = Server
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    print("listening on", port.getHost().port, flush=True)
else:
    factory = WebSocketClientFactory(f"ws://127.0.0.1:{sys.argv[2]}")
    factory.protocol = Client
    reactor.connectTCP("127.0.0.1", int(sys.argv[2]), factory)
reactor.run()
