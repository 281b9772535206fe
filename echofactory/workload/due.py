"""
What is due of a schedule, and what the results have of it. One process and the coordinator of
several parts note the same figures.
"""

from echofactory.results.books import Results
from echofactory.results.latency import rankOf
from echofactory.workload.schedule import DueTimes
from echofactory.workload.stages import WarmedUp


class DueMessages:
    """
    The messages of a schedule.

    @ivar schedule: the whole schedule.
    @ivar measured: the part of the schedule that counts, after the warm-up.
    """

    def __init__(self, schedule: DueTimes, results: Results) -> None:
        """
        @param results: get the rate that the schedule asks for.
        """
        self.schedule = self.measured = schedule
        # How many messages come before those that count.
        self._before = 0
        if isinstance(schedule, WarmedUp):
            self.measured, self._before = schedule.measured, schedule.warmUp.total
        results.rateAsked = self.measured.rateOf(max(1, self.measured.total))

    def tell(self, results: Results, due: int) -> None:
        """
        Note in results what was due.

        @param due: the number of messages of the whole schedule.
        """
        results.due = due
        results.uncountedDue = min(due, self._before)
        if due > self._before:
            results.scheduledNs = self.measured.dueNs(due - self._before)
            results.rateAsked = self.measured.rateOf(due - self._before)

    def isMissed(self, results: Results, knownNs: int, percent: float, limitNs: int) -> bool:
        """
        Tell whether the response time at a percentile certainly reaches a limit, whatever the
        rest of the schedule brings.

        @param knownNs: until when all replies are in the results, in nanoseconds after the
            warm-up.
        @param percent: from 0 to 100.
        @param limitNs: the limit of the response time, in nanoseconds.
        """
        total = self.measured.total
        if not total:
            return False
        # Of the messages that were due so long ago, all that were not in time are late.
        late = self.measured.dueBefore(knownNs - limitNs) - results.response.under(limitNs)
        return late > total - rankOf(percent, total)
