"""
The account of a part: what its books say, as JSON without line ends. The coordinator makes the
books of the run of them (L{echofactory.results.assembly}).

Counts are those since the beginning of the run, so that the latest account is enough. Of the
histograms, only the changes since the last account are told, by step: a few numbers, and exact.
Times are nanoseconds since the beginning of the run.
"""

from dataclasses import asdict
from typing import Any

from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.latency import Latency
from echofactory.results.merge import SUMMED

HISTOGRAMS = ("connect", "response", "service", "sendLag", "receiveLag")
TIMES = ("firstAt", "lastSentAt", "lastAt")

Account = dict[str, Any]


def _failure(failure: ConnectionFailure) -> dict[str, object]:
    return {"kind": str(failure.kind), **failure.asJSON()}


def changesSince(before: dict[int, int], latency: Latency | None) -> dict[int, int]:
    """
    Return by how much the number of readings of each step has changed.

    @param before: the numbers of readings, which become the present ones.
    """
    now = {} if latency is None else latency.counts()
    changes = {
        step: now.get(step, 0) - before.get(step, 0)
        for step in before.keys() | now.keys()
        if now.get(step, 0) != before.get(step, 0)
    }
    before.clear()
    before.update(now)
    return changes


def packed(counts: dict[int, int]) -> list[list[int]]:
    """Return numbers by step as two lists. JSON reads them faster than pairs."""
    return [[*counts], [*counts.values()]]


def unpacked(written: list[list[int]]) -> dict[int, int]:
    """Return what L{packed} has made two lists of."""
    return dict(zip(*written, strict=True))


class Accounts:
    """The accounts of one part."""

    def __init__(self, results: Results, beganAt: int) -> None:
        """
        @param results: the books of the part. They keep C{openCounts}.
        @param beganAt: when the run was to begin, in nanoseconds of the part's clock.
        """
        self._results = results
        self._beganAt = beganAt
        self._told: dict[str, dict[int, int]] = {name: {} for name in HISTOGRAMS}

    def interval(self) -> Account:
        """Return the account at the end of an interval."""
        results = self._results
        interval = results.intervals[-1]
        return self._now() | {
            "interval": {
                "endNs": results.beganAt + interval.endNs - self._beganAt,
                "messages": interval.messages,
                "bytes": interval.bytes,
                "failures": interval.failures,
                "response": packed(results.recent.counts()),
            }
        }

    def last(self) -> Account:
        """Return the account of a part that has ended, with what is known only then."""
        results = self._results
        return self._now() | {
            "elapsedNs": results.beganAt + results.elapsedNs - self._beganAt,
            "kernel": asdict(results.kernel),
            "facts": results.connectionFacts.asJSON(),
            "warnings": results.warnings,
            "interrupted": results.interrupted,
            "endedEarly": results.endedEarly,
        }

    def _now(self) -> Account:
        results = self._results
        counts = results.openCounts
        assert counts is not None
        times = {name: getattr(results, name) for name in TIMES}
        return {
            "counts": {name: getattr(results, name) for name in SUMMED},
            "failures": {str(kind): count for kind, count in results.failures.items()},
            "examples": [_failure(each) for each in results.examples.values()],
            "latest": [
                [at.isoformat(), _failure(failure)] for at, failure in results.latest.values()
            ],
            "datagrams": None if results.datagrams is None else asdict(results.datagrams),
            "histograms": {
                name: packed(changesSince(self._told[name], getattr(results, name)))
                for name in HISTOGRAMS
            },
            "known": [name for name in HISTOGRAMS if getattr(results, name) is not None],
            "times": {name: at and at - self._beganAt for name, at in times.items()},
            "paced": results.paced,
            "missing": results.missing,
            "leastUncounted": results.leastUncounted,
            "warmingUp": results.warmingUp,
            "openCounts": counts.taken(),
        }


def failureFrom(written: dict[str, Any]) -> ConnectionFailure:
    """Return a failure of an account."""
    return ConnectionFailure(**written | {"kind": FailureKind(written["kind"])})
