"""
The status of a run: what it takes from the results.
"""

from prometheus_client.registry import CollectorRegistry
from pytest_twisted import ensureDeferred

from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.status.run import RunStatus
from echofactory.workload.settings import Workload

FACTS = Workload(size=64).facts()


def aRun(title: str = "") -> Results:
    return Results(target="tcp:a:7", workload=FACTS, requested=2, title=title)


class Time:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def reset(number: int) -> ConnectionFailure:
    return ConnectionFailure(
        kind=FailureKind.RESET, connection=number, peer="a", detail=f"reset {number}"
    )


@ensureDeferred
async def test_the_latest_failure() -> None:
    """The page shows it, and the results keep the first one as their example."""
    results = aRun()
    status = RunStatus(results, 2, 64)
    status.begin()
    for number in (1, 2):
        results.connectionFailed(reset(number))
    facts = await status.facts()
    assert facts["latest"]["reset"]["connection"] == 2
    assert results.examples[FailureKind.RESET].connection == 1
    view = status.view(facts)
    assert "reset 2" in str(view["tables"])
    assert view["condition"] == "down"


@ensureDeferred
async def test_a_run_that_has_completed_its_connections() -> None:
    """A closed connection is not a fault."""
    results = aRun("t")
    status = RunStatus(results, 2, 64)
    status.begin()
    assert status.health == "no connection is up"
    view = status.view(await status.facts())
    assert (view["title"], view["state"]) == ("t: tcp:a:7", "0 of 2 open")
    assert view["condition"] == "well"


@ensureDeferred
async def test_the_next_run_of_a_search() -> None:
    """Its counts begin at 0, and the last minute has those of both runs."""
    clock = Time()
    first, second = aRun(), aRun()
    status = RunStatus(first, 2, 64, clock)
    status.begin()
    for results, verified in ((first, 10), (second, 3)):
        status.show(results)
        results.verified = verified
        clock.now += 1.0
        status.sample()
    facts = await status.facts()
    assert facts["messages"]["verified"] == 3
    assert facts["last_minute"]["messages"] == 13


@ensureDeferred
async def test_a_warm_up_without_a_rate() -> None:
    """Its response times are removed at each interval: no metric shows them, or decreases."""
    clock = Time()
    results = aRun()
    results.warmingUp = True
    status = RunStatus(results, 2, 64, clock)
    registry = CollectorRegistry()
    registry.register(status)
    status.begin()

    def scraped() -> float | None:
        clock.now += 1.0
        status.sample()
        return registry.get_sample_value("echofactory_probe_response_seconds_count")

    counts = []
    for number in range(1, 4):
        results.response.record(1_000_000)
        results.verified += 1
        counts.append(scraped())
        results.closeInterval(number * 1_000_000_000)
        counts.append(scraped())
    results.endWarmUp(3_000_000_000)
    results.response.record(1_000_000)
    counts.append(scraped())
    assert counts == [0, 0, 0, 0, 0, 0, 1]
    facts = await status.facts()
    assert facts["last_minute"]["response_ns"]["count"] == 1


def test_the_metrics() -> None:
    """They name the target, and count the run."""
    results = aRun("t")
    status = RunStatus(results, 2, 64)
    registry = CollectorRegistry()
    registry.register(status)
    results.connectionFailed(reset(1))
    failures = registry.get_sample_value("echofactory_probe_failures_total", {"kind": "reset"})
    assert failures == 1
    (info,) = next(m for m in status.collect() if m.name == "echofactory_run").samples
    assert info.labels["target"] == "tcp:a:7"
    assert info.labels["title"] == "t"
