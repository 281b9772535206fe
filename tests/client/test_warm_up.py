"""
The warm-up: its messages are sent and verified, and do not count in latencies and rates.
"""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any, cast

import pytest
from datagrams import echoingOverUDP
from programs import client, multiecho
from schema import FACTS, validate
from twisted.internet.task import Clock

from echofactory.cli.client import main
from echofactory.client.factory import EchoClientFactory
from echofactory.report.text import report
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.merge import merged
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

ADDRESS = ("127.0.0.1", "0")
S = 1_000_000_000


def run(port: int, *arguments: str, status: int = 0) -> tuple[Any, list[str]]:
    """Run the client; return its JSON, and its report."""
    done = client("127.0.0.1", str(port), *arguments, "--json", "-")
    assert done.process.returncode == status, done.err
    return validate(json.loads("\n".join(done.out))), done.err


def test_an_open_loop() -> None:
    """The schedule after the warm-up is that of a run without one."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        load = ["--size", "64", "--rate", "100", "--duration", "1s", "--warm-up", "500ms"]
        results, said = run(port, *load)
    assert results["workload"]["warm_up_s"] == 0.5
    assert results["workload"]["duration_s"] == 1.0
    assert results["messages"]["due"] == results["messages"]["verified"] == 150
    assert results["warm_up"] == {"due": 50, "verified": 50, "received_bytes": 50 * 64}
    for name in ("response_ns", "service_ns", "send_lag_ns"):
        assert results[name]["count"] == 100
    rate = results["rate"]
    assert rate["asked"] == 100
    assert rate["over_s"] >= 0.999999
    assert rate["achieved"] == pytest.approx(100 / rate["over_s"])
    assert rate["from_s"] >= 0.5
    assert results["elapsed_s"] >= 1.5
    assert "warm-up        500 ms; rate and latencies are without its 50 messages" in said


def test_datagrams() -> None:
    """They follow the same rule."""
    with echoingOverUDP() as (_, port):
        load = ["--size", "64", "--rate", "100", "--duration", "300ms", "--warm-up", "200ms"]
        done = client("--connect", f"udp:127.0.0.1:{port}", *load, "--json", "-", "--quiet")
    results = validate(json.loads("\n".join(done.out)))
    assert done.process.returncode == 0
    assert results["warm_up"]["verified"] == results["warm_up"]["due"] == 20
    assert results["response_ns"]["count"] == results["service_ns"]["count"] == 30


def test_a_rising_rate_rises_after_the_warm_up() -> None:
    """In the warm-up, the rate is the first one."""
    schedule = Workload(size=1, rate=Rate(10, 110), duration=1.0, warmUp=2.0).schedule(1)
    assert schedule is not None
    assert schedule.total == 20 + 60
    assert schedule.dueNs(19) == 1_900_000_000
    assert schedule.dueNs(20) == 2 * S


def test_a_closed_loop() -> None:
    """What came back in the warm-up does not count, and its intervals have no percentiles."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        load = ["--size", "64", "--duration", "400ms", "--warm-up", "400ms"]
        results, _ = run(port, *load, "--interval", "100ms")
    messages, warmUp, rate = results["messages"], results["warm_up"], results["rate"]
    assert warmUp["due"] is None
    assert 0 < warmUp["verified"] < messages["verified"]
    assert results["response_ns"]["count"] == messages["verified"] - warmUp["verified"]
    assert rate["from_s"] >= 0.4
    assert rate["achieved"] * rate["over_s"] == pytest.approx(results["response_ns"]["count"])
    before = [each for each in results["intervals"] if each["t_s"] <= rate["from_s"]]
    assert before
    assert all(each["p50_ns"] is None for each in before)
    assert any(each["messages"] for each in before)
    assert any(each["p50_ns"] for each in results["intervals"])


def test_a_mismatch_in_the_warm_up() -> None:
    """It fails the run as any other."""
    with multiecho("--trace", "none", "--fault", "corrupt=1", *ADDRESS) as (_, port):
        load = ["--size", "64", "--rate", "100", "--duration", "1s", "--warm-up", "1s"]
        results, _ = run(port, *load, status=1)
    assert results["failures"] == {"mismatch": 2}
    assert results["messages"]["mismatched"] == 2
    assert results["response_ns"]["count"] == 0


def test_it_needs_a_duration(refusal: Callable[..., str]) -> None:
    """A count has no time."""
    line = refusal(main, "127.0.0.1", "7", "--size", "1", "--count", "5", "--warm-up", "1s")
    assert line.startswith(
        "echofactory.client: --warm-up: give --duration too, or stages in --rate"
    )


