"""
The sending of a run of several parts: what is due of the whole schedule.
"""

from collections.abc import Callable

from echofactory.results.assembly import Assembly
from echofactory.results.books import Results
from echofactory.workload.due import DueMessages
from echofactory.workload.settings import Workload


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
        self._due = None if schedule is None else DueMessages(schedule, assembly.results)

    def begin(self, now: int) -> None:
        """The sending begins at C{now}."""
        self.beganAt = now
        sinceNs = now - self._assembly.results.beganAt
        # As each part does it.
        if self._due is not None:
            self._assembly.grid.align(sinceNs)
        if self._workload.warmUp:
            self._assembly.grid.align(sinceNs + round(self._workload.warmUp * 1e9))

    def stop(self) -> None:
        """What is due from now on is due no more, because the run is cut."""
        self._stoppedAt = self._clock()

    def remaining(self) -> float | None:
        """See L{Sending<echofactory.client.run.Sending>}."""
        due = self._due
        seconds = self._workload.sending if due is None else due.schedule.seconds
        if seconds is None or self.beganAt is None or self._stoppedAt is not None:
            return None
        return max(0.0, seconds - (self._clock() - self.beganAt) / 1e9)

    def isMissed(self, percent: float, limitNs: int) -> bool:
        """See L{Sending<echofactory.client.run.Sending>}."""
        results, knownNs = self._assembly.results, self._assembly.knownNs
        if self._due is None or self.beganAt is None or knownNs is None:
            return False
        warmUpNs = round(self._workload.warmUp * 1e9)
        sinceNs = results.beganAt + knownNs - self.beganAt - warmUpNs
        return self._due.isMissed(results, sinceNs, percent, limitNs)

    def tellDue(self, results: Results) -> None:
        """Note in the results what was due until now, or until the end of the run."""
        if self._due is None or self.beganAt is None:
            return
        schedule = self._due.schedule
        due = schedule.total
        if results.underWay or self._stoppedAt is not None:
            now = self._clock() if self._stoppedAt is None else self._stoppedAt
            due = max(results.due, schedule.dueBefore(now - self.beganAt))
        self._due.tell(results, due)
