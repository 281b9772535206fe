"""
When messages are sent: by a schedule (open loop), or until a duration is over.
"""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echofactory.client.pacer import Pacer
from echofactory.net.cores import usableCores
from echofactory.results.books import Results
from echofactory.values.checks import checkType
from echofactory.workload.due import DueMessages
from echofactory.workload.schedule import DueTimes

_LAST_MOMENT_S = 0.1
"""Seconds after the duration in which a message that was due before can still be sent. The
reactor's timers are late by a millisecond, and those of a busy machine by more."""

_ONE_CORE = (
    "spinning needs a core of its own, and this process can use only one: whatever else runs"
    " there waits for the client"
)

_TIMER_S = 0.001
"""Seconds: the resolution of the reactor's timers."""


Gate = Callable[[Callable[[int], None]], None]
"""Called when the sending can begin, with the function that begins it. The gate calls the
function once, with the time, in nanoseconds of the client's clock."""


class Sender:
    """
    Begins and ends the sending of a run.

     - C{idle}, before L{begin}: nothing is sent.
     - C{sending}: messages are delivered when they are due, or the connections send by
       themselves. The schedule's last message ends it, or the end of the duration.
     - C{last moment}: the duration is over, and messages that were due before are not
       delivered yet. It lasts 100 ms at most.
     - C{stopped}, after L{stop}.

    @ivar active: whether messages are sent, or can be.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        clock: Callable[[], int],
        results: Results,
        schedule: DueTimes | None,
        duration: float | None,
        warmUp: float,
        deliver: Callable[[int], None],
        waiting: Callable[[], object],
        finished: Callable[[], None],
        warmedUp: Callable[[int], None] = lambda now: None,
        spin: bool = False,
    ) -> None:
        """
        @param clock: returns nanoseconds.
        @param schedule: when messages are due; C{None}: replies decide.
        @param duration: seconds of sending, with the warm-up; C{None}: a count decides.
        @param warmUp: seconds at the beginning that do not count. The schedule has them too.
        @param deliver: called for each message of the schedule, with when it was due.
        @param waiting: tells whether messages that were delivered wait for a connection.
        @param finished: called when no other message is to begin.
        @param warmedUp: called with the time in nanoseconds, just before the warm-up ends.
        @param spin: whether to keep a core awake while there is a schedule.
        @raise TypeError: if C{spin} is not a bool.
        @raise ValueError: if C{spin} is set without a schedule.
        """
        checkType("spin", spin, bool)
        if spin and schedule is None:
            raise ValueError("spin: without a rate, no message is due at a time")
        self.active = False
        self._reactor = reactor
        self._clock = clock
        self._results = results
        self._schedule = schedule
        self._duration = duration
        self._warmUp = warmUp
        self._warmUpNs = round(warmUp * 1e9)
        self._warmedUp = warmedUp
        self._due = None if schedule is None else DueMessages(schedule, results)
        self._deliver = deliver
        self._counting = False
        self._waiting = waiting
        self._finished = finished
        self._spin = results.spin = spin
        self._pacer: Pacer | None = None
        self._beganAt = 0
        self._stoppedAt = 0
        self._inLastMoment = False
        # What ends the warm-up, and the duration.
        self._warm: IDelayedCall | None = None
        self._over: IDelayedCall | None = None

    def begin(self, now: int) -> None:
        """
        Begin.

        @param now: the time, in nanoseconds: the schedule's start.
        """
        self._beganAt = now
        self.active = self._schedule is not None or self._duration is not None
        deliver = self._deliver
        if self._warmUp:
            self._results.warmingUp = True
            self._warm = self._reactor.callLater(self._warmUp, self._warmUpIsOver)
            deliver = self._deliverFromWarmUp
        if self._spin and usableCores() < 2:
            self._results.warnings.append(_ONE_CORE)
        if self._schedule is not None:
            self._results.firstAt = self._results.countsFrom = now + self._warmUpNs
            self._pacer = Pacer(
                *(self._reactor, self._schedule, now, deliver, self._allDelivered, self._spin)
            )
        if self._duration is not None:
            self._over = self._reactor.callLater(self._duration, self._durationIsOver)

    def stop(self) -> None:
        """Deliver nothing more."""
        self.active = False
        # What is due while connections are cut is due no more.
        self._stoppedAt = self._stoppedAt or self._clock()
        if self._pacer is not None:
            self._pacer.stop()
        for call in (self._warm, self._over):
            if call is not None and call.active():
                call.cancel()
        self._warm = self._over = None
        if self._results.warmingUp:
            self._results.endWarmUp(self._clock())
        if self._warmUp and not self._counting and self._schedule is not None:
            # There are only those of the warm-up.
            self._results.sendLag.clear()

    def remaining(self) -> float | None:
        """Return the seconds of sending that are left; C{None}: that is not known."""
        schedule = self._schedule
        seconds = schedule.seconds if schedule is not None else self._duration
        if seconds is None or not self.active:
            return None
        return max(0.0, seconds - (self._clock() - self._beganAt) / 1e9)

    def _left(self, seconds: float) -> float:
        """
        Return what is left of some seconds since the beginning. If the wall clock is set
        forward, a timer of the reactor fires early.
        """
        left = seconds - (self._clock() - self._beganAt) / 1e9
        return left if left > _TIMER_S else 0.0

    def _warmUpIsOver(self) -> None:
        left = self._left(self._warmUp)
        if left:
            self._warm = self._reactor.callLater(left, self._warmUpIsOver)
            return
        self._warm = None
        now = self._clock()
        self._warmedUp(now)
        self._results.endWarmUp(now)

    def _deliverFromWarmUp(self, dueAt: int) -> None:
        """Deliver a message of a run with a warm-up."""
        if not self._counting and dueAt >= self._results.countsFrom:
            self._counting = True
            self._results.sendLag.clear()
        self._deliver(dueAt)

    def _allDelivered(self) -> None:
        """The schedule has no other message."""
        if self._duration is None or (self._inLastMoment and not self._waiting()):
            self._finished()

    def _durationIsOver(self) -> None:
        assert self._duration is not None
        left = self._left(self._duration)
        behind = self._waiting() or (self._pacer is not None and not self._pacer.over)
        if left:
            self._over = self._reactor.callLater(left, self._durationIsOver)
        elif behind and not self._inLastMoment:
            self._inLastMoment = True
            self._over = self._reactor.callLater(_LAST_MOMENT_S, self._durationIsOver)
        else:
            self._finished()

    # The schedule's share of the results

    def dueUntil(self, at: int) -> int:
        """Return how many messages were due before some time; 0: none could be sent."""
        schedule, pacer = self._schedule, self._pacer
        if schedule is None or pacer is None:
            return 0
        return max(pacer.handedOut, schedule.dueBefore(at - self._beganAt))

    def tellSoFar(self, results: Results) -> None:
        """Note in results of a run that goes on what was due until now."""
        if self._due is not None and self._pacer is not None:
            self._due.tell(results, self.dueUntil(self._clock()))

    def tellAll(self) -> None:
        """Note in the results of a run that is over what was due, and how it was paced."""
        results, schedule, pacer = self._results, self._schedule, self._pacer
        if schedule is None or self._due is None:
            return
        # If the connections did not survive the run, the rest was due all the same.
        cut = results.interrupted or results.endedEarly
        past = self.dueUntil(self._stoppedAt or self._clock())
        self._due.tell(results, past if cut else schedule.total)
        if pacer is not None and past:
            tookNs = pacer.lastAt - self._beganAt
            results.paced = min(1.0, pacer.handedOut / past)
            if tookNs > 0:
                results.paced = min(results.paced, schedule.dueNs(pacer.handedOut) / tookNs)

    def isMissed(self, percent: float, limitNs: int) -> bool:
        """See L{Sending<echofactory.client.run.Sending>}."""
        if self._due is None or self._pacer is None:
            return False
        sinceNs = self._clock() - self._results.firstAt
        return self._due.isMissed(self._results, sinceNs, percent, limitNs)
