"""
The coordinator of a run of several parts: it starts them, has them open their connections and
send together, and keeps the books of the run.
"""

from collections.abc import Callable
from dataclasses import replace
from math import ceil
from time import perf_counter_ns
from typing import Any

from twisted.internet.defer import (
    Deferred,
    DeferredList,
    DeferredSemaphore,
    FirstError,
    gatherResults,
)
from twisted.internet.defer import TimeoutError as WaitedTooLong
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.client.run import Watchers
from echofactory.distributed.cluster import READY_S, Cluster
from echofactory.distributed.hosts import ClusterError, Host, spread
from echofactory.distributed.partstate import PartState, statusText
from echofactory.distributed.sending import SharedSending
from echofactory.distributed.settings import RunSettings, refuseTooManyParts
from echofactory.results.assembly import Assembly
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.partfacts import PartsFacts
from echofactory.results.warnings import addWarnings
from echofactory.values.printable import printable
from echofactory.values.quantities import counted
from echofactory.workload.share import Share

_log = Logger()

_SILENT_CHECKS = 5
"""Checks, one per second, without a message, after which a part is lost; or three intervals, if
they are longer. Checks are counted and not seconds, because a suspended machine does not
check."""

_STARTING = 8
"""Parts that start at the same time. To start takes a core for about half a second."""

_END_S = 5.0
"""Seconds that a part has to tell its results after it was interrupted."""

_LEAD_NS = 200_000_000
"""Nanoseconds from telling the parts to do something until they do it."""


