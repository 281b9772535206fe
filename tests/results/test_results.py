"""
The books, and how they are written.
"""

import json
import re
from pathlib import Path

import pytest
from schema import FACTS, validate

from echofactory.report.text import failureLines, report
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.latency import Latency
from echofactory.results.merge import merged
from echofactory.results.ownerror import ownErrorNs
from echofactory.results.warnings import addWarnings
from echofactory.values.quantities import (
    counted,
    durationText,
    percentText,
    rateText,
    sizeRateText,
    sizeText,
)

pytestmark = pytest.mark.oldest

S = 1_000_000_000


def someResults() -> Results:
    results = Results(target="tcp:127.0.0.1:7", workload=FACTS, requested=3)
    for connectNs in (2_000_000, 1_000_000):
        results.connectionEstablished(connectNs)
    results.completed = 1
    results.open = 0
    results.sent, results.verified, results.mismatched, results.unanswered = 6, 3, 1, 2
    for ns in (250_000, 750_000, 500_000):
        results.response.record(ns)
    results.connectionFailed(
        ConnectionFailure(2, "x", FailureKind.MISMATCH, "message 2, offset 5")
    )
    results.connectionFailed(ConnectionFailure(3, "x", FailureKind.REFUSED, "refused"))
    results.kernel.add(retransmits=3, lost=1, reordering=2, rttUs=50)
    results.kernel.add(retransmits=0, lost=0, reordering=None, rttUs=70)
    results.firstAt, results.lastAt = 1, 1_500_000_001
    results.elapsedNs = 1_500_000_000
    return results


def test_json_follows_the_schema() -> None:
    """Every field is there, and the books balance."""
    written = validate(toJSON(someResults(), "1.2.3"))
    assert written["failures"] == {"mismatch": 1, "refused": 1}
    assert written["connections"]["peak_open"] == 2
    assert written["rate"]["achieved"] == 2.0
    assert written["response_ns"]["mean"] == pytest.approx(500_000, rel=0.001)
    assert written["connect_ns"]["max"] == pytest.approx(2_000_000, rel=0.001)
    assert written["tcp"] == {
        "connections": 2,
        "retransmits": 3,
        "lost": 1,
        "reordering": 2,
        "rtt_us": {"min": 50, "mean": 60, "max": 70},
    }
    assert written["verdict"] == "failed"


def test_empty_run_is_valid_json() -> None:
    """A run in which nothing happened has no division by zero in it."""
    results = Results(target="x", workload=FACTS, requested=1, interrupted=True)
    written = validate(toJSON(results, "1"))
    assert written["response_ns"]["min"] is None
    assert written["verdict"] == "interrupted"
    assert report(results).endswith("interrupted: 1 connection not done\n")


def test_report() -> None:
    """Every number has its unit, the kinds of failure their counts and first examples."""
    assert (
        report(someResults())
        == """\
target         tcp:127.0.0.1:7
connections    3 requested, 2 established, 1 completed, 2 failed; 2 open at once
messages       6 sent, 3 verified, 1 mismatched, 2 unanswered
bytes          0 B sent, 0 B received
elapsed        1.50 s
rate           2 messages/s, 0 B/s achieved, as fast as replies came
tcp            3 segments retransmitted (lost, or acknowledged late), 1 lost at
               the end, reordered 2 times; round trip 50 µs to 70 µs, mean 60 µs
client         receive lag not known
failures       1 mismatch; first connection 2 to x: message 2, offset 5
               1 refused; first connection 3 to x: refused
advice         segments were retransmitted: look for loss or a delay on the
               path, for example with ss -ti and nstat

latency          connect  response
min              1.00 ms    250 µs
p50              1.00 ms    500 µs
p90              2.00 ms    750 µs
p95              2.00 ms    750 µs
p99              2.00 ms    750 µs
p99.9            2.00 ms    750 µs
p99.99           2.00 ms    750 µs
max              2.00 ms    750 µs
mean             1.50 ms    500 µs

verdict        failed: 2 of 3 connections
"""
    )


def test_report_of_a_scheduled_run() -> None:
    """What was asked for stands beside what was achieved, and the client's own error."""
    results = someResults()
    results.rateAsked = 4.0
    results.due, results.scheduledNs = 6, 1_500_000_000
    results.service = Latency()
    results.service.record(1_000_000)
    results.sendLag.record(2_000)
    text = report(results)
    assert "4 messages/s asked (50.0%)\n" in text
    assert re.search(r"\nlatency .* service  send lag\n", text)


