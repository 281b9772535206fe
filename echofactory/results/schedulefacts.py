"""
The description of a schedule in the results.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from echofactory.values.quantities import durationText, numberText, rateText


@dataclass(frozen=True, kw_only=True)
class StageFacts:
    """An item of the JSON's C{rate.schedule.stages}."""

    first: float
    """Messages a second at the beginning."""
    last: float
    """Messages a second at the end."""
    seconds: float | None
    """The length of the stage; C{None}: the count decides."""

    def asJSON(self) -> dict[str, object]:
        """Return the object."""
        return {"from": self.first, "to": self.last, "duration_s": self.seconds}

    @property
    def text(self) -> str:
        """The stage for people: C{500 to 5,000 messages/s for 60.0 s}."""
        rate = rateText(self.last)
        if self.first != self.last:
            rate = f"{numberText(self.first)} to {rate}"
        return (
            rate if self.seconds is None else f"{rate} for {durationText(self.seconds * 1e9)}"
        )


@dataclass(frozen=True, kw_only=True)
class ScheduleFacts:
    """The C{rate.schedule} object of the JSON."""

    stages: tuple[StageFacts, ...]
    """The stages, without the warm-up."""
    arrivals: str
    """C{"even"}: even gaps between the messages; C{"poisson"}: random ones."""
    seed: int | None
    """The seed of the random gaps; C{None}: there are none, or they are of several runs."""

    def asJSON(self) -> dict[str, object]:
        """Return the object."""
        return {
            "stages": [stage.asJSON() for stage in self.stages],
            "arrivals": self.arrivals,
            "seed": self.seed,
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "ScheduleFacts":
        """Return what L{asJSON} wrote."""
        return cls(
            stages=tuple(
                StageFacts(first=item["from"], last=item["to"], seconds=item["duration_s"])
                for item in written["stages"]
            ),
            arrivals=written["arrivals"],
            seed=written["seed"],
        )

    @property
    def plain(self) -> bool:
        """Whether the rate is constant and the gaps are even."""
        steady = {stage.first for stage in self.stages} | {stage.last for stage in self.stages}
        return self.arrivals == "even" and len(steady) == 1

    @property
    def text(self) -> str:
        """The schedule for people."""
        stages = ", ".join(stage.text for stage in self.stages)
        if self.arrivals == "even":
            return stages
        return f"{stages}; Poisson arrivals" + (
            "" if self.seed is None else f" with seed {self.seed}"
        )

    def overTime(self, begin: float, seconds: float) -> list[tuple[float, float]]:
        """
        Return the corners of the asked rate over time: seconds, and the rate at that time.

        @param begin: when the schedule begins, in seconds.
        @param seconds: the length of the schedule, if the count decides.
        """
        corners: list[tuple[float, float]] = []
        for stage in self.stages:
            end = begin + (seconds if stage.seconds is None else stage.seconds)
            corners += [(begin, stage.first), (end, stage.last)]
            begin = end
        return corners


def mergedSchedules(runs: Sequence[ScheduleFacts | None]) -> ScheduleFacts | None:
    """
    Return the schedule of several runs together; C{None}: it is not known. It is known if the
    runs have the same kind of arrivals, and stages of the same lengths. Their rates add up.
    """
    known = [run for run in runs if run is not None]
    if len(known) < len(runs) or len(runs) == 1:
        return known[0] if known and len(runs) == 1 else None
    shapes = {(run.arrivals, *(stage.seconds for stage in run.stages)) for run in known}
    if len(shapes) > 1:
        return None
    stages = tuple(
        StageFacts(
            first=sum(stage.first for stage in together),
            last=sum(stage.last for stage in together),
            seconds=together[0].seconds,
        )
        for together in zip(*(run.stages for run in known), strict=True)
    )
    return replace(known[0], stages=stages, seed=None)
