"""
Results of runs for tests of reports, made without a run; and what holds for every run.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from schema import FACTS

from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.latency import Latency
from echofactory.results.search import Ending, SearchOutcome, SearchStep

S = 1_000_000_000
MS = 1_000_000


def balanced(results: Results) -> bool:
    """Tell whether the books of a run that has ended balance (L{Results})."""
    return (
        results.sent == results.verified + results.mismatched + results.unanswered
        and results.requested == results.completed + results.failed + results.unfinished
        and results.open == 0
    )


def drawnRun(
    counts: Sequence[int],
    *,
    rate: float | None = 100.0,
    lastNs: int = S,
    responseNs: int = 5 * MS,
    target: str = "tcp:192.0.2.7:7",
) -> Results:
    """
    Return a run with intervals of a second.

    @param counts: messages that were verified in each interval.
    @param rate: the scheduled rate; C{None}: a closed loop.
    @param lastNs: the length of the last interval, in nanoseconds.
    @param responseNs: the response time of every message but the last, which takes 150 ms.
    """
    results = Results(
        target=target,
        workload=FACTS,
        requested=2,
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        intervalNs=S,
        firstAt=1,
        rateAsked=rate,
        service=Latency() if rate is not None else None,
    )
    for _ in range(2):
        results.connectionEstablished(2 * MS)
    for number, count in enumerate(counts, 1):
        for _ in range(count):
            results.response.record(responseNs)
            results.serviceTime.record(responseNs)
            results.sendLag.record(600)
        results.sent += count
        results.due += count
        results.verified += count
        results.lastAt = results.lastSentAt = results.elapsedNs = (
            number * S if number < len(counts) else (number - 1) * S + lastNs
        )
        if number == len(counts):
            results.response.record(150 * MS)
        results.closeInterval(results.elapsedNs)
    results.scheduledNs = len(counts) * S
    results.completed = 2
    return results


def failedRun(counts: Sequence[int]) -> Results:
    """Return a run like L{drawnRun}, of which a connection failed in the last interval."""
    results = drawnRun(counts)
    results.completed = 1
    results.connectionFailed(ConnectionFailure(1, "192.0.2.7:7", FailureKind.RESET, "reset"))
    results.elapsedNs += S // 2
    results.closeInterval(results.elapsedNs)
    return results


def searchedRun() -> Results:
    """Return the best step of a search, which tried three rates."""
    results = drawnRun([100, 100])
    fields = results.response.asJSON()
    results.search = SearchOutcome(
        goals=("p99<20ms", "max<1s"),
        found=200.0,
        ending=Ending.FOUND,
        steps=tuple(
            SearchStep(
                asked=asked,
                achieved=asked,
                kept=asked < 300,
                interrupted=False,
                endedEarly=False,
                broken=() if asked < 300 else ("p99<20ms",),
                failures={},
                response=fields,
                sendLag=fields,
            )
            for asked in (100.0, 400.0, 200.0)
        ),
    )
    return results
