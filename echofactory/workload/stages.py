"""
Stages: a schedule whose rate is constant or changes evenly, piece by piece. And the warm-up, a
piece of its own before the schedule.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

from echofactory.values.checks import MAX_SECONDS, checkItems, checkSeconds, checkType
from echofactory.workload.schedule import (
    DueTimes,
    Rate,
    Schedule,
    countedBefore,
    dueWithin,
    snapped,
)

MAX_STAGES = 1000
"""The highest number of stages."""


@dataclass(frozen=True)
class Stage:
    """
    A part of a schedule.

    @ivar rate: the rate at the beginning and at the end of the stage.
    @ivar seconds: the length of the stage: more than 0, at most
        L{MAX_SECONDS<echofactory.values.checks.MAX_SECONDS>}.
    @raise TypeError: from the constructor, if a field has another type.
    @raise ValueError: from the constructor, if a field is out of range. The message names the
        field and the value.
    """

    rate: Rate
    seconds: float

    def __post_init__(self) -> None:
        checkType("rate", self.rate, Rate, "a Rate, such as Rate(500, 500)")
        checkSeconds("seconds", self.seconds)


@dataclass(frozen=True)
class Stages:
    """
    The stages of a schedule. They follow each other without a gap.

    @ivar stages: from 1 to L{MAX_STAGES}.
    @raise TypeError: from the constructor, if C{stages} is not a tuple of L{Stage}.
    @raise ValueError: from the constructor, if there are too few or too many stages, or if
        they are longer than L{MAX_SECONDS<echofactory.values.checks.MAX_SECONDS>} together.
    """

    stages: tuple[Stage, ...]

    def __post_init__(self) -> None:
        checkType("stages", self.stages, tuple, "a tuple of Stage")
        checkItems(
            "stages", self.stages, "Stage", lambda name, item: checkType(name, item, Stage)
        )
        if not 0 < len(self.stages) <= MAX_STAGES:
            raise ValueError(
                f"stages: {len(self.stages):,} stages: from 1 to {MAX_STAGES:,} are accepted"
            )
        if self.seconds > MAX_SECONDS:
            raise ValueError(f"stages: {self.seconds:g} s together: too long")

    @property
    def first(self) -> float:
        """The rate at the beginning, in messages a second."""
        return self.stages[0].rate.first

    @property
    def seconds(self) -> float:
        """The length of all stages together."""
        return sum(stage.seconds for stage in self.stages)


@dataclass(frozen=True)
class StagedSchedule:
    """
    When each message of a run with stages is due. See
    L{DueTimes<echofactory.workload.schedule.DueTimes>} for the rules.

    A message belongs to the stage in which its turn comes. A message whose turn comes at the
    border of two stages is due at the border, and belongs to the later stage.
    """

    stages: Stages

    @cached_property
    def _parts(self) -> list[Schedule]:
        """A schedule for each stage."""
        return [Schedule.lasting(each.rate, each.seconds) for each in self.stages.stages]

    @cached_property
    def _messages(self) -> list[float]:
        """How many messages are due before each stage, and before the end."""
        counts = (part.expected for part in self._parts)
        return [snapped(each) for each in accumulate(counts, initial=0.0)]

    @cached_property
    def _begins(self) -> list[int]:
        """When each stage begins, and the last one ends, in nanoseconds."""
        lengths = (stage.seconds for stage in self.stages.stages)
        return [round(each * 1e9) for each in accumulate(lengths, initial=0.0)]

    @cached_property
    def total(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return dueWithin(self._messages[-1])

    @property
    def expected(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self._messages[-1]

    @property
    def seconds(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.stages.seconds

    @property
    def endNs(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.dueNs(self.total)

    def dueNs(self, number: float) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        parts, begins = self._parts, self._begins
        index = min(bisect_right(self._messages, number), len(parts)) - 1
        ns = begins[index] + parts[index].dueNs(number - self._messages[index])
        # The last stage goes on after its end, for the message after the last one.
        return ns if index == len(parts) - 1 else min(ns, begins[index + 1])

    def dueBefore(self, ns: int) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        begins = self._begins
        if ns <= 0 or ns >= begins[-1]:
            return 0 if ns <= 0 else self.total
        index = bisect_right(begins, ns) - 1
        within = self._parts[index].expectedBefore(ns - begins[index])
        return countedBefore(self, ns, dueWithin(self._messages[index] + within))

    def rateOf(self, number: int) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return number * 1e9 / self.dueNs(number)


@dataclass(frozen=True)
class WarmedUp:
    """
    A schedule after a warm-up. The schedule begins anew when the warm-up ends, so that the
    messages after the warm-up are those of a run without one.

    @ivar warmUp: the schedule of the warm-up.
    @ivar measured: the schedule after it.
    """

    warmUp: DueTimes
    measured: DueTimes

    @cached_property
    def beginNs(self) -> int:
        """When the warm-up ends, in nanoseconds."""
        return round(self.warmUp.seconds * 1e9)

    @property
    def total(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.warmUp.total + self.measured.total

    @property
    def expected(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.warmUp.total + self.measured.expected

    @property
    def seconds(self) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.warmUp.seconds + self.measured.seconds

    @property
    def endNs(self) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return self.dueNs(self.total)

    def dueNs(self, number: float) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        before = self.warmUp.total
        if number < before:
            # A message whose time rounds to the end of the warm-up is due just before.
            return min(self.warmUp.dueNs(number), self.beginNs - 1)
        return self.beginNs + self.measured.dueNs(number - before)

    def dueBefore(self, ns: int) -> int:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        if ns >= self.beginNs:
            return self.warmUp.total + self.measured.dueBefore(ns - self.beginNs)
        return countedBefore(self, ns, self.warmUp.dueBefore(ns))

    def rateOf(self, number: int) -> float:
        """See L{DueTimes<echofactory.workload.schedule.DueTimes>}."""
        return number * 1e9 / self.dueNs(number)
