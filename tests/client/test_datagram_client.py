"""
The client over UDP: workloads, faults, loss and the open loop.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
from datagrams import answering, begun, measured
from faulty_datagrams import ALTER, FLIPPED, HOLD, LOSE, REPEAT, fate
from peers import FakeTimeReactor, eventually, readFakeClock
from programs import SUPPORT, running
from pytest_twisted import ensureDeferred
from runs import balanced
from twisted.internet.defer import ensureDeferred as ensure
from twisted.logger import capturedLogs, formatEvent

from echofactory import (
    EchoClientFactory,
    Patience,
    Results,
    Trace,
    Workload,
)
from echofactory.results.path import Datagrams
from echofactory.workload.datagrams import (
    MAX_DATAGRAM_SIZE,
)
from echofactory.workload.schedule import Rate

pytestmark = pytest.mark.reactors


@contextmanager
def faulty(seed: int, last: int) -> Iterator[str]:
    """Run faulty_datagrams.py; return its endpoint."""
    script = [sys.executable, str(SUPPORT / "faulty_datagrams.py"), str(seed), str(last)]
    with running(script) as peer:
        port = peer.waitFor(r"listening on (\d+)")[1]
        yield f"udp:127.0.0.1:{port}"


def test_both_command_lines(served: str) -> None:
    """Everything verified, nothing lost; the report has a row for datagrams."""
    done, results = measured("--connect", served, "-n", "20", "--size", "1k", "--count", "100")
    assert done.process.returncode == 0, done.err
    assert results["messages"] == {
        "due": None, "unsent": 0,
        "sent": 2000, "verified": 2000, "mismatched": 0, "unanswered": 0,
    }  # fmt: skip
    assert results["bytes"] == {"sent": 2_048_000, "received": 2_048_000}
    assert results["datagrams"] == {"lost": 0, "repeated": 0, "reordered": 0}
    assert results["tcp"] is None
    assert results["connect_ns"]["count"] == 0
    assert results["response_ns"]["count"] == 2000
    assert "datagrams      0 lost, 0 repeated, 0 reordered" in done.err
    assert done.err[-1] == "verdict        ok: every byte came back"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--message", "same", "--message", "same", "--count", "40", "--window", "5"],
        ["--size", "3", "--count", "200", "--window", "10"],
        ["--size", str(MAX_DATAGRAM_SIZE), "--count", "20", "--window", "2"],
        ["--churn", "--size", "64", "--count", "10"],
        ["--bind", "127.0.0.2", "--bind", "127.0.0.3", "--connect-rate", "100"],
    ],
)
def test_every_kind_of_workload(served: str, arguments: list[str]) -> None:
    """The tutorial's list, messages alike, short ones, the longest, one per socket."""
    done, results = measured("--connect", served, "--reply-timeout", "60s", *arguments)
    assert done.process.returncode == 0, done.err
    assert results["messages"]["sent"] == results["messages"]["verified"] > 0


def test_the_open_loop(served: str) -> None:
    """Every message of the schedule is sent, and every latency is reported."""
    done, results = measured(
        "--connect", served, "-n", "5", "--size", "64", "--rate", "1k", "--duration", "500ms"
    )
    assert done.process.returncode == 0, done.err
    assert results["messages"]["verified"] == 500
    assert results["elapsed_s"] >= 0.49
    for name in ("response_ns", "service_ns", "send_lag_ns"):
        assert results[name]["count"] == 500
    assert 0 < results["service_ns"]["p50"] <= results["response_ns"]["p50"]


@ensureDeferred
async def test_a_faulty_path(reactor: Any) -> None:
    """
    What is lost, repeated, reordered and altered is counted to the message, and every
    connection has its worst fault named.
    """
    seed, messages, connections = 1, 120, 4
    fates = {
        connection: Counter(
            fate(seed, messages, connection, number) for number in range(1, messages + 1)
        )
        for connection in range(1, connections + 1)
    }
    total: Counter[int] = sum(fates.values(), Counter())
    assert min(total[each] for each in (LOSE, REPEAT, HOLD, ALTER)) > 10
    fake: Any = FakeTimeReactor(reactor)
    workload = Workload(size=64, count=messages, window=messages)
    factory = EchoClientFactory(
        fake, workload, connections, Patience(reply=0.5), Trace.CONNECTIONS, fake.ns
    )
    results = factory.results
    with faulty(seed, messages) as target, capturedLogs() as events:
        running = ensure(factory.run(target))
        # No window holds a message back: all that comes, comes before time passes.
        await eventually(
            reactor,
            lambda: (
                results.verified + results.mismatched == results.sent - total[LOSE]
                and factory.results.datagrams is not None
                and factory.results.datagrams.repeated == total[REPEAT]
            ),
        )
        fake.advance(0.6)
        await running
    assert results.datagrams == Datagrams(
        lost=total[LOSE], repeated=total[REPEAT], reordered=total[HOLD]
    )
    assert results.sent == connections * messages
    assert results.mismatched == total[ALTER]
    assert results.unanswered == total[LOSE]
    assert results.failures == {"mismatch": connections}
    assert balanced(results)
    told = [formatEvent(event) or "" for event in events]
    for connection, counts in fates.items():
        numbers = range(1, messages + 1)
        altered = next(n for n in numbers if fate(seed, messages, connection, n) == ALTER)
        lost = next(n for n in numbers if fate(seed, messages, connection, n) == LOSE)
        (line,) = [line for line in told if line.startswith(f"connection {connection} to ")]
        assert f"failed: mismatch: message {altered}, offset {FLIPPED}: expected b" in line
        assert f"; {counts[REPEAT]} messages answered again, first " in line
        assert (
            f"; {counts[LOSE]} of {messages} messages lost, the first message {lost}:"
            " no reply within 0.5 s" in line
        )