class DistributedRun:
    """
    A run of several parts. It serves one run.

    ========== ==================================== =====================================
    state      what happens                         left when
    ========== ==================================== =====================================
    new        nothing                              L{run} is called
    preparing  the parts are started                all are ready; L{ClusterError} if not
    opening    connections are opened               each part is up, over or lost
    sending    messages go out and come back        each part is over or lost
    over       L{run} returns the results
    ========== ==================================== =====================================

    A part that is lost leaves its share undone: nothing is run twice.

    It has over 20 methods: those of L{MeasuredRun<echofactory.client.run.MeasuredRun>}, and a
    private one for each transition and message.

    @ivar reactor: the clock of the coordinator.
    @ivar results: the books of the run, as the parts have told them.
    @ivar ticker: who is told of the intervals.
    @ivar sender: the sending.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        cluster: Cluster,
        settings: RunSettings,
        parts: int | None = None,
        clock: Callable[[], int] = perf_counter_ns,
    ) -> None:
        """
        @param parts: the number of parts, from 1 to the number of connections; C{None}: one for
            each worker of the cluster.
        @raise ValueError: if there are more parts than connections.
        """
        if parts is not None:
            refuseTooManyParts(parts, settings.connections)
        self.reactor = reactor
        self.ticker = Watchers()
        self._cluster = cluster
        self._settings = settings
        self._wanted = parts
        self._clock = clock
        self._parts: list[PartState] = []
        workload = settings.workload
        self.results = workload.books(settings.connections, settings.interval)
        self.results.target = printable(settings.target)
        self.results.spin = settings.spin
        self._assembly = Assembly(self.results, self.ticker.tell)
        self.sender = SharedSending(workload, settings.connections, self._assembly, clock)
        self._over: Deferred[None] = Deferred()
        self._stop: Deferred[None] = Deferred()
        # Why the run cannot begin.
        self._problem: ClusterError | None = None
        self._ending = False
        self._texts: set[str] = set()
        self._givingUp: IDelayedCall | None = None
        self._checks = LoopingCall(self._check)
        self._checks.clock = reactor

    # The run

    async def run(self, target: object = None) -> Results:
        """
        Run, and return the results.

        @param target: not used; the settings have it.
        @raise ClusterError: if the cluster cannot be used, or a part cannot be started.
        """
        try:
            if await self._unlessStopped(self._cluster.open()):
                self._plan()
                self._checks.start(1.0, now=False)
                if await self._unlessStopped(self._prepared()):
                    self._go()
                    await self._over
            self._finish()
        finally:
            # A part that is being started ends when it has started.
            self._ending = True
            if self._checks.running:
                self._checks.stop()
            if self._givingUp is not None and self._givingUp.active():
                self._givingUp.cancel()
            for part in self._parts:
                self._kill(part)
        return self.results

    async def _unlessStopped(self, what: "Deferred[Any]") -> bool:
        """
        Wait for something, unless the run is interrupted.

        @return: whether it is done.
        @raise ClusterError: if a part is lost.
        """
        race = DeferredList(
            [what, self._stop],
            fireOnOneCallback=True, fireOnOneErrback=True, consumeErrors=True,
        )  # fmt: skip
        try:
            _, index = await race
        except FirstError as error:
            error.subFailure.raiseException()
        if self._problem is not None:
            raise self._problem
        return index == 0

    def _plan(self) -> None:
        """
        Give each part its share and its host.

        @raise ClusterError: if there are too many parts, or a part has too many connections.
        """
        hosts, connections = self._cluster.hosts, self._settings.connections
        parts = self._wanted or len(hosts)
        try:
            refuseTooManyParts(parts, connections)
        except ValueError as error:
            raise ClusterError(str(error)) from None
        self._parts = [
            PartState(number, Share(number, parts), host)
            for number, host in enumerate(spread(hosts, parts))
        ]
        for part in self._parts:
            wanted, fit = part.share.count(connections), part.host.connections
            if wanted > fit:
                raise ClusterError(
                    f"{wanted:,} connections of {part.name} do not fit: a process there can"
                    f" open descriptors for {fit:,} connections (ulimit -n)"
                )
        self.results.parts = PartsFacts(
            parts=parts, hosts=tuple(dict.fromkeys(part.host.name for part in self._parts))
        )
        churn = self._settings.workload.churn
        self._assembly.expect(
            [0 if churn else part.share.count(connections) for part in self._parts]
        )

    def _prepared(self) -> "Deferred[Any]":
        """Start the parts. The result fires when all are ready."""
        name = self._cluster.listen(self._heard, self._gone)
        turns = DeferredSemaphore(_STARTING)

        def start(part: PartState) -> "Deferred[None]":
            return Deferred.fromCoroutine(self._start(part, name))

        starting = [turns.run(start, part) for part in self._parts]
        return gatherResults(starting, consumeErrors=True).addErrback(_unwrapped)

    async def _start(self, part: PartState, name: str) -> None:
        if self._ending:
            return
        settings = self._settings.partOf(part.share)
        try:
            part.handle = await self._cluster.start(part.host, part.number, name, settings)
        except ClusterError:
            # The next one must not be started before the run hears of it.
            self._ending = True
            raise
        if self._ending:
            self._kill(part)
        try:
            await part.ready.addTimeout(READY_S, self.reactor)
        except WaitedTooLong:
            raise ClusterError(f"{part.name} was not ready within {READY_S:.0f} s") from None

    def _kill(self, part: PartState) -> None:
        """End the process of a part, unless it ends by itself."""
        if part.handle is not None and not part.told:
            self._cluster.kill(part.handle)

    def _go(self) -> None:
        at = self._clock() + _LEAD_NS
        self.results.beganAt = at
        self._tellAll(go=at)

    def _tellAll(self, **message: int) -> None:
        """Tell each part that is ready something, with its time on the part's clock."""
        for part in self._parts:
            # A part that is not ready reads its settings.
            if part.handle is not None and part.ready.called and not part.over:
                theirs = {name: ns + part.host.offsetNs for name, ns in message.items()}
                self._cluster.tell(part.handle, **theirs)

    # What the parts say

    def _heard(self, number: int, message: dict[str, Any]) -> None:
        """A part says something."""
        part = self._parts[number]
        part.silentChecks = 0
        if part.over:
            return
        if "ready" in message:
            part.ready.callback(None)
        elif "began" in message:
            part.beganNs = message["began"]
        elif "up" in message:
            part.up = True
            self._checkUp()
        elif "account" in message:
            self._accountOf(part, message["account"])
        elif "log" in message:
            self._logged(part, str(message["log"]))
        elif "failed" in message:
            self._lose(part, f"failed: {printable(str(message['failed']))}")
        elif "expired" in message:
            self._lose(part, f"heard nothing for {message['expired']} s, and has ended")
        elif "ended" in message:
            self._lose(part, f"ended {statusText(message['ended'])}")

    def _logged(self, part: PartState, text: str) -> None:
        """Log what a part has logged, unless another part has logged the same."""
        if text not in self._texts:
            self._texts.add(text)
            _log.warn("{part}: {text}", part=part.name, text=printable(text))

    def _gone(self, host: Host) -> None:
        """The scheduler has removed a worker."""
        for part in self._parts:
            if part.host == host:
                self._lose(part, "is gone: its worker has left the cluster")

    def _accountOf(self, part: PartState, account: dict[str, Any]) -> None:
        last = "elapsedNs" in account
        self._assembly.take(part.number, account)
        if last:
            part.over = part.told = True
            part.holdNs = account["holdNs"]
            self._checkUp()
            self._checkOver()

    def _checkUp(self) -> None:
        """If each part is up or over, all of them begin to send."""
        if self.sender.beganAt is None and all(part.up or part.over for part in self._parts):
            at = self._clock() + _LEAD_NS
            self.sender.begin(at)
            self._tellAll(send=at)

    def _lose(self, part: PartState, how: str) -> None:
        """
        A part is lost. While the run is prepared, there is no run without it.

        @param how: what it did, as the rest of a sentence.
        """
        if part.over:
            return
        part.over = True
        if not self.results.beganAt:
            self._problem = ClusterError(f"{part.name} {how}")
            if not self._stop.called:
                self._stop.callback(None)
            return
        first = part.share.number(1)
        target, detail = self.results.target, f"{part.name} {how}"
        failure = ConnectionFailure(first, target, FailureKind.PART_LOST, detail)
        assert self.results.parts is not None
        self.results.parts = replace(self.results.parts, lost=self.results.parts.lost + 1)
        if not self._ending:
            _log.error("{part} {how}", part=part.name, how=how)
        self._kill(part)
        self._assembly.lose(part.number, failure, self._clock() - self.results.beganAt)
        self._checkUp()
        self._checkOver()

    def _check(self) -> None:
        """Once a second: say that this process is there, and find the parts that are silent."""
        self._tellAll(alive=0)
        limit = max(_SILENT_CHECKS, ceil(3 * self._settings.interval))
        for part in self._parts:
            # Starting has a limit of its own.
            if part.over or not part.ready.called:
                continue
            part.silentChecks += 1
            if part.silentChecks > limit:
                gone = "" if self._cluster.connected else "; the scheduler cannot be reached"
                self._lose(part, f"said nothing for {counted(limit, 'second')}{gone}")

    def _checkOver(self) -> None:
        if all(part.over for part in self._parts) and not self._over.called:
            self._over.callback(None)

    # The end

    def _finish(self) -> None:
        results = self.results
        self._assembly.finish()
        began = [part.beganNs for part in self._parts if part.beganNs is not None]
        holds = [part.holdNs for part in self._parts if part.holdNs is not None]
        if results.parts is not None:
            results.parts = replace(
                results.parts,
                startSkewNs=max(began) - min(began) if began else None,
                longestHoldNs=max(holds, default=None),
                clockErrorNs=max(part.host.errorNs for part in self._parts),
            )
        self.sender.tellDue(results)
        addWarnings(results)

    def interrupt(self) -> None:
        """Have each part cut what is open. A second call does not wait for their results."""
        if self.results.interrupted and self.results.beganAt:
            self._giveUp("did not tell its results before the second interrupt")
        elif not self._over.called:
            self.results.interrupted = True
            self._end("interrupt")

    def endEarly(self) -> None:
        """End a run whose outcome is certain, in the same way."""
        if not self._over.called:
            self.results.endedEarly = True
            self._end("endEarly")

    def _end(self, how: str) -> None:
        if self._ending:
            return
        self._ending = True
        self.sender.stop()
        self._tellAll(**{how: 0})
        if not self._stop.called:
            self._stop.callback(None)
        tooLate = f"did not tell its results within {_END_S:.0f} s"
        self._givingUp = self.reactor.callLater(_END_S, self._giveUp, tooLate)

    def _giveUp(self, how: str) -> None:
        """Lose the parts that have not told their results after the run was cut."""
        for part in self._parts:
            self._lose(part, how)

    def soFar(self) -> Results:
        """Return the present books, as the parts have told them."""
        self._assembly.update()
        elapsedNs = max(0, self._clock() - self.results.beganAt) if self.results.beganAt else 0
        results = replace(self.results, elapsedNs=elapsedNs, underWay=True)
        self.sender.tellDue(results)
        return results


def _unwrapped(reason: Failure) -> Failure:
    """Return the failure of the first of several Deferreds that failed."""
    error = reason.value
    return error.subFailure if isinstance(error, FirstError) else reason
