"""
A server on the lane for test_express.py, as a process: it tells its port, and when it
is stopped tells what its connections heard.

    python lane_server.py REACTOR

REACTOR is a name that twistd knows, or uvloop.
"""

import sys
from typing import Any

from twisted.application.reactors import installReactor
from twisted.internet import asyncioreactor
from twisted.internet.protocol import Factory, connectionDone
from twisted.protocols.wire import Echo
from twisted.python.failure import Failure

from echofactory import ExpressReactor

heard: list[str] = []


class Listening(Echo):
    def connectionLost(self, reason: Failure = connectionDone) -> None:
        heard.append(type(reason.value).__name__)


def main(name: str) -> None:
    if name == "uvloop":
        import uvloop

        asyncioreactor.install(uvloop.new_event_loop())
    else:
        installReactor(name)
    from twisted.internet import reactor as chosen

    reactor: Any = chosen
    lane = ExpressReactor(reactor)
    port = lane.listenTCP(0, Factory.forProtocol(Listening), 4096, "127.0.0.1")
    print(f"listening on {port.getHost().port} with {type(reactor).__name__}", flush=True)
    reactor.run()
    print(f"heard {heard}", flush=True)


main(sys.argv[1])
