"""
One worker, as its supervisor sees it: the process, its messages, its restarts.
"""

import json
from dataclasses import replace
from typing import Any
from typing import Protocol as Structure

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.interfaces import IDelayedCall, IReactorSocket, IReactorTime
from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

from echofactory.server.counts import Counts, PeerCounts, WorkerState
from echofactory.server.workers.channel import MAX_LINE_SIZE, Lines, asLine
from echofactory.server.workers.process import WorkerProcess
from echofactory.values.quantities import counted

_log = Logger()

_STABLE_TIME = 10.0
"""Seconds. If a worker has run for longer, the pause before its next restart is the shortest
again."""

_MAX_SILENT_CHECKS = 30
"""Checks, one per second. If a worker has sent nothing for this many checks, it hangs, and is
killed. Checks are counted and not seconds, because a suspended machine does not check."""

_ANSWER_TIMEOUT = 0.15
"""Seconds that a worker has to send its peers. The status page asks for them, and shows a
much slower server as gone."""

_backoff = backoffPolicy(initialDelay=0.2, maxDelay=30.0, factor=2.0, jitter=lambda: 0.0)


class IWorkersReactor(IReactorSocket, IReactorTime):
    """What L{Workers} needs of a reactor."""


class WorkerOwner(Structure):
    """What a L{Worker} needs of its supervisor."""

    reactor: IWorkersReactor
    draining: bool

    def startMessage(self, number: int) -> dict[str, object]:
        """Return the C{start} message of a worker."""

    def fork(self, worker: "Worker") -> WorkerProcess:
        """
        Start a process of a worker.

        @raise OSError: if none can be started.
        """

    def workerListens(self) -> None:
        """Called when a worker listens."""

    def roomChanged(self) -> None:
        """Called when the table of rooms has changed."""

    def workerGone(self, number: int) -> None:
        """Called when a worker's process has ended."""


