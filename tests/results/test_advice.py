"""
What the report advises.
"""

import pytest

from echofactory.report.advice import advice
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.partfacts import PartsFacts
from echofactory.results.warnings import addWarnings
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload


def aRun(**settings: object) -> Results:
    return Results(target="x", workload=Workload(**settings).facts(), requested=1, completed=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("window", "advised"), [(1, True), (8, False)])
def test_one_message_at_a_time(window: int, advised: bool) -> None:
    """It is only true of a window of one message."""
    results = aRun(size=64, count=16, window=window)
    results.verified = results.sent = 16
    assert any("one message" in each for each in advice(results)) is advised


def test_replies_that_are_late() -> None:
    """The peer's lateness is not the client's."""
    results = aRun(size=64, duration=1.0, rate=Rate(200, 200), window=1)
    results.rateAsked, results.due, results.sent = 200.0, 200, 10
    for _ in range(21):
        results.response.record(200_000_000)
    for _ in range(10):
        results.sendLag.record(1_000)
    addWarnings(results)
    assert "due but not sent" in results.warnings[0]
    assert not advice(results)
    for _ in range(11):
        results.sendLag.record(150_000_000)
    assert "the client itself was late" in advice(results)[0]


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            None,
            "the client itself was late: use --spin, a longer run or a lower --rate, or merge",
        ),
        (
            PartsFacts(parts=2, hosts=("a",)),
            "or more parts, on idle cores or on another machine",
        ),
    ],
)
def test_a_late_client(parts: PartsFacts | None, said: str) -> None:
    """A run over parts is already a merge: more of them help."""
    results = aRun(size=64, duration=1.0, rate=Rate(200, 200))
    results.rateAsked, results.due, results.sent = 200.0, 200, 200
    for _ in range(20):
        results.response.record(200_000_000)
        results.sendLag.record(199_000_000)
    results.parts = parts
    (sentence,) = advice(results)
    assert said in sentence
    assert ("two clients" in sentence) is (parts is None)


def fruitless(target: str, kind: FailureKind) -> Results:
    """Return a run that was connected, and received nothing."""
    results = Results(target=target, workload=Workload().facts(), requested=1)
    results.connectionEstablished(1_000)
    results.sent = 1
    results.connectionFailed(ConnectionFailure(1, "h", kind, "detail"))
    return results


@pytest.mark.parametrize(
    ("target", "kind", "advised"),
    [
        ("tcp:h:7", FailureKind.CLOSED_EARLY, True),
        ("tcp:h:7", FailureKind.REPLY_TIMEOUT, True),
        ("tcp:h:7", FailureKind.RESET, True),
        ("tcp:h:7", FailureKind.REFUSED, False),
        ("tls:h:7", FailureKind.REPLY_TIMEOUT, False),
        ("unix:/h", FailureKind.REPLY_TIMEOUT, False),
    ],
)
def test_no_byte_came_back(target: str, kind: FailureKind, advised: bool) -> None:
    """A server that expects TLS answers nothing, or closes."""
    results = fruitless(target, kind)
    assert any("expects TLS" in each for each in advice(results)) is advised
    results.bytesReceived = 1
    assert not any("expects TLS" in each for each in advice(results))


def test_no_message_was_due() -> None:
    """By chance, or because the time was too short: a run that proves nothing says so."""
    results = aRun(size=64, duration=1.0, rate=Rate(1, 1))
    results.rateAsked = 1.0
    addWarnings(results)
    assert results.warnings == ["no message was due in this time at this rate"]