def test_report_of_the_clients_own_error() -> None:
    """
    At most 0.5 % of the messages exceed p99.5 of each part, so at most 1 % exceed the sum.
    """
    results = someResults()
    results.receiveLag = Latency()
    assert ownErrorNs(results) is None
    assert "\nclient         no reply sampled\n" in report(results)
    for ns in range(1, 1001):
        results.sendLag.record(ns * 1_000_000)
        results.receiveLag.record(ns * 10_000)
    # Without a rate, there is no send lag.
    assert ownErrorNs(results) == pytest.approx(9_900_000, rel=0.001)
    results.rateAsked, results.spin, results.receiveLagDropped = 4.0, True, 2
    results.due, results.scheduledNs, results.service = 6, 1_500_000_000, Latency()
    assert ownErrorNs(results) == pytest.approx(995_000_000 + 9_950_000, rel=0.001)
    text = report(results)
    assert (
        "client a core is kept awake (--spin); at most 1.01 s of the response time are its own,"
        " for 99 % of the messages (1,000 samples, 2 dropped because the clock was set)"
    ) in " ".join(text.split())
    assert re.search(r"\nlatency .* receive", text)
    written = validate(toJSON(results, "1"))
    assert written["client"] == {
        "spin": True, "own_ns": ownErrorNs(results), "receive_lag_dropped": 2,
    }  # fmt: skip
    again = fromJSON(written)
    assert validate(toJSON(again, "1"))["client"] == written["client"]
    assert again.receiveLag is not None
    assert again.receiveLag.counts() == results.receiveLag.counts()


def test_receive_lags_of_runs_together() -> None:
    """They add up exactly. A run that has none takes nothing away."""
    one, other, none = someResults(), someResults(), someResults()
    one.receiveLag, other.receiveLag = Latency(), Latency()
    one.receiveLag.record(1_000)
    other.receiveLag.record(2_000_000)
    one.receiveLagDropped, other.receiveLagDropped, other.spin = 1, 2, True
    whole = merged([one, none, other])
    assert whole.receiveLag is not None
    assert whole.receiveLag.count == 2
    assert whole.receiveLagDropped == 3
    assert whole.spin
    assert merged([none, none]).receiveLag is None


def test_failure_lines_give_the_first_example() -> None:
    """One line for each kind, for stderr."""
    assert failureLines(someResults()) == [
        "mismatch: 1 of 3 connections; first connection 2 to x: message 2, offset 5",
        "refused: 1 of 3 connections; first connection 3 to x: refused",
    ]


def test_sizes_and_durations() -> None:
    """The unit that suits the number."""
    assert [sizeText(n) for n in (1, 1023, 1536, 5 << 20, 3 << 50)] == [
        "1 B", "1,023 B", "1.5 KiB", "5.0 MiB", "3,072.0 TiB",
    ]  # fmt: skip
    assert [durationText(n) for n in (1500, 999_000, 1_500_000, 2_000_000_000)] == [
        "1.5 µs", "999 µs", "1.50 ms", "2.00 s",
    ]  # fmt: skip


def test_intervals() -> None:
    """Each has what came since the one before, and they add up to the whole."""
    results = Results(target="x", workload=FACTS, requested=1)
    results.response.record(1_000_000)
    results.verified, results.bytesReceived, results.open = 1, 100, 1
    results.sent = 3
    results.closeInterval(500_000_000)
    results.response.record(3_000_000)
    results.response.record(3_000_000)
    results.verified, results.bytesReceived = 3, 300
    results.connectionFailed(ConnectionFailure(1, "x", FailureKind.RESET, "reset"))
    results.closeInterval(1_500_000_000)
    results.closeInterval(2_500_000_000)
    results.firstAt, results.lastAt = 1, 1_500_000_001
    written = validate(toJSON(results, "1"))
    first, second, third = written["intervals"]
    assert (first["t_s"], first["messages"], first["bytes"], first["open"]) == (0.5, 1, 100, 1)
    assert (second["messages"], second["bytes"], second["failures"]) == (2, 200, 1)
    assert second["p50_ns"] == pytest.approx(3_000_000, rel=0.001)
    assert (third["messages"], third["p99_ns"]) == (0, None)
    assert (written["rate"]["min"], written["rate"]["max"]) == (2.0, 2.0)
    assert written["response_ns"]["count"] == 3


