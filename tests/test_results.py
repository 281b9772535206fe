"""
The books, and how they are written.
"""

import pytest
from schema import validate

from echofactory.report.text import durationText, failureLines, report, sizeText
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
    written = validate(someResults().asJSON("1.2.3"))
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
    results = Results(target="x", workload={}, requested=1, interrupted=True)
    written = validate(results.asJSON("1"))
    assert written["response_ns"]["min"] is None
    assert written["verdict"] == "interrupted"
    assert report(results).endswith("interrupted: 1 connections were not done\n")


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
tcp            3 segments sent again: lost on the way, or acknowledged late; 1 lost at the \
end, 2 times out of order; round trip 50 us to 70 us, mean 60 us
failures       1 mismatch; first connection 2 to x: message 2, offset 5
               1 refused; first connection 3 to x: refused
                    min       p50       p90       p95       p99     p99.9    p99.99\
       max      mean
connect time    1.00 ms   1.00 ms   2.00 ms   2.00 ms   2.00 ms   2.00 ms   2.00 ms\
   2.00 ms   1.50 ms
response time    250 us    500 us    750 us    750 us    750 us    750 us    750 us\
    750 us    500 us
verdict        failed: 2 of 3 connections
"""
    )


def test_report_of_a_scheduled_run() -> None:
    """What was asked for stands beside what was achieved, and the client's own error."""
    results = someResults()
    results.rateAsked = 4.0
    results.service.record(1_000_000)
    results.sendLag.record(2_000)
    text = report(results)
    assert "4 messages/s asked (50.0%)\n" in text
    assert "\nservice time " in text
    assert "\nsend lag " in text


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
        "1.5 us", "999 us", "1.50 ms", "2.00 s",
    ]  # fmt: skip


def test_intervals() -> None:
    """Each has what came since the one before, and they add up to the whole."""
    results = Results(target="x", workload={}, requested=1)
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
    written = validate(results.asJSON("1"))
    first, second, third = written["intervals"]
    assert (first["t_s"], first["messages"], first["bytes"], first["open"]) == (0.5, 1, 100, 1)
    assert (second["messages"], second["bytes"], second["failures"]) == (2, 200, 1)
    assert second["p50_ns"] == pytest.approx(3_000_000, rel=0.001)
    assert (third["messages"], third["p99_ns"]) == (0, None)
    assert (written["rate"]["min"], written["rate"]["max"]) == (2.0, 2.0)
    assert written["response_ns"]["count"] == 3
