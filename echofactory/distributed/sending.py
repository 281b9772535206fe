"""
The sending of a run of several parts: what is due of the whole schedule.
"""

from collections.abc import Callable

from echofactory.results.assembly import Assembly
from echofactory.results.books import Results
from echofactory.workload.schedule import missedCertainly
from echofactory.workload.settings import Workload
from echofactory.workload.stages import WarmedUp


class SharedSending:
    """
    The sending: a L{Sending<echofactory.client.run.Sending>}.

    @ivar beganAt: when it began, in nanoseconds of the coordinator's clock; C{None}: not yet.
    """

    def __init__(
        self,
        workload: Workload,
        connections: int,
        assembly: Assembly,
        clock: Callable[[], int],
    ) -> None:
        """
        @param connections: the number of connections of the run.
        @param assembly: the books of the run.
        @param clock: returns nanoseconds.
        """
        self.beganAt: int | None = None
        self._workload = workload
        self._assembly = assembly
        self._clock = clock
        self._stoppedAt: int | None = None
        schedule = workload.schedule(connections)
        # The part of the schedule that counts, and how many messages come before it.
        self._schedule, self._measured, self._before = schedule, schedule, 0
        if isinstance(schedule, WarmedUp):
            self._measured, self._before = schedule.measured, schedule.warmUp.total
        if self._measured is not None:
            rate = self._measured.rateOf(max(1, self._measured.total))
            assembly.results.rateAsked = rate

    def begin(self, now: int) -> None:
        """The sending begins at C{now}."""
        self.beganAt = now
        sinceNs = now - self._assembly.results.beganAt
        # As each part does it.
        if self._schedule is not None:
            self._assembly.grid.align(sinceNs)
        if self._workload.warmUp:
            self._assembly.grid.align(sinceNs + round(self._workload.warmUp * 1e9))

    def stop(self) -> None:
        """What is due from now on is due no more, because the run is cut."""
        self._stoppedAt = self._clock()

    def remaining(self) -> float | None:
        """See L{Sending<echofactory.client.run.Sending>}."""
        workload, schedule = self._workload, self._schedule
        seconds = schedule.seconds if schedule is not None else workload.sending
        if seconds is None or self.beganAt is None or self._stoppedAt is not None:
            return None
        return max(0.0, seconds - (self._clock() - self.beganAt) / 1e9)

    def isMissed(self, percent: float, limitNs: int) -> bool:
        """See L{Sending<echofactory.client.run.Sending>}."""
        results, knownNs = self._assembly.results, self._assembly.knownNs
        if self._measured is None or self.beganAt is None or knownNs is None:
            return False
        warmUpNs = round(self._workload.warmUp * 1e9)
        sinceNs = results.beganAt + knownNs - self.beganAt - warmUpNs
        inTime = results.response.under(limitNs)
        return missedCertainly(self._measured, sinceNs, inTime, percent, limitNs)

    def tellDue(self, results: Results) -> None:
        """Note in the results what was due until now, or until the end of the run."""
        schedule, measured = self._schedule, self._measured
        if schedule is None or measured is None or self.beganAt is None:
            return
        due = schedule.total
        if results.underWay or self._stoppedAt is not None:
            now = self._clock() if self._stoppedAt is None else self._stoppedAt
            due = max(results.due, schedule.dueBefore(now - self.beganAt))
        results.due = due
        results.uncountedDue = min(due, self._before)
        if due > self._before:
            results.scheduledNs = measured.dueNs(due - self._before)
            results.rateAsked = measured.rateOf(due - self._before)
