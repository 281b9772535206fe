"""
C{python -m echofactory.server.workers.child}: one of several processes that serve, started and
told what to do by L{echofactory.server.workers.supervisor}, on its standard input.
"""

import ctypes
import json
import os
import signal
import sys
from contextlib import suppress
from importlib import import_module
from typing import Any, cast

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.express.ports import withPorts
from echofactory.express.reactor import laneOf
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.endpoints import serverEndpoint
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.reuseport import ReusePortReactor
from echofactory.net.signals import STOP_SIGNALS
from echofactory.server.service import EchoService, echoFactory
from echofactory.server.settings import ServerSettings
from echofactory.server.workers.channel import asLine

_LONGEST_TEXT = 5000
"""Characters of a line of the log that are told. Each is at most 12 bytes of JSON: the
line that tells them is shorter than
L{LONGEST_LINE<echofactory.server.workers.channel.LONGEST_LINE>}."""

_OUT = 3
"""The descriptor on which it tells."""

_PR_SET_PDEATHSIG = 1
"""See Linux's prctl(2)."""


class Channel(LineReceiver):
    """
    What the process that looks after this one says, and is told.

    @ivar over: fires when all has been told, after L{finish}.
    """

    delimiter = b"\n"
    transport: Any

    def __init__(self, reactor: Any, service: EchoService) -> None:
        self.over: Deferred[None] = Deferred()
        self._reactor = reactor
        self._service = service
        self._finishing = False
        self._paused = False
        self._untold = 0

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    # What is logged waits for nobody: a log that grows faster than the other process
    # reads it loses lines, and says how many.

    def pauseProducing(self) -> None:
        """The other process does not keep up."""
        self._paused = True

    def resumeProducing(self) -> None:
        """It does again."""
        self._paused = False
        if self._untold:
            untold, self._untold = self._untold, 0
            self.sayLog("warn", f"{untold} lines were not told: there were too many")

    def stopProducing(self) -> None:
        """It is gone; C{connectionLost} says so too."""

    def sayLog(self, level: str, text: str) -> None:
        """Tell it a line of the log, if it keeps up."""
        if self._paused:
            self._untold += 1
        else:
            self.say(log=[level, text[:_LONGEST_TEXT]])

    def say(self, **what: object) -> None:
        """Tell it."""
        self.transport.write(asLine(**what))

    def sayCounts(self) -> None:
        """Tell it what was counted until now."""
        self.say(counts=self._service.counts().asDict())

    def lineReceived(self, line: bytes) -> None:
        what = json.loads(line)
        if "stop" in what:
            # Once: it may be stopping already.
            with suppress(ReactorNotRunning):
                self._reactor.stop()
        elif "cut" in what:
            self._service.cut()
        elif "peers" in what:
            self.say(peers=self._service.factory.peers(what["peers"]))

    def finish(self) -> None:
        """Tell the counts a last time."""
        self._finishing = True
        self.sayCounts()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._finishing:
            # Who looked after this process is gone, and nobody else will.
            os._exit(1)
        self.over.callback(None)


@implementer(ILogObserver)
class _Teller:
    """Tells what is logged; a failure with its traceback."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.info:
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        for line in text.splitlines():
            self._channel.sayLog(level.name, line)


def _start() -> dict[str, Any]:
    """Read what this process is to serve: the first line, and not a byte more."""
    line = bytearray()
    while not line.endswith(b"\n"):
        read = os.read(0, 1)
        if not read:
            # Nobody is there to say it.
            sys.exit(1)
        line += read
    started: dict[str, Any] = json.loads(line)["start"]
    return started


def _dieWithParent() -> None:
    """
    Have the kernel end this process with the one that started it, even while it is
    stopped or busy, and so cannot notice. Elsewhere than on Linux it has to notice.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Serve until told to stop, or left alone."""
    _dieWithParent()
    # They may come to all processes of a terminal or a service at once; this one is
    # told by the other.
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    start = _start()
    with suppress(ImportError, AttributeError):
        import_module(start["reactor"]).install()
    from twisted.internet import reactor as chosen

    reactor: Any = chosen
    useMonotonicTime(reactor)
    settings = ServerSettings.fromJSON(start["settings"]).shareOf(start["number"], start["of"])
    raiseDescriptorLimit()
    transports = withPorts(laneOf(reactor) if settings.express else reactor)
    factory = echoFactory(settings, reactor)
    endpoints = [
        serverEndpoint(ReusePortReactor(transports, port), text, factory.refuseHeader)
        for text, port in zip(start["endpoints"], start["ports"], strict=True)
    ]
    service = EchoService(reactor, endpoints, factory, settings.drain)
    channel = Channel(reactor, service)
    # mypy takes it for that of another platform.
    cast(Any, StandardIO)(channel, stdin=0, stdout=_OUT, reactor=reactor)
    globalLogBeginner.beginLoggingTo([_Teller(channel)], redirectStandardIO=False)
    telling = LoopingCall(channel.sayCounts)
    telling.clock = reactor

    async def stop() -> None:
        await service.stopService()
        telling.stop()
        channel.finish()
        await channel.over

    reactor.addSystemEventTrigger("before", "shutdown", lambda: ensureDeferred(stop()))
    service.startService()
    channel.say(listening=True)
    telling.start(1.0)
    # Its handlers of signals would take the place of ours.
    reactor.run(installSignalHandlers=False)


if __name__ == "__main__":
    main()
