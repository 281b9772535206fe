"""
The books, and how they are written.
"""

from schema import validate

from echofactory.latency import Latency
from echofactory.report import durationText, failureLines, report, sizeText
from echofactory.results import ConnectionFailure, FailureKind, Results


def someResults() -> Results:
    results = Results(target="tcp:127.0.0.1:7", workload={}, requested=3)
    for connectNs in (2_000_000, 1_000_000):
        results.connectionEstablished(connectNs)
    results.completed = 1
    results.open = 0
    results.sent, results.verified, results.mismatched, results.unanswered = 6, 3, 1, 2
    for ns in (250_000, 750_000, 500_000):
        results.response.record(ns)
    results.connectionFailed(ConnectionFailure(2, FailureKind.MISMATCH, "message 2, offset 5"))
    results.connectionFailed(ConnectionFailure(3, FailureKind.REFUSED, "refused"))
    results.elapsedNs = 1_500_000_000
    return results


def test_json_follows_the_schema() -> None:
    """Every field is there, and the books balance."""
    written = validate(someResults().asJSON("1.2.3"))
    assert written["failures"] == {"mismatch": 1, "refused": 1}
    assert written["connections"]["peak_open"] == 2
    assert written["rate"]["achieved"] == 2.0
    assert written["response_ns"]["mean"] == 500_000
    assert written["connect_ns"]["max"] == 2_000_000
    assert written["verdict"] == "failed"


def test_empty_run_is_valid_json() -> None:
    """A run in which nothing happened has no division by zero in it."""
    results = Results(target="x", workload={}, requested=1, interrupted=True)
    written = validate(results.asJSON("1"))
    assert written["response_ns"]["min"] is None
    assert written["verdict"] == "interrupted"
    assert report(results).endswith("interrupted: 1 connections were not done\n")


def test_latency_keeps_least_mean_and_greatest() -> None:
    """Nanoseconds in, nanoseconds out."""
    latency = Latency()
    for ns in (5, 1, 9):
        latency.record(ns)
    written = latency.asJSON()
    assert (written["count"], written["min"], written["mean"], written["max"]) == (3, 1, 5, 9)


def test_report() -> None:
    """Every number has its unit, the kinds of failure their counts."""
    assert (
        report(someResults())
        == """\
target         tcp:127.0.0.1:7
connections    3 requested, 2 established, 1 completed, 2 failed; 2 open at once
messages       6 sent, 3 verified, 1 mismatched, 2 unanswered
bytes          0 B sent, 0 B received
elapsed        1.50 s: 2 messages/s verified, 0 B/s received
connect time   min 1.00 ms, mean 1.50 ms, max 2.00 ms
response time  min 250 us, mean 500 us, max 750 us
failures       1 mismatch
               1 refused
verdict        failed: 2 of 3 connections
"""
    )


def test_failure_lines_give_the_first_example() -> None:
    """One line for each kind, for stderr."""
    assert failureLines(someResults()) == [
        "mismatch: 1 of 3 connections; first connection 2: message 2, offset 5",
        "refused: 1 of 3 connections; first connection 3: refused",
    ]


def test_sizes_and_durations() -> None:
    """The unit that suits the number."""
    assert [sizeText(n) for n in (1, 1023, 1536, 5 << 20, 3 << 50)] == [
        "1 B", "1,023 B", "1.5 KiB", "5.0 MiB", "3,072.0 TiB",
    ]  # fmt: skip
    assert [durationText(n) for n in (1500, 999_000, 1_500_000, 2_000_000_000)] == [
        "2 us", "999 us", "1.50 ms", "2.00 s",
    ]  # fmt: skip