def begun(workload: Workload, now: Callable[[], int]) -> EchoClientFactory:
    """Return the factory of a run whose sending has begun, by a clock of the test."""
    factory = EchoClientFactory(cast(Any, Clock()), workload, 1, clock=now)
    factory.sender.begin(now())
    return factory


def test_messages_that_come_back_after_the_warm_up() -> None:
    """With a rate, the due time decides; the achieved rate cannot be over 100 %."""
    now = 10 * S
    workload = Workload(size=64, rate=Rate(10, 10), duration=2.0, warmUp=1.0)
    factory = begun(workload, lambda: now)
    results = factory.results
    assert (results.firstAt, results.countsFrom) == (11 * S, 11 * S)
    now = 12 * S
    so = factory.soFar()
    assert (so.due, so.uncountedDue, so.scheduledNs, so.rateAsked) == (20, 10, S, 10)
    results.verified = results.sent = 20
    for _ in range(10):
        results.leaveOut(5_000_000)
    assert factory.soFar().achieved == 10
    factory.sender.stop()


def test_a_report_within_the_warm_up() -> None:
    """It has no latencies and no rate yet."""
    now = 10 * S
    factory = begun(Workload(size=64, duration=2.0, warmUp=1.0), lambda: now)
    results = factory.results
    results.firstAt = now
    results.response.record(1_000_000)
    results.verified = results.sent = 1
    results.bytesReceived = 64
    now += S // 2
    results.lastAt = now
    text = report(factory.soFar())
    assert "no message came back after the warm-up" in text
    assert "response time" not in text
    assert (results.leastNs, results.uncountedBytes) == (999_936, 64)
    factory.sender.stop()
    assert not results.warmingUp
    assert results.firstAt == now


@pytest.mark.parametrize("rate", [None, Rate(10, 20)])
def test_a_run_that_is_interrupted_in_its_warm_up(rate: Rate | None) -> None:
    """Nothing counts, and its books are valid."""
    now = 10 * S
    factory = begun(Workload(size=64, duration=2.0, warmUp=2.0, rate=rate), lambda: now)
    results = factory.results
    results.beganAt = 9 * S
    results.sent = results.verified = 1
    results.lastSentAt = results.lastAt = 10 * S + 1000
    if rate is None:
        results.response.record(1_000_000)
    else:
        results.leaveOut(1_000_000)
    results.sendLag.record(1000)
    now += S
    results.interrupted = True
    results.elapsedNs = 2 * S
    factory.sender.stop()
    factory.sender.tellAll()
    written = validate(toJSON(results, "1"))
    assert written["warm_up"]["verified"] == 1
    assert written["response_ns"]["count"] == 0
    assert written["rate"]["achieved"] == written["rate"]["over_s"] == 0
    if rate is not None:
        assert written["warm_up"]["due"] == written["messages"]["due"] == 10
        assert written["send_lag_ns"]["count"] == 0


def test_a_merged_run() -> None:
    """The warm-ups add up."""
    runs = []
    for _ in range(2):
        workload = Workload(size=64, rate=Rate(10, 20), duration=2.0, warmUp=1.0)
        results = EchoClientFactory(cast(Any, Clock()), workload, 1).results
        results.due, results.uncountedDue = 40, 10
        results.sent = results.verified = 40
        results.uncounted, results.uncountedBytes, results.bytesReceived = 10, 640, 2560
        results.completed = results.requested = 1
        results.scheduledNs, results.rateAsked = 2 * S, 15.0
        results.elapsedNs = int(timedelta(seconds=3).total_seconds() * S)
        results.firstAt = results.lastSentAt = S
        runs.append(fromJSON(validate(toJSON(results, "1"))))
    whole = validate(toJSON(merged(runs), "1"))
    assert whole["warm_up"] == {"due": 20, "verified": 20, "received_bytes": 1280}
    assert whole["rate"]["asked"] == 30
    assert whole["rate"]["achieved"] == 30
    (stage,) = whole["rate"]["schedule"]["stages"]
    assert stage == {"from": 20, "to": 40, "duration_s": 2.0}


@pytest.mark.parametrize("name", ["due", "verified", "received_bytes"])
def test_a_file_whose_warm_up_is_more_than_the_run(name: str) -> None:
    """It is refused by name."""
    workload = Workload(size=64, rate=Rate(10, 20), duration=2.0, warmUp=1.0)
    written: Any = toJSON(EchoClientFactory(cast(Any, Clock()), workload, 1).results, "1")
    written["warm_up"][name] = 1
    with pytest.raises(ValueError, match=rf"\$\.warm_up\.{name}: more than in the whole run"):
        fromJSON(written)
    assert FACTS.warmUpS == 0