def scheduled(rate: float, due: int, verified: int, sent: int | None = None) -> Results:
    """The books of an open loop that began half a second after the run."""
    results = Results(target="x", workload=FACTS, requested=1, completed=1, rateAsked=rate)
    results.beganAt, results.firstAt = S, S + S // 2
    results.due, results.scheduledNs = due, round(due / rate * S)
    results.sent = verified if sent is None else sent
    results.verified = verified
    results.unanswered = results.sent - verified
    results.lastSentAt = results.firstAt + round((due - 1) / rate * S)
    results.lastAt = results.lastSentAt + S // 1000
    return results


@pytest.mark.parametrize(
    ("rate", "due"), [(0.1, 1), (0.5, 3), (1, 2), (10, 10), (75, 75), (1000, 3000)]
)
def test_all_that_was_due_is_the_rate_that_was_asked_for(rate: float, due: int) -> None:
    """However few there are, and however soon the last one is back."""
    results = scheduled(rate, due, due)
    written = validate(toJSON(results, "1"))
    assert written["rate"]["achieved"] == pytest.approx(rate)
    assert written["rate"]["over_s"] == pytest.approx(due / rate)
    assert report(results).count("asked (100.0%)\n") == 1
    # What was written says the same when it is read.
    assert fromJSON(written).achieved == pytest.approx(rate)


def test_a_late_reply_is_no_lower_rate() -> None:
    """It is latency."""
    results = scheduled(10, 10, 10)
    results.lastAt += 5 * S
    assert results.achieved == pytest.approx(10)


def test_a_late_message_is_a_lower_rate() -> None:
    """To when it was sent."""
    results = scheduled(10, 10, 10)
    results.lastSentAt = results.firstAt + 2 * S
    assert results.achieved == pytest.approx(5)


def test_an_outage_to_the_end_shows() -> None:
    """Of 8 s at 20 a second, the server was there for 3."""
    results = scheduled(20, 160, 60, sent=62)
    written = validate(toJSON(results, "1"))
    assert written["rate"]["achieved"] == pytest.approx(7.5)
    assert written["messages"]["due"] == 160
    assert written["messages"]["unsent"] == 98
    assert "7.5 messages/s, 0 B/s achieved; 20 messages/s asked (37.5%)\n" in report(
        results, width=500
    )


def test_one_message_in_twelve_seconds() -> None:
    """A closed loop's rate has decimals, too."""
    results = Results(target="x", workload=FACTS, requested=1, completed=1)
    results.sent = results.verified = 1
    results.bytesReceived = 6
    results.firstAt, results.lastAt = S, 13 * S
    assert "rate           0.0833 messages/s, 0.5 B/s achieved" in report(results, width=500)


def rates(results: Results, *pieces: tuple[float, int]) -> tuple[float, float]:
    """
    Return the least and the greatest rate of intervals.

    @param pieces: how long each is, in seconds, and how many messages it has.
    """
    results.verified = 0
    at = 0
    for seconds, count in pieces:
        at += round(seconds * S)
        results.verified += count
        results.closeInterval(at)
    written = validate(toJSON(results, "1"))
    return written["rate"]["min"], written["rate"]["max"]


def test_the_slowest_interval_may_be_empty() -> None:
    """A stall's are counted, with what came back after it; the one that is cut off is not."""
    results = scheduled(100, 600, 600)
    results.intervalNs = S
    whole = [(1.0, count) for count in (100, 100, 7, 0, 0, 393)]
    assert rates(results, (0.5, 0), *whole, (0.1, 0)) == (0.0, 393.0)


def test_intervals_of_a_schedule_that_began_within_one() -> None:
    """Only the schedule's share of it counts, if that is most of it."""
    results = scheduled(100, 200, 200)
    results.intervalNs = S
    results.firstAt = results.beganAt + S // 100
    assert rates(results, (1.01, 100), (1.0, 100), (0.02, 0)) == (100.0, 100.0)


def test_intervals_that_a_dead_run_did_not_live_to_see() -> None:
    """They are of the schedule, and nothing came back in them."""
    results = scheduled(20, 160, 60)
    results.intervalNs = S
    assert rates(results, (0.5, 0), (1.0, 20), (1.0, 20), (1.0, 20), (0.1, 0)) == (0.0, 20.0)


@pytest.mark.parametrize(
    ("lagNs", "paced", "said"),
    [
        (1000, 1.0, None),
        (240_000, 1.0, None),
        (300_000, 1.0, "at p50, its send lag is 60."),
        (1000, 0.96, None),
        (1000, 0.28, "it handled 28.0% of the messages in time"),
    ],
)
def test_a_client_that_is_too_late_says_so(lagNs: int, paced: float, said: str | None) -> None:
    """Its figures are not the peer's: in the report, and in the JSON."""
    results = scheduled(20, 20, 20)
    for _ in range(20):
        results.response.record(500_000)
        results.sendLag.record(lagNs)
    results.paced = paced
    addWarnings(results)
    written = validate(toJSON(results, "1"))
    if said is None:
        assert written["warnings"] == []
    else:
        (sentence,) = written["warnings"]
        assert said in sentence
        assert f"\nwarning        {sentence}\n" in report(results, width=500)
    assert results.verdict == "ok"


