"""A plain Twisted client: twisted_client.py PORT CONNECTIONS SIZE COUNT."""

import sys

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import react

port, connections, size, count = map(int, sys.argv[1:])
message = bytes(size)


class Client(Protocol):
    def __init__(self):
        self.received = 0
        self.left = count
        self.done = Deferred()

    def connectionMade(self):
        self.transport.setTcpNoDelay(True)
        self.transport.write(message)

    def dataReceived(self, data):
        self.received += len(data)
        if self.received == size:
            self.received = 0
            self.left -= 1
            if self.left:
                self.transport.write(message)
            else:
                self.transport.loseConnection()

    def connectionLost(self, reason):
        self.done.callback(None)


async def main(reactor):
    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
    clients = [await connectProtocol(endpoint, Client()) for _ in range(connections)]
    await gatherResults([client.done for client in clients])


react(lambda reactor: Deferred.fromCoroutine(main(reactor)))
