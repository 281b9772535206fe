"""
The open loop: how many messages a schedule has, when it ends, and what was not sent.
"""

import json
from typing import Any, cast

import pytest
from programs import CLIENT, client, multiecho, running
from schema import validate
from twisted.internet.task import Clock

from echofactory.cli.clientoptions import ClientOptions
from echofactory.client.factory import EchoClientFactory
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

pytestmark = pytest.mark.oldest

ADDRESS = ("127.0.0.1", "0")


def run(port: int, *arguments: str, status: int = 0) -> tuple[Any, list[str]]:
    """Run the client; return its JSON, and what it said on stderr but for the report."""
    done = client("127.0.0.1", str(port), *arguments, "--json", "-", "--quiet")
    assert done.process.returncode == status, done.err
    return validate(json.loads("\n".join(done.out))), done.err


@pytest.mark.parametrize(
    ("rate", "duration", "due"),
    [("0.5", "1s", 1), ("1", "1.5s", 2), ("6", "500ms", 3), ("10", "1s", 10), ("75", "1s", 75)],
)
def test_a_run_lasts_its_duration(rate: str, duration: str, due: int) -> None:
    """It has the messages that are due within it, and what they achieve is what was asked."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        results, _ = run(port, "--size", "64", "--rate", rate, "--duration", duration)
    assert results["messages"]["due"] == due
    assert results["elapsed_s"] >= results["workload"]["duration_s"]
    assert results["rate"]["asked"] == float(rate)
    share = results["messages"]["verified"] / due
    # A busy machine may send the last one late, and so take longer than the schedule.
    assert results["rate"]["achieved"] <= share * float(rate) * 1.000001
    assert results["rate"]["over_s"] >= due / float(rate) * 0.999999
    verified = results["rate"]["achieved"] * results["rate"]["over_s"]
    assert verified == pytest.approx(results["messages"]["verified"])


def test_a_count_on_schedule() -> None:
    """It is sent to its last message, and then there is no more to wait for."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        results, _ = run(port, "2", "--size", "64", "--rate", "100", "--count", "5")
    assert results["messages"]["due"] == results["messages"]["verified"] == 10
    assert results["rate"]["over_s"] >= 0.1


def test_a_slow_ramp_is_no_part_of_the_schedule() -> None:
    """It starts once every connection is up, and its intervals with it."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        load = ["5", "--size", "64", "--rate", "50", "--duration", "1s"]
        results, _ = run(port, *load, "--connect-rate", "7", "--interval", "250ms")
    rate = results["rate"]
    assert rate["from_s"] >= 0.5
    assert results["messages"]["due"] == 50
    ends = [interval["t_s"] for interval in results["intervals"]]
    # The rest of a connecting that is less than a twentieth of an interval goes with it.
    assert any(-0.05 <= rate["from_s"] - end <= 0.0125 for end in ends)


def test_an_outage_to_the_end_of_the_run() -> None:
    """The server dies with most of the schedule to come, and the rate is over all of it."""
    with (
        multiecho("--trace", "none", *ADDRESS) as (server, port),
        running(
            [*CLIENT, "127.0.0.1", str(port), "5", "--size", "64", "--rate", "20",
             "--duration", "1m", "--json", "-", "--progress", "always", "--quiet"]
        ) as program,
    ):  # fmt: skip
        program.waitFor(r"^ +1\.\d s", program.err)
        server.process.kill()
        assert program.finish() == 1
    results = validate(json.loads("\n".join(program.out)))
    messages = results["messages"]
    assert messages["due"] == 1200
    assert messages["unsent"] > 0
    assert results["rate"]["over_s"] == pytest.approx(60.0)
    assert results["rate"]["achieved"] == pytest.approx(messages["verified"] / 60)
    assert results["rate"]["min"] == 0
    (line,) = (line for line in program.err if " were due but not sent: " in line)
    assert line.endswith("their connections failed or waited for replies")


def test_the_duration_bounds_what_waits_in_a_window() -> None:
    """What replies hold up is not sent later: it is counted, and said."""
    with multiecho("--trace", "none", "--fault", "delay=1s", *ADDRESS) as (_, port):
        load = ["2", "--size", "64", "--rate", "10", "--window", "1", "--duration", "2s"]
        results, told = run(port, *load)
    messages = results["messages"]
    assert messages["due"] == 20
    # A connection sends its next message a second after the one before it, or later.
    assert messages["sent"] == messages["verified"] <= 6
    assert results["verdict"] == "ok"
    (line,) = (line for line in told if " were due but not sent: " in line)
    assert line == (
        f"echofactory.client: warning: {messages['unsent']} of 20 messages"
        f" ({messages['unsent'] / 20:.1%}) were due but not sent: their connections waited"
        " for replies"
    )


def test_the_duration_bounds_what_the_client_cannot_send() -> None:
    """A rate that nobody can send ends in time, and says that the client is the limit."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        results, told = run(port, "--size", "64", "--rate", "10M", "--duration", "300ms")
    assert results["messages"]["due"] == 3_000_000
    assert results["messages"]["unsent"] > 1_000_000
    assert results["verdict"] == "ok"
    slow, unsent = results["warnings"]
    assert slow.startswith("the client could not keep its schedule: it handled ")
    assert unsent.endswith("were due but not sent: the client did not handle them in time")
    assert [f"echofactory.client: warning: {each}" for each in (slow, unsent)] == told


