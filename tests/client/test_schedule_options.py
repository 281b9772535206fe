"""
Stages and arrivals of a run, from the command line to the results.
"""

import json
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from programs import client, multiecho
from schema import validate

from echofactory.cli.client import main
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.parsers import parseArrivals, parseRates
from echofactory.report.compare import Run
from echofactory.report.plot import draw
from echofactory.report.text import report
from echofactory.results.books import Results
from echofactory.results.json import fromJSON
from echofactory.results.schedulefacts import ScheduleFacts, StageFacts, mergedSchedules
from echofactory.workload.arrivals import Poisson
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload
from echofactory.workload.stages import Stage, Stages

STAGES = Stages((Stage(Rate(500, 500), 10.0), Stage(Rate(500, 5000), 60.0)))


def run(*arguments: str) -> Any:
    """Run the client against a server of its own; return its JSON."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, port):
        done = client("127.0.0.1", str(port), *arguments, "--json", "-", "--quiet")
    assert done.process.returncode == 0, done.err
    return validate(json.loads("\n".join(done.out)))


def test_stages() -> None:
    """Their sum is the duration."""
    results = run("--size", "64", "--rate", "20:1s,20..100:500ms")
    assert results["messages"]["due"] == results["messages"]["verified"] == 50
    assert results["workload"]["duration_s"] == 1.5
    assert results["workload"]["count"] is None
    assert results["elapsed_s"] >= 1.5
    assert results["rate"]["asked"] == pytest.approx(50 / 1.5)
    assert results["rate"]["schedule"] == {
        "stages": [
            {"from": 20, "to": 20, "duration_s": 1.0},
            {"from": 20, "to": 100, "duration_s": 0.5},
        ],
        "arrivals": "even",
        "seed": None,
    }
    text = report(fromJSON(results))
    assert "schedule       20 messages/s for 1.00 s, 20 to 100 messages/s for 500 ms\n" in text


def test_poisson_arrivals() -> None:
    """The seed is told, and the same seed has the same messages."""
    load = ["--size", "64", "--rate", "100", "--duration", "500ms", "--arrivals", "poisson:7"]
    results = run(*load)
    schedule = Workload(
        size=64, rate=Rate(100, 100), duration=0.5, arrivals=Poisson(7)
    ).schedule(2)
    assert schedule is not None
    assert results["messages"]["due"] == results["messages"]["verified"] == schedule.total
    assert results["rate"]["asked"] == pytest.approx(schedule.rateOf(schedule.total))
    assert results["rate"]["schedule"]["arrivals"] == "poisson"
    assert results["rate"]["schedule"]["seed"] == 7
    text = report(fromJSON(results))
    assert "schedule       100 messages/s for 500 ms; Poisson arrivals with seed 7\n" in text


def test_poisson_arrivals_of_a_count() -> None:
    """So many messages, without a seed on the command line."""
    results = run("--size", "64", "--rate", "1k", "--count", "10", "--arrivals", "poisson")
    assert results["messages"]["due"] == results["messages"]["verified"] == 20
    assert results["rate"]["schedule"]["seed"] is not None
    assert results["rate"]["schedule"]["stages"][0]["duration_s"] is None


def test_a_schedule_without_a_message() -> None:
    """At random gaps, a short run can have none."""
    seed = next(
        seed
        for seed in range(100)
        if not Workload(size=1, rate=Rate(1, 1), duration=0.5, arrivals=Poisson(seed))
        .schedule(1)
        .total  # type: ignore[union-attr]
    )
    load = ["--size", "1", "--rate", "1", "--duration", "500ms"]
    results = run(*load, "--arrivals", f"poisson:{seed}")
    assert results["messages"]["due"] == 0
    assert results["elapsed_s"] >= 0.5


def test_stages_are_read() -> None:
    """Each is a rate or two, and a duration."""
    assert parseRates("500:10s,500..5k:1m") == STAGES
    assert parseRates("500") == Rate(500, 500)
    assert parseRates("1k..20k") == Rate(1000, 20_000)


@pytest.mark.parametrize(
    "text", ["500:10s,500", "500:", ":10s", "500:0s", "0:1s", "1..:1s", "500:1s,", "5:1s:1s"]
)
def test_stages_that_are_none(refusal: Callable[..., str], text: str) -> None:
    """One line says what is accepted."""
    line = refusal(main, "127.0.0.1", "7", "--size", "1", "--rate", text)
    assert line.startswith(f"echofactory.client: --rate: {text!r} is not a rate of more than 0")
    assert "500:10s,500..5k:1m" in line


@pytest.mark.parametrize(
    ("other", "said"),
    [
        (["--duration", "5s"], "--duration: the stages of --rate have their own durations"),
        (["--count", "5"], "--count: the stages of --rate have their own durations"),
        (["--arrivals", "poison"], "--arrivals: 'poison' is not one of even, poisson, "),
        (["--arrivals", "poisson:x"], "--arrivals: 'poisson:x' is not one of even, poisson, "),
    ],
)
def test_what_makes_no_sense(refusal: Callable[..., str], other: list[str], said: str) -> None:
    """One line that names the option."""
    line = refusal(main, "127.0.0.1", "7", "--size", "1", "--rate", "5:1s", *other)
    assert line.startswith(f"echofactory.client: {said}")


def test_arrivals_need_a_rate(refusal: Callable[..., str]) -> None:
    """Without one, replies decide."""
    line = refusal(main, "127.0.0.1", "7", "--duration", "1s", "--arrivals", "poisson")
    assert line.startswith("echofactory.client: --arrivals: give --rate too")


def test_arrivals_are_read() -> None:
    """The default has even gaps; without a seed, there is a random one."""
    assert parseArrivals("even") is None
    assert parseArrivals("poisson:5") == Poisson(5)
    assert isinstance(parseArrivals("poisson"), Poisson)
    options = ClientOptions()
    options.parseOptions(["127.0.0.1", "7", "--rate", "5:1s", "--arrivals", "poisson:3"])
    assert options.workload.arrivals == Poisson(3)


def facts(
    first: float, seconds: float = 1.0, arrivals: str = "even", seed: int | None = None
) -> ScheduleFacts:
    stage = StageFacts(first=first, last=2 * first, seconds=seconds)
    return ScheduleFacts(stages=(stage,), arrivals=arrivals, seed=seed)


def test_merged_schedules() -> None:
    """The rates add up, if the stages fit; otherwise, the schedule is not known."""
    assert mergedSchedules([facts(1), facts(2)]) == facts(3)
    poisson = [facts(1, 1.0, "poisson", seed) for seed in (1, 2)]
    assert mergedSchedules(poisson) == facts(2, 1.0, "poisson")
    assert mergedSchedules(poisson[:1]) == poisson[0]
    assert mergedSchedules([facts(1), facts(1, 2.0)]) is None
    assert mergedSchedules([facts(1), poisson[0]]) is None
    assert mergedSchedules([facts(1), None]) is None
    assert mergedSchedules([None]) is None


def test_the_plot_has_the_asked_rate() -> None:
    """Over time, if the schedule is known; otherwise its mean."""
    workload = Workload(size=1, rate=STAGES, warmUp=2.0)
    results = Results(target="x", workload=workload.facts(), requested=1, rateAsked=10.0)
    results.firstAt, results.scheduledNs = 2_000_000_000, 70_000_000_000
    for second in range(1, 60):
        results.closeInterval(second * 1_000_000_000)
    labels = []
    for schedule in (None, workload.scheduleFacts()):
        results.schedule = schedule
        drawn = BytesIO()
        draw([Run("x", results)], drawn, "svg")
        labels.append(re.findall(r">(asked[^<]*)<", drawn.getvalue().decode()))
    assert labels == [["asked, on average"], ["asked"]]


def test_the_asked_rate_over_time() -> None:
    """A stage after the other."""
    described = Workload(size=1, rate=STAGES).scheduleFacts()
    assert described is not None
    assert described.overTime(2.0, 0.0) == [(2, 500), (12, 500), (12, 500), (72, 5000)]
    counted = Workload(size=1, rate=Rate(1, 3), count=10).scheduleFacts()
    assert counted is not None
    assert counted.overTime(1.0, 5.0) == [(1, 1), (6, 3)]