class Worker:
    """
    One worker: its current process, and the counts of its earlier processes.

    The states of a worker, and the attributes that make them up:

     - starting (C{_process} is set, C{listening} is false): the process has not sent
       C{listening}. That message leads to up, and the end of the process to pausing.
     - up (C{_process} is set, C{listening} is true): the end of the process leads to
       pausing.
     - pausing (C{_restart} is set, no C{_process}): a timer runs. It leads to starting.
     - stopping (C{_process} is set, the owner is draining): the end of the process leads
       to ended.
     - ended (C{ended} has fired, no C{_process}): L{begin} leads to starting.

    L{stop} leads from starting and up to stopping, and from pausing to ended.

    @ivar number: of the worker, from 1.
    @ivar listening: whether the current process has sent C{listening}.
    @ivar restarts: number of restarts.
    @ivar ended: fires when the process has ended and will not be restarted.
    """

    def __init__(self, owner: WorkerOwner, number: int) -> None:
        self.number = number
        self.listening = False
        self.restarts = 0
        self.ended: Deferred[None] = Deferred()
        self._owner = owner
        self._failures = 0
        self._before = Counts()
        self._now = Counts()
        self._process: WorkerProcess | None = None
        self._startedAt = 0.0
        self._silentChecks = 0
        self._restart: IDelayedCall | None = None
        # The last answer to C{peers}; whether an answer is due; who waits for that answer.
        self._peers: list[PeerCounts] = []
        self._answerDue = False
        self._waiting: list[Deferred[list[PeerCounts]]] = []

    def begin(self) -> None:
        """Start the first process."""
        self.ended = Deferred()
        self.listening = False
        self._failures = 0
        self.start()

    @property
    def state(self) -> WorkerState:
        """The worker's state."""
        pid = self._process.pid if self._process is not None else None
        listening = self.listening and pid is not None
        return WorkerState(self.number, pid, self.restarts, self._now.open, listening)

    @property
    def counts(self) -> Counts:
        """The counts of the current process and of all earlier ones."""
        return self._before + self._now

    def start(self) -> None:
        """Start a process."""
        owner = self._owner
        self._restart = None
        self._silentChecks = 0
        self._startedAt = owner.reactor.seconds()
        self._lines = Lines()
        try:
            self._process = owner.fork(self)
        except OSError as error:
            # There can be too little memory, or too many processes, for now.
            self._restartLater(f"cannot start a process: {error.strerror}", 0)
            return
        self.send(start=owner.startMessage(self.number))

    def send(self, **message: object) -> None:
        """Send a message to the process, if there is one."""
        if self._process is not None:
            self._process.write(asLine(**message))

    def dataReceived(self, data: bytes) -> None:
        """See L{ProcessOwner<echofactory.server.workers.process.ProcessOwner>}."""
        before = self._lines.skipped
        for line in self._lines.feed(data):
            try:
                self.messageReceived(json.loads(line))
            except Exception:
                # The next message can be valid: go on.
                _log.failure("invalid message from worker {number}", number=self.number)
                self._messageLost()
        if self._lines.skipped > before:
            self._messageLost()
            if not before:
                _log.warn(
                    "worker {number} sent a line of more than {longest:,} bytes;"
                    " such lines are skipped",
                    number=self.number,
                    longest=MAX_LINE_SIZE,
                )

    def _messageLost(self) -> None:
        """If the lost message was the answer to C{peers}, the worker must be asked again."""
        self._answerDue = False

    def messageReceived(self, message: dict[str, Any]) -> None:
        """Handle a message of the process."""
        self._silentChecks = 0
        if "log" in message:
            level, text = message["log"]
            _log.emit(
                LogLevel.levelWithName(level),
                "worker {number}: {text}",
                number=self.number,
                text=text,
            )
        elif "counts" in message:
            self._now = Counts(**message["counts"])
        elif "peers" in message:
            self._answered([PeerCounts(*peer) for peer in message["peers"]])
        elif "listening" in message:
            self.listening = True
            self._owner.workerListens()
        elif "look" in message:
            self._owner.roomChanged()

    def peers(self, most: int) -> "Deferred[list[PeerCounts]]":
        """
        Ask the process for its busiest peers. If it does not answer in time, return its last
        answer. It is not asked again before it has answered.
        """
        asking: Deferred[list[PeerCounts]] = Deferred()
        if self._process is None:
            asking.callback([])
            return asking
        self._waiting.append(asking)
        if not self._answerDue:
            self._answerDue = True
            self.send(peers=most)

        def late(reason: Failure) -> list[PeerCounts]:
            reason.trap(TimeoutError)
            self._waiting.remove(asking)
            return self._peers

        return asking.addTimeout(_ANSWER_TIMEOUT, self._owner.reactor).addErrback(late)

    def _answered(self, peers: list[PeerCounts]) -> None:
        self._peers = peers
        self._answerDue = False
        asking, self._waiting = self._waiting, []
        for each in asking:
            each.callback(peers)

    def processEnded(self, how: str) -> None:
        """See L{ProcessOwner<echofactory.server.workers.process.ProcessOwner>}."""
        self._process = None
        self._answered([])
        # Its open connections are lost with it.
        cut = {"worker": self._now.open} if self._now.open else {}
        self._before += replace(self._now, open=0) + Counts(lost=cut)
        self._now = Counts()
        self.listening = False
        self._owner.workerGone(self.number)
        if self._owner.draining:
            self._fireEnded()
            return
        self._restartLater(how, sum(cut.values()))

    def _restartLater(self, how: str, open_: int) -> None:
        """
        Start another process after a pause. Each time a process ends soon, the pause
        doubles.
        """
        if self._owner.reactor.seconds() - self._startedAt > _STABLE_TIME:
            self._failures = 0
        delay = _backoff(self._failures)
        self._failures += 1
        _log.warn(
            "worker {number}: {how}; {open} lost; restart in {delay:.1f} s",
            number=self.number,
            how=how,
            open=counted(open_, "connection"),
            delay=delay,
        )
        self.restarts += 1
        self._restart = self._owner.reactor.callLater(delay, self.start)

    def stop(self) -> None:
        """Let the process drain and end, and do not restart it."""
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        if self._process is None:
            self._fireEnded()
        else:
            self.send(stop=True)

    def _fireEnded(self) -> None:
        # The worker can be stopped twice.
        if not self.ended.called:
            self.ended.callback(None)

    def check(self) -> None:
        """If the process has sent nothing for too long, kill it. It will be restarted."""
        self._silentChecks += 1
        if self._process is not None and self._silentChecks == _MAX_SILENT_CHECKS:
            _log.warn(
                "worker {number} sent nothing for {seconds} s; killing it",
                number=self.number,
                seconds=_MAX_SILENT_CHECKS,
            )
            self.kill()

    def kill(self) -> None:
        """Kill the process with SIGKILL."""
        if self._process is not None:
            self._process.kill()