def test_churn_stops_opening_when_its_duration_is_over() -> None:
    """What waits for a place then is not sent any more."""
    with multiecho("--trace", "none", "--fault", "delay=300ms", *ADDRESS) as (_, port):
        load = ["2", "--size", "64", "--churn", "--rate", "40", "--duration", "1s"]
        results, _ = run(port, *load)
    assert results["messages"]["due"] == 40
    # Two at once, each for 300 ms at least, for 1.1 s at most.
    assert results["messages"]["sent"] == results["connections"]["requested"] <= 8


def test_a_rate_without_an_end_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """It would send one message per connection, and look like a success."""
    with pytest.raises(SystemExit) as refused:
        ClientOptions().parseOptions(["127.0.0.1", "7", "--rate", "500"])
    assert refused.value.code == 2
    assert capsys.readouterr().err == (
        "echofactory.client: --rate: give --duration or --count too (see --help)\n"
    )
    with pytest.raises(ValueError, match="rate: give duration= or count= too"):
        Workload(size=64, rate=Rate(500, 500))


def test_a_search_goes_on_when_a_step_is_lost() -> None:
    """A step ends as soon as its goal is certainly missed, not after its minutes."""
    with multiecho("--trace", "none", "--fault", "delay=200ms", *ADDRESS) as (_, port):
        load = [
            "2",
            "--size",
            "64",
            "--find-rate",
            "p99<50ms",
            "--rate",
            "1",
            "--duration",
            "5m",
        ]
        results, told = run(port, *load, status=1)
    assert told == []
    (step,) = results["find_rate"]["steps"]
    assert step["ended_early"]
    assert not step["interrupted"]


def test_nobody_could_be_asked() -> None:
    """The whole schedule was due, and none of it was sent."""
    results, told = run(1, "3", "--size", "64", "--rate", "100", "--duration", "2s", status=1)
    messages = results["messages"]
    assert (messages["due"], messages["unsent"], messages["sent"]) == (200, 200, 0)
    assert (results["rate"]["over_s"], results["rate"]["achieved"]) == (2.0, 0.0)
    assert any("200 of 200 messages (100.0%) were due but not sent" in line for line in told)


def test_books_of_a_run_that_goes_on() -> None:
    """Its rate is by the same rule as at its end."""
    workload = Workload(size=64, rate=Rate(0.5, 0.5), duration=5.0)
    factory = EchoClientFactory(cast(Any, Clock()), workload, 1, clock=lambda: now)
    now = 3_000_000_000
    factory.results.lastSentAt = 1_000_000_000
    factory.sender.begin(1_000_000_000)
    factory.results.sent = factory.results.verified = 2
    now = 1_000_000_000 + 3_500_000_000
    so = factory.soFar()
    assert (so.due, so.scheduledNs, so.rateAsked) == (2, 4_000_000_000, 0.5)
    assert so.achieved == 0.5
