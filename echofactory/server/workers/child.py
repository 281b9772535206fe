"""
A worker process. The L{supervisor<echofactory.server.workers.supervisor>} has it forked
(L{echofactory.net.forkserver}), and sends commands to its standard input
(L{echofactory.server.workers.channel}).

A terminal or a service manager can send a signal to all processes. The supervisor handles it;
workers are forked with these signals ignored.
"""

import json
import mmap
import os
import socket
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
from echofactory.express.reactor import onExpress
from echofactory.express.sharedport import SharedPort
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.endpoints import serverEndpoint
from echofactory.net.garbage import searchRarely
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.reuseport import ReusePortReactor
from echofactory.server.service import EchoService, echoFactory
from echofactory.server.settings import ServerSettings
from echofactory.server.workers.channel import OUT, SOCKETS, TABLE, asLine
from echofactory.server.workers.room import Room
from echofactory.values.quantities import counted

_MAX_LOG_TEXT = 5000
"""Maximum characters of a log line that are sent. A character is at most 12 bytes of JSON, so
that the message is shorter than
L{MAX_LINE_SIZE<echofactory.server.workers.channel.MAX_LINE_SIZE>}."""


class Channel(LineReceiver):
    """
    The pipes to the supervisor.

    @ivar finished: fires when the pipe is closed, after L{finish} has sent all.
    """

    delimiter = b"\n"
    transport: Any

    def __init__(self, reactor: Any, service: EchoService, room: Room) -> None:
        self.finished: Deferred[None] = Deferred()
        self._reactor = reactor
        self._service = service
        self._room = room
        self._finishing = False
        self._paused = False
        self._dropped = 0

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    # A slow supervisor must not block this process. While the pipe is full, log lines are
    # dropped and counted.

    def pauseProducing(self) -> None:
        """Called when the pipe is full."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Called when the pipe takes bytes again."""
        self._paused = False
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.sendLog("warn", f"dropped {counted(dropped, 'log line')}: the pipe was full")

    def stopProducing(self) -> None:
        """Called when the pipe is closed. C{connectionLost} handles that."""

    def sendLog(self, level: str, text: str) -> None:
        """Send a log line, unless the pipe is full."""
        if self._paused:
            self._dropped += 1
        else:
            self.send(log=[level, text[:_MAX_LOG_TEXT]])

    def send(self, **message: object) -> None:
        """Send a message to the supervisor."""
        self.transport.write(asLine(**message))

    def sendCounts(self) -> None:
        """Send the current counts."""
        self.send(counts=self._service.counts().asDict())

    def lineReceived(self, line: bytes) -> None:
        message = json.loads(line)
        if "stop" in message:
            # The reactor can be stopping already.
            with suppress(ReactorNotRunning):
                self._reactor.stop()
        elif "cut" in message:
            self._service.cut()
        elif "peers" in message:
            self.send(peers=self._service.factory.peers(message["peers"]))
        elif "look" in message:
            self._room.look()

    def finish(self) -> None:
        """Send the final counts, then close the pipe."""
        self._finishing = True
        self.sendCounts()
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self._finishing:
            # The supervisor has ended. Without it, nobody could stop this process.
            os._exit(1)
        self.finished.callback(None)


@implementer(ILogObserver)
class _LogForwarder:
    """
    Forwards what is logged to the supervisor, line by line. Failures have their traceback.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def __call__(self, event: LogEvent) -> None:
        level = event.get("log_level", LogLevel.info)
        if level < LogLevel.info:
            return
        text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        for line in text.splitlines():
            self._channel.sendLog(level.name, line)


def _start() -> dict[str, Any]:
    """Read the C{start} message. No byte after it is read."""
    line = bytearray()
    while not line.endswith(b"\n"):
        read = os.read(0, 1)
        if not read:
            # The supervisor has ended.
            sys.exit(1)
        line += read
    started: dict[str, Any] = json.loads(line)["start"]
    return started


def _inherited(endpoints: int, of: int, own: int, room: Room) -> list[SharedPort]:
    """Return what each endpoint listens on."""
    return [
        SharedPort([socket.socket(fileno=first + n) for n in range(of)], own, room)
        for first in range(SOCKETS, SOCKETS + endpoints * of, of)
    ]


def main() -> None:
    """Serve until the supervisor says to stop, or ends."""
    start = _start()
    with suppress(ImportError, AttributeError):
        import_module(start["reactor"]).install()
    from twisted.internet import reactor as chosen

    reactor: Any = chosen
    useMonotonicTime(reactor)
    settings = ServerSettings.fromJSON(start["settings"]).shareOf(start["number"], start["of"])
    raiseDescriptorLimit()
    transports = withPorts(onExpress(reactor) if settings.express else reactor)
    factory = echoFactory(settings, reactor)
    room = Room(
        reactor,
        mmap.mmap(TABLE, start["of"]),
        start["number"] - 1,
        lambda: not factory.full,
        lambda: channel.send(look=True),
    )
    factory.gate = room
    room.ports = _inherited(len(start["endpoints"]), start["of"], start["number"] - 1, room)
    endpoints = [
        serverEndpoint(ReusePortReactor(transports, shared), text, factory.refuseHeader)
        for text, shared in zip(start["endpoints"], room.ports, strict=True)
    ]
    service = EchoService(reactor, endpoints, factory, settings.drain)
    channel = Channel(reactor, service, room)
    # mypy takes the class of another platform.
    cast(Any, StandardIO)(channel, stdin=0, stdout=OUT, reactor=reactor)
    globalLogBeginner.beginLoggingTo([_LogForwarder(channel)], redirectStandardIO=False)
    sending = LoopingCall(channel.sendCounts)
    sending.clock = reactor

    async def stop() -> None:
        room.end()
        await service.stopService()
        sending.stop()
        channel.finish()
        await channel.finished

    reactor.addSystemEventTrigger("before", "shutdown", lambda: ensureDeferred(stop()))
    service.startService()
    channel.send(listening=True)
    room.begin()
    sending.start(1.0)
    searchRarely()
    # The reactor's signal handlers would replace ours.
    reactor.run(installSignalHandlers=False)
