"""
The process of one part of a run. An L{agent<echofactory.distributed.agent>} has it forked
(L{echofactory.net.forkserver}). It ignores the signals of a terminal: the coordinator handles
them.

Its standard input and output carry JSON, one object per line. To the part:

 - C{{"start": "..."}}: the first line: the settings (L{PartSettings}), pickled, in base64. The
   agent that writes it was started by pickle too.
 - C{{"go": ns}}: open the connections, at this time of C{perf_counter_ns}.
 - C{{"send": ns}}: begin to send, at this time.
 - C{{"interrupt": true}}, C{{"endEarly": true}}: cut what is open, and tell the results.
 - C{{"alive": true}}: the coordinator is there.

From the part:

 - C{{"ready": pid}}: it can go.
 - C{{"began": ns}}: it opens connections: how long after the time of C{go}.
 - C{{"up": true}}: each connection is established or has failed.
 - C{{"account": {...}}}: L{what its books say<echofactory.results.account>}: at the end of each
   interval, and at last.
 - C{{"alive": true}}: once a second.
 - C{{"log": text}}: a warning, or a failure that does not end the run.
 - C{{"failed": text}}: the run could not be made.
 - C{{"expired": seconds}}: the coordinator said nothing for so long, so the part has ended.
"""

import base64
import json
import os
import pickle
import sys
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ReactorNotRunning
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.internet.task import LoopingCall
from twisted.logger import ILogObserver, LogEvent, LogLevel, eventAsText, globalLogBeginner
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.client.factory import EchoClientFactory
from echofactory.client.target import Target
from echofactory.distributed.settings import PartSettings
from echofactory.express.reactor import onExpress
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.garbage import Exemption, searchRarely
from echofactory.net.monotonic import useMonotonicTime
from echofactory.net.timerfd import timer
from echofactory.net.tracing import rejectedCertificateText
from echofactory.results.account import Accounts
from echofactory.results.books import Results
from echofactory.results.opencounts import OpenCounts

PATIENCE_CHECKS = 10
"""Checks, one per second, without a line of the coordinator, after which the part ends. Checks
are counted and not seconds, because a suspended machine does not check."""


_LOOK_S = 0.05
_MOST_TEXTS = 100
"""The number of different warnings and failures that a part tells of."""


