"""
The outcome of a search for the highest rate: the rate that was found, and the rates that were
tried.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from echofactory.results.failures import FailureKind
from echofactory.results.latency import Fields

KEPT_UP = 0.95
"""The share of the messages asked for that has to come back, and to come back in time.
Otherwise the rate is broken."""


class Ending(StrEnum):
    """Why a search ended."""

    FOUND = "found"
    """One rate keeps every goal, and one at most 5 % higher does not."""
    LOWEST = "lowest"
    """The lowest rate that was tried breaks a goal."""
    CLIENT = "client"
    """The client was too slow for the rate that breaks a goal."""
    INTERRUPTED = "interrupted"
    """A signal ended the search."""


@dataclass(frozen=True, kw_only=True)
class SearchStep:
    """A rate that was tried, and its outcome."""

    asked: float
    """Messages a second."""
    achieved: float
    """Messages verified a second."""
    kept: bool
    """Whether every goal was met, no connection failed, and the replies kept up with the
    schedule."""
    interrupted: bool
    """Whether a signal ended the step."""
    endedEarly: bool
    """Whether the step ended early, because a goal was certainly missed."""
    broken: tuple[str, ...]
    """The goals that were missed, as the user wrote them."""
    failures: Mapping[FailureKind, int]
    """Failed connections by kind."""
    response: Fields
    """The response times, in nanoseconds."""
    sendLag: Fields
    """The send lag, in nanoseconds."""
    clientLimited: bool = False
    """Whether the client was the limit: it did not keep its schedule, or its send lag was more
    than half of the response time at the percentile of a missed goal. The JSON does not have
    this field."""

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{find_rate.steps}."""
        return {
            "asked": self.asked,
            "achieved": self.achieved,
            "kept": self.kept,
            "interrupted": self.interrupted,
            "ended_early": self.endedEarly,
            "broken": list(self.broken),
            "failures": {str(kind): n for kind, n in sorted(self.failures.items())},
            "response_ns": self.response,
            "send_lag_ns": self.sendLag,
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "SearchStep":
        """Return what L{asJSON} wrote."""
        return cls(
            asked=written["asked"],
            achieved=written["achieved"],
            kept=written["kept"],
            interrupted=written["interrupted"],
            endedEarly=written["ended_early"],
            broken=tuple(written["broken"]),
            failures={FailureKind(kind): n for kind, n in written["failures"].items()},
            response=written["response_ns"],
            sendLag=written["send_lag_ns"],
        )


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """The outcome of a search."""

    goals: tuple[str, ...]
    """The goals, as the user wrote them."""
    found: float | None
    """The highest rate that met every goal, in messages a second; C{None}: no rate did."""
    ending: Ending
    """Why the search ended."""
    steps: tuple[SearchStep, ...]
    """The rates that were tried, in order."""

    def asJSON(self) -> dict[str, object]:
        """Return the JSON's C{find_rate}."""
        return {
            "goals": list(self.goals),
            "found": self.found,
            "ended_by": str(self.ending),
            "steps": [step.asJSON() for step in self.steps],
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "SearchOutcome":
        """
        Return what L{asJSON} wrote.

        @raise ValueError: if the outcome contradicts itself.
        """
        outcome = cls(
            goals=tuple(written["goals"]),
            found=written["found"],
            ending=Ending(written["ended_by"]),
            steps=tuple(SearchStep.fromJSON(step) for step in written["steps"]),
        )
        if outcome.ending is Ending.FOUND and outcome.found is None:
            raise ValueError("$.find_rate.found: null, although ended_by is found")
        if outcome.ending is Ending.CLIENT and all(step.kept for step in outcome.steps):
            raise ValueError(
                "$.find_rate.steps: every step is kept, although ended_by is client"
            )
        return outcome