@pytest.mark.parametrize(
    ("readings", "late", "said"),
    [
        (19, 19, None),
        (20, 9, None),
        (20, 12, "at p50,"),
        (99, 48, None),
        (100, 9, None),
        (100, 12, "at p90,"),
        (999, 98, None),
        (1000, 9, None),
        (1000, 12, "at p99,"),
    ],
)
def test_few_readings_blame_no_client(readings: int, late: int, said: str | None) -> None:
    """In a short run, p99 is one reading: the percentile needs 10 readings above it."""
    results = scheduled(readings, readings, readings)
    for number in range(readings):
        results.response.record(500_000)
        results.sendLag.record(400_000 if number < late else 1000)
    addWarnings(results)
    assert [
        sentence for sentence in results.warnings if said is None or said not in sentence
    ] == []
    assert bool(results.warnings) is (said is not None)


def test_an_outage_blames_no_client() -> None:
    """The send lag of messages that did not come back has no response time beside it."""
    results = scheduled(100, 100, 90)
    for number in range(100):
        results.sendLag.record(400_000)
        if number < 90:
            results.response.record(500_000)
    addWarnings(results)
    assert not any("bottleneck" in sentence for sentence in results.warnings)


def test_what_was_not_sent_is_told() -> None:
    """How many, of how many, and why; it is no failure."""
    results = scheduled(10, 30, 6)
    addWarnings(results)
    assert results.warnings == [
        "24 of 30 messages (80.0%) were due but not sent: their connections waited for replies"
    ]
    assert "messages       30 due, 24 unsent, 6 sent, 6 verified," in report(results, width=500)
    assert results.verdict == "ok"


def test_small_rates_and_shares_have_decimals() -> None:
    """Three significant digits below 10."""
    assert [rateText(n) for n in (0, 0.08333, 0.5, 9.994, 9.996, 12.3, 1234.5)] == [
        "0 messages/s", "0.0833 messages/s", "0.5 messages/s", "9.99 messages/s",
        "10 messages/s", "12 messages/s", "1,234 messages/s",
    ]  # fmt: skip
    assert [percentText(n) for n in (0, 0.000417, 0.075, 0.375, 1, 11.1)] == [
        "0.0%", "0.0417%", "7.5%", "37.5%", "100.0%", "1,110.0%",
    ]  # fmt: skip
    assert [sizeRateText(n) for n in (0, 0.5, 32, 2048)] == [
        "0 B/s", "0.5 B/s", "32 B/s", "2.0 KiB/s",
    ]  # fmt: skip
    assert [counted(n, "rate") for n in (0, 1, 1000)] == ["0 rates", "1 rate", "1,000 rates"]


@pytest.mark.parametrize("name", ["open", "closed"])
def test_results_of_the_second_version(name: str) -> None:
    """They are read, and written again without a loss."""
    path = Path(__file__).parent / "data" / f"results-2-{name}.json"
    before = json.loads(path.read_text())
    written = validate(toJSON(fromJSON(before), before["version"]))
    assert written["receive_lag_ns"] is None
    assert written["histograms"]["receive_lag"] is None
    assert before.pop("schema") == "echofactory.results/2"
    for key, value in before.items():
        if isinstance(value, dict):
            # Later versions have more fields.
            assert {name: written[key][name] for name in value} == value
        else:
            assert written[key] == value


@pytest.mark.parametrize(
    ("name", "asked", "achieved", "due"),
    [("open", 10.0, 10.0, 10), ("closed", None, 524.3, None)],
)
def test_results_of_the_first_version(
    name: str, asked: float | None, achieved: float, due: int | None
) -> None:
    """They are read, with the rate by today's rule."""
    path = Path(__file__).parent / "data" / f"results-1-{name}.json"
    results = fromJSON(json.loads(path.read_text()))
    written = validate(toJSON(results, "1"))
    assert written["schema"] == "echofactory.results/3"
    assert written["rate"]["asked"] == asked
    assert written["rate"]["achieved"] == pytest.approx(achieved, rel=0.01)
    assert (written["messages"]["due"], written["messages"]["unsent"]) == (due, 0)