class Holds:
    """
    How long the reactor was held: by a callback that took long, or because the process did not
    run.

    @ivar longestNs: the longest time.
    """

    def __init__(self, reactor: Any) -> None:
        self.longestNs = 0
        self._lookedAt = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Look from now on."""
        self._lookedAt = perf_counter_ns()
        self._looking.start(_LOOK_S, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def _look(self) -> None:
        now = perf_counter_ns()
        self.longestNs = max(self.longestNs, now - self._lookedAt - int(_LOOK_S * 1e9))
        self._lookedAt = now


class Part(LineReceiver):
    """The part: its pipes, and its run."""

    delimiter = b"\n"
    transport: Any

    def __init__(self, reactor: Any, settings: PartSettings) -> None:
        self._reactor = reactor
        self._settings = settings
        self._silentChecks = 0
        self._beating = LoopingCall(self._beat)
        self._beating.clock = reactor
        self._beginSending: Any = None
        self._holds = Holds(reactor)
        self._exemption = Exemption()
        run = settings.run
        self._factory = EchoClientFactory(
            reactor,
            run.workload,
            run.connections,
            run.patience,
            opening=run.opening,
            interval=run.interval,
            spin=run.spin,
            share=settings.share,
            gate=self._gate,
        )

    def connectionMade(self) -> None:
        self.send(ready=os.getpid())
        self._beating.start(1.0, now=False)

    def send(self, **message: object) -> None:
        """Send a message to the agent."""
        self.transport.write(json.dumps(message).encode() + b"\n")

    def _beat(self) -> None:
        self.send(alive=True)
        self._silentChecks += 1
        if self._silentChecks == PATIENCE_CHECKS:
            self.send(expired=PATIENCE_CHECKS)
            self._end()

    def lineReceived(self, line: bytes) -> None:
        self._silentChecks = 0
        message = json.loads(line)
        if "go" in message:
            self._at(message["go"], self._go)
        elif "send" in message:
            self._at(message["send"], self._send)
        elif "interrupt" in message:
            self._factory.interrupt()
        elif "endEarly" in message:
            self._factory.endEarly()

    def _at(self, ns: int, call: Any) -> None:
        """Call at a time of C{perf_counter_ns}."""

        def fire() -> None:
            made.stop()
            call(ns)

        made = timer(self._reactor, fire)
        made.at(ns)

    def _go(self, at: int) -> None:
        self.send(began=perf_counter_ns() - at)
        self._holds.start()
        results = self._factory.results
        results.openCounts = OpenCounts(perf_counter_ns, at)
        self._accounts = Accounts(results, at)
        self._factory.ticker.watchers.append(self._intervalEnded)
        Deferred.fromCoroutine(self._run()).addErrback(self._failed)

    async def _run(self) -> None:
        run = self._settings.run
        reactor = onExpress(self._reactor) if run.express else self._reactor
        target = Target(
            reactor,
            run.target,
            run.patience.connect,
            run.opening.addresses,
            family=run.family,
            tls=None if run.tls is None else run.tls.made(),
            socketOptions=run.socketOptions,
        )
        await self._factory.run(target)
        self.send(up=True)
        self.send(account=self._accounts.last() | {"holdNs": self._holds.longestNs})
        self._end()

    def _failed(self, reason: Failure) -> None:
        self.send(failed=reason.getErrorMessage())
        self._end()

    def _gate(self, begin: Any) -> None:
        self._beginSending = begin
        self.send(up=True)

    def _send(self, at: int) -> None:
        # The run can be over already.
        if self._beginSending is not None:
            self._beginSending(at)

    def _intervalEnded(self, results: Results) -> None:
        self.send(account=self._accounts.interval())
        self._exemption.intervalEnded(results)

    def _end(self) -> None:
        self._beating.stop()
        self._holds.stop()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # Either all is told, or the agent is gone.
        with suppress(ReactorNotRunning):
            self._reactor.stop()


@implementer(ILogObserver)
class _LogObserver:
    """
    Sends warnings and failures to the coordinator, each text once.
    """

    def __init__(self, send: Callable[..., None]) -> None:
        self._send = send
        self._sent: set[str] = set()

    def __call__(self, event: LogEvent) -> None:
        if event.get("log_level", LogLevel.info) <= LogLevel.info:
            return
        text = rejectedCertificateText(event)
        if text is None:
            text = eventAsText(event, includeTimestamp=False, includeSystem=False)
        if text and text not in self._sent and len(self._sent) < _MOST_TEXTS:
            self._sent.add(text)
            self._send(log=text)


def _start() -> PartSettings:
    """Read the C{start} message. The agent writes nothing more before it is answered."""
    line = bytearray()
    while not line.endswith(b"\n"):
        read = os.read(0, 1 << 16)
        if not read:
            # The agent is gone.
            sys.exit(1)
        line += read
    settings: PartSettings = pickle.loads(base64.b64decode(json.loads(line)["start"]))
    return settings


def main() -> None:
    """Run the part, and end."""
    settings = _start()
    from twisted.internet import reactor as chosen

    reactor: Any = chosen
    useMonotonicTime(reactor)
    raiseDescriptorLimit()
    part = Part(reactor, settings)
    # mypy takes the class of another platform.
    cast(Any, StandardIO)(part, stdin=0, stdout=1, reactor=reactor)
    globalLogBeginner.beginLoggingTo([_LogObserver(part.send)], redirectStandardIO=False)
    searchRarely()
    # The reactor's signal handlers would replace ours.
    reactor.run(installSignalHandlers=False)
