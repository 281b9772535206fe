"""
The search for the highest rate that keeps the goals: which rate to try next. Pure.
"""

from collections.abc import Sequence

from echofactory.results.books import Results
from echofactory.results.expectations import Expectation
from echofactory.results.judging import judge
from echofactory.results.latency import PERCENTILES, statisticName
from echofactory.results.search import KEPT_UP, Ending, SearchOutcome, SearchStep

NAMES = {statisticName(field): field for field in (*PERCENTILES, "max")}
"""The percentiles that a goal can be about, and their fields in the JSON."""

PRECISION = 1.05
"""The ratio of the lowest rate that broke a goal and the highest rate that kept all of them, at
which a search ends."""


def checkGoal(expectation: Expectation) -> None:
    """
    @raise ValueError: if an expectation is not a goal, which is an upper bound of one of
        L{NAMES} of the response times.
    """
    accepted = expectation.quantity in NAMES and expectation.comparison == "<"
    if not accepted or expectation.relative:
        raise ValueError(
            f"goals: {expectation.text!r} is not an upper bound of {', '.join(NAMES)}, such as"
            " p99<5ms"
        )


def _fellBehind(asked: float, results: Results) -> bool:
    """
    Tell whether messages were due faster than they came back. Either too few came back, or
    the last reply came later than the end of the schedule by more than 5 % of the schedule and
    the least response time. Of the warm-up, too, because a backlog makes all others slow.
    """
    if results.achieved < KEPT_UP * asked:
        return True
    warmUpNs = results.workload.warmUpS * 1e9
    tookNs = warmUpNs + results.lastAt - results.firstAt
    return tookNs > (warmUpNs + results.scheduledNs) / KEPT_UP + results.leastNs


def judged(asked: float, results: Results, goals: Sequence[Expectation]) -> SearchStep:
    """
    Judge a run at some rate.

    @param asked: messages a second.
    """
    response, lag = results.response.asJSON(), results.sendLag.asJSON()
    broken = [each.expectation for each in judge(results, goals) if not each.met]
    # If no reply came until the run was ended early, the bound itself was reached.
    reached = [
        (lag[field] or 0, response[field] or goal.bound)
        for goal in broken
        for field in (NAMES[goal.quantity],)
    ]
    return SearchStep(
        asked=asked,
        achieved=results.achieved,
        kept=not broken and not _fellBehind(asked, results) and results.verdict == "ok",
        broken=tuple(goal.text for goal in broken),
        clientLimited=not results.failed
        and (results.keptNoSchedule or any(2 * late > whole for late, whole in reached)),
        interrupted=results.interrupted,
        endedEarly=results.endedEarly,
        failures=results.failures,
        response=response,
        sendLag=lag,
    )


class RateSearch:
    """
    Doubles the rate until a goal is broken. If the first rate breaks a goal, halves it until
    every goal is kept, or the least rate is tried. Then bisects. If connections fail, and no
    message comes back, it tries no lower rate: the rate is not the reason.

    @ivar steps: the rates that were tried, in order.
    @ivar ending: why the search is over; C{None} while it goes on.
    """

    def __init__(self, first: float, least: float) -> None:
        """
        @param first: the first rate, in messages a second.
        @param least: the least rate to try. If C{first} is lower, that is the least rate.
        """
        self.steps: list[SearchStep] = []
        self.ending: Ending | None = None
        self._next = first
        self._least = min(first, least)
        self._broken: SearchStep | None = None

    @property
    def best(self) -> SearchStep | None:
        """The highest rate that kept every goal; C{None}: there is none."""
        kept = [step for step in self.steps if step.kept]
        return max(kept, key=lambda step: step.asked, default=None)

    def next(self) -> float | None:
        """Return the rate to try; C{None} if the search is over."""
        return None if self.ending is not None else self._next

    def note(self, step: SearchStep) -> None:
        """Note the outcome of the rate that was tried."""
        self.steps.append(step)
        if step.interrupted:
            self.ending = Ending.INTERRUPTED
            return
        if not step.kept:
            # All rates that are tried after it are lower.
            self._broken = step
        best, broken = self.best, self._broken
        if broken is None:
            self._next = step.asked * 2
        elif best is None and step.asked > self._least and (step.achieved or not step.failures):
            self._next = max(self._least, step.asked / 2)
        elif best is None:
            self.ending = Ending.CLIENT if broken.clientLimited else Ending.LOWEST
        elif broken.asked / best.asked <= PRECISION:
            self.ending = Ending.CLIENT if broken.clientLimited else Ending.FOUND
        else:
            self._next = (best.asked + broken.asked) / 2

    def outcome(self, goals: Sequence[Expectation]) -> SearchOutcome:
        """Return what came of the search, once it is over."""
        best = self.best
        assert self.ending is not None
        return SearchOutcome(
            goals=tuple(goal.text for goal in goals),
            found=best.asked if best is not None else None,
            ending=self.ending,
            steps=tuple(self.steps),
        )