@pytest.mark.parametrize(
    ("answers", "failures", "detail", "datagrams"),
    [
        ([[1], [2], [3], [4]], {}, "", Datagrams()),
        ([[], [2, 1], [], [4, 3]], {}, "", Datagrams(reordered=2)),
        (
            [[1], [2, 2], [3], [4]], {"extra-bytes": 1},
            "1 message answered again, first 2", Datagrams(repeated=1),
        ),
        (
            [[1], [], [], [4]], {"reply-timeout": 1},
            "2 of 4 messages lost, the first message 2: no reply within 0.3 s",
            Datagrams(lost=2),
        ),
        (
            [[], [2, 2], [3], [4]], {"extra-bytes": 1},
            "1 message answered again, first 2; 1 of 4 messages lost, the first message 1:"
            " no reply within 0.3 s", Datagrams(lost=1, repeated=1),
        ),
    ],
)  # fmt: skip
@ensureDeferred
async def test_each_fault(
    reactor: Any,
    answers: Sequence[Sequence[int]],
    failures: dict[str, int],
    detail: str,
    datagrams: Datagrams,
) -> None:
    """Its kind, its words and its count; what is only out of order is no failure."""
    fake: Any = FakeTimeReactor(reactor)
    with answering(*answers) as (target, dealtWith):
        factory, running = begun(fake, target, Workload(size=64, count=4, window=4))
        await eventually(
            reactor,
            lambda: (
                len(dealtWith) == 4
                and factory.results.bytesReceived == 64 * sum(map(len, answers))
            ),
        )
        fake.advance(0.4)
        results = await running
    assert results.failures == failures
    assert [each.detail for each in results.examples.values()] == [detail] * len(failures)
    assert results.datagrams == datagrams
    assert results.unanswered == datagrams.lost
    assert balanced(results)


@ensureDeferred
async def test_a_lost_datagram_makes_room(reactor: Any) -> None:
    """With a window of one, the next message goes out when the last one is lost."""
    fake: Any = FakeTimeReactor(reactor)
    with answering([], [2], [], [4]) as (target, dealtWith):
        factory, running = begun(fake, target, Workload(size=64, count=4, window=1))
        await eventually(reactor, lambda: len(dealtWith) == 1)
        assert factory.results.sent == 1
        fake.advance(0.4)
        await eventually(reactor, lambda: len(dealtWith) == 3)
        assert (factory.results.sent, factory.results.verified) == (3, 1)
        fake.advance(0.4)
        results = await running
    assert (results.verified, results.unanswered) == (2, 2)
    assert results.failures == {"reply-timeout": 1}


@ensureDeferred
async def test_loss_and_the_open_loop(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedule goes on, and each latency is that of its own message."""
    fake: Any = FakeTimeReactor(reactor)
    readFakeClock(monkeypatch, fake)
    with answering([], [2], [], [4], [5]) as (target, dealtWith):
        factory, running = begun(fake, target, Workload(size=64, count=5, rate=Rate(4, 4)))
        results = factory.results
        for number, verified in enumerate((0, 1, 1, 2, 3), 1):
            # 10 ms after it is due, in steps as short as the patience is looked after.
            while fake.seconds() < (number - 1) / 4 + 0.01:
                fake.advance(0.01)
            await eventually(reactor, partial(reached, results, dealtWith, number, verified))
        fake.advance(0.4)
        await running
    assert (results.verified, results.unanswered) == (3, 2)
    assert results.response.count == results.serviceTime.count == 3
    # Not from when a lost one was due, 250 ms before.
    for latency in (results.response, results.serviceTime):
        (most,) = latency.percentiles(100.0)
        assert most is not None
        assert most < 50e6
    assert results.datagrams == Datagrams(lost=2)
    assert balanced(results)


def reached(results: Results, dealtWith: Sequence[bytes], came: int, verified: int) -> bool:
    return (len(dealtWith), results.verified) == (came, verified)
