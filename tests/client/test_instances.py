"""
What an open connection takes of the client's memory: CPython keeps the attributes of its
objects in arrays. If a class has more than 30, or gets some late, each instance takes a dict.
"""

import json

import pytest
from programs import multiecho, python

_RUN = """
import gc, json, sys
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred
from twisted.internet.task import LoopingCall
from echofactory import EchoClientFactory, ExpressReactor, Rate, Workload

CONNECTIONS, MESSAGES = 100, 300

def withDict(name):
    found = [each for each in gc.get_objects() if type(each).__name__ == name]
    assert len(found) >= CONNECTIONS, (name, len(found))
    referents = map(gc.get_referents, found)
    return sum(any(isAttributes(each) for each in referred) for referred in referents)

def isAttributes(held):
    return type(held) is dict and not held.keys().isdisjoint({"transport", "socket"})

def look():
    if factory.results.verified == MESSAGES:
        looking.stop()
        print(json.dumps({name: withDict(name) for name in sys.argv[3:]}))
        factory.interrupt()

factory = EchoClientFactory(ExpressReactor(reactor), eval(sys.argv[2]), CONNECTIONS)
looking = LoopingCall(look)

def begin():
    looking.start(0.01)
    running = ensureDeferred(factory.run(sys.argv[1]))
    running.addErrback(lambda failure: failure.printTraceback(sys.stderr))
    running.addBoth(lambda _: reactor.stop())

reactor.callWhenRunning(begin)
reactor.run()
"""


_OPTIONS = ("--trace", "none", "--udp", "127.0.0.1:0", "127.0.0.1", "0")


@pytest.mark.parametrize(
    "workload",
    [
        "Workload(size=64, count=3, hold=600.0)",
        "Workload(size=64, count=3, window=2, hold=600.0)",
        "Workload(size=64, rate=Rate(3000, 3000), duration=0.1, hold=600.0)",
    ],
)
@pytest.mark.parametrize(
    ("target", "names"),
    [("tcp", ["EchoClient", "TCPClient"]), ("udp", ["DatagramClient", "ConnectedPort"])],
)
def test_an_open_connection_takes_no_dict(target: str, names: list[str], workload: str) -> None:
    """Neither its protocol nor its transport, whatever it sends, sampled or not."""
    with multiecho(*_OPTIONS) as (server, tcp):
        udp = server.waitFor(r"listening on udp 127\.0\.0\.1:(\d+)")[1]
        port = tcp if target == "tcp" else udp
        done = python(_RUN, f"{target}:127.0.0.1:{port}", workload, *names)
    assert not done.stderr
    assert json.loads(done.stdout) == dict.fromkeys(names, 0)
