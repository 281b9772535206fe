"""
Connections that have failed are opened again.
"""

import json
import signal
from collections.abc import Callable
from typing import Any, cast

import pytest
from programs import CLIENT, TWISTD, client, multiecho, running
from schema import FACTS, validate
from twisted.internet.task import Clock

from echofactory.cli.client import main
from echofactory.client.backoff import Backoff
from echofactory.client.opener import Opener
from echofactory.client.reconnect import Reconnects
from echofactory.report.text import report
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.json import fromJSON
from echofactory.results.merge import merged
from echofactory.workload.settings import Workload

S = 1_000_000_000
LOAD = ("--size", "64", "--rate", "20", "--duration", "2s", "--reconnect", "--json", "-")


def written(lines: list[str]) -> Any:
    return validate(json.loads("\n".join(lines)))


def test_idle_connections_that_the_server_closes() -> None:
    """No message is lost, so the run is ok; the failures and the missing time are told."""
    with multiecho("--trace", "none", "--idle-timeout", "100ms", "127.0.0.1", "0") as (_, port):
        load = ["2", "--size", "64", "--rate", "1", "--duration", "3s"]
        done = client("127.0.0.1", str(port), *load, "--reconnect", "--json", "-", "--quiet")
    results = written(done.out)
    connections = results["connections"]
    assert results["workload"]["reconnect"]
    assert connections["reconnects"] > 0
    assert connections["requested"] == 2 + connections["reconnects"]
    ((kind, failures),) = results["failures"].items()
    assert connections["failed"] == failures
    assert 0 < connections["missing"] < 1
    lost = results["messages"]["unsent"] + results["messages"]["unanswered"]
    assert results["verdict"] == ("failed" if lost else "ok")
    assert done.process.returncode == (1 if lost else 0)
    assert any(f"{kind}: " in line for line in done.err)
    assert f"; {connections['reconnects']:,} reconnect" in report(fromJSON(results))


def test_a_server_that_is_started_again() -> None:
    """The run has its connections again, and says that messages were lost."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (server, port):
        load = ["3", "--size", "64", "--rate", "50", "--duration", "1h", "--reconnect"]
        shown = ["--json", "-", "--progress", "always", "--interval", "100ms"]
        with running([*CLIENT, "127.0.0.1", str(port), *load, *shown]) as program:
            program.waitFor(r" 3 open ", program.err)
            server.process.kill()
            server.finish()
            program.waitFor(r" 0 open .* [1-9]\d* failed", program.err)
            with running(
                [*TWISTD, "multiecho", "--trace", "none", "127.0.0.1", str(port)]
            ) as again:
                again.waitFor("listening on")
                program.waitFor(r" 3 open .* [1-9]\d* failed", program.err)
                assert program.end(signal.SIGINT) == 130
    results = written(program.out)
    assert results["connections"]["reconnects"] >= 3
    assert results["connections"]["missing"] > 0
    assert results["messages"]["unsent"] > 0


def test_messages_that_are_lost() -> None:
    """The run has failed, although its connections came back."""
    with multiecho("--trace", "none", "--fault", "truncate=100", "127.0.0.1", "0") as (_, port):
        done = client("127.0.0.1", str(port), "1", *LOAD)
    results = written(done.out)
    assert done.process.returncode == 1
    assert results["verdict"] == "failed"
    assert results["connections"]["reconnects"] > 0
    assert results["messages"]["unanswered"] > 0


def test_the_end_of_a_closed_loop() -> None:
    """It lasts its duration, whatever fails."""
    with multiecho("--trace", "none", "--fault", "truncate=1k", "127.0.0.1", "0") as (_, port):
        load = ["3", "--size", "64", "--duration", "1s", "--reconnect", "--json", "-"]
        done = client("127.0.0.1", str(port), *load)
    results = written(done.out)
    assert done.process.returncode == 1
    assert results["elapsed_s"] >= 1.0
    assert results["connections"]["reconnects"] >= 3
    assert results["connections"]["established"] == results["connections"]["requested"]


def test_nobody_listens() -> None:
    """If no connection can be opened at the beginning, the run ends."""
    done = client("127.0.0.1", "1", *LOAD)
    results = written(done.out)
    assert done.process.returncode == 1
    assert results["failures"] == {"refused": 2}
    assert results["connections"]["reconnects"] == 0


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ([], "--reconnect: give --duration or --rate too"),
        (["--count", "5"], "--reconnect: give --duration or --rate too"),
        (["--churn", "--duration", "1s"], "--reconnect: not with --churn, which opens a new"),
    ],
)
def test_what_makes_no_sense_with_it(
    refusal: Callable[..., str], other: list[str], said: str
) -> None:
    """One line that names the option."""
    line = refusal(main, "127.0.0.1", "7", "--size", "1", "--reconnect", *other)
    assert line.startswith(f"echofactory.client: {said}")


class Pauses:
    """Connections that are opened again, by a clock of the test."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.opened: list[int] = []
        self.failures: list[int] = []
        self.backoff = Backoff(
            self.reactor,
            lambda: round(self.reactor.seconds() * S),
            self.opened.append,
            self._pause,
        )

    def _pause(self, failures: int) -> float:
        self.failures.append(failures)
        return 2.0**failures

    def fail(self, key: int) -> None:
        self.backoff.failed(key)
        self.backoff.again(key)


def test_pauses_grow_with_each_failure() -> None:
    """Each connection has its own."""
    pauses = Pauses()
    for expected in (2, 4, 8):
        pauses.fail(1)
        pauses.reactor.advance(expected - 0.01)
        assert (len(pauses.backoff), 1 in pauses.opened) == (1, False)
        pauses.reactor.advance(0.02)
        assert (len(pauses.backoff), pauses.opened) == (0, [1])
        pauses.opened.clear()
    pauses.fail(2)
    assert pauses.failures == [1, 2, 3, 1]
    pauses.backoff.again(2)
    assert len(pauses.failures) == 4
    pauses.backoff.stop()
    pauses.reactor.advance(60)
    assert pauses.opened == []


@pytest.mark.parametrize(("lasted", "failures"), [(9.0, 2), (11.0, 1)])
def test_pauses_are_short_again_after_a_connection_that_lasted(
    lasted: float, failures: int
) -> None:
    """Not after one that was closed soon."""
    pauses = Pauses()
    pauses.fail(1)
    pauses.backoff.up(1)
    pauses.reactor.advance(lasted)
    pauses.fail(1)
    assert pauses.failures == [1, failures]


def results(**books: Any) -> Results:
    facts = Workload(size=64, duration=1.0, reconnect=True).facts()
    return Results(target="x", workload=facts, requested=2, **books)


class Places:
    """A run with two places, by a clock of the test."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.results = results()
        self.number = 2

        def clock() -> int:
            return round(self.reactor.seconds() * S)

        def ask() -> None:
            self.number += 1
            self.reconnects.numbered(self.number)

        opener = Opener(self.reactor, None, clock, ask)
        self.reconnects = Reconnects(self.reactor, clock, self.results, 2, 2, opener)

    def lose(self, number: int) -> None:
        self.reconnects.failed(number)
        self.reconnects.over(number)


def test_the_missing_time() -> None:
    """It is the share of the time, and of the places, without a connection."""
    places = Places()
    reconnects = places.reconnects
    assert [reconnects.up(number) for number in (1, 2)] == [True, True]
    reconnects.begin(0)
    places.reactor.advance(1)
    places.lose(2)
    assert reconnects.waiting
    places.reactor.advance(1)
    # It was asked for again after 0.3 s at most.
    places.reactor.advance(0)
    assert places.number == 3
    assert (places.results.requested, places.results.reconnects) == (3, 1)
    assert not reconnects.up(3)
    places.reactor.advance(2)
    reconnects.tell()
    assert places.results.missing == pytest.approx(1 / 8)
    places.lose(3)
    reconnects.stop()
    assert not reconnects.waiting
    places.reactor.advance(60)
    assert (places.number, places.results.missing) == (3, pytest.approx(1 / 8))


def test_first_connections_that_are_asked_for_late() -> None:
    """They keep their own places, even if another connection waits to be opened again."""
    places = Places()
    places.number = 1
    assert places.reconnects.up(1)
    places.lose(1)
    places.reactor.advance(1)
    assert places.number == 2
    assert (places.results.requested, places.results.reconnects or 0) == (2, 0)
    assert places.reconnects.up(2)


def test_churn_numbers_its_connections_without_it() -> None:
    """A number beyond the places is no connection that is opened again."""
    places = Places()
    places.reconnects.numbered(3)
    assert (places.results.requested, places.results.reconnects or 0) == (2, 0)


def failed(of: Results, kind: FailureKind) -> Results:
    of.connectionFailed(ConnectionFailure(1, "x", kind, "x"))
    return of


@pytest.mark.parametrize(
    ("books", "kind", "verdict"),
    [
        ({}, FailureKind.RESET, "ok"),
        ({"unanswered": 1}, FailureKind.RESET, "failed"),
        ({"mismatched": 1}, FailureKind.MISMATCH, "failed"),
        ({}, FailureKind.EXTRA_BYTES, "failed"),
        ({"due": 11, "sent": 10}, FailureKind.RESET, "failed"),
        ({"completed": 0}, FailureKind.RESET, "ok"),
        ({"completed": 0, "sent": 0, "verified": 0}, FailureKind.REFUSED, "failed"),
    ],
)
def test_the_verdict(books: dict[str, int], kind: FailureKind, verdict: str) -> None:
    """What has cost no message is no failure of the run."""
    counts = {"completed": 1, "sent": 10, "verified": 10, **books}
    run = failed(results(**counts), kind)
    run.requested = run.completed + run.failed
    assert run.verdict == verdict
    once = Results(target="x", workload=FACTS, requested=2, completed=1)
    assert failed(once, kind).verdict == "failed"


def test_merged_runs() -> None:
    """Reconnects add up, and missing time has the weight of the connections."""
    runs = [results(reconnects=1, missing=0.5, elapsedNs=S), results(elapsedNs=S)]
    runs[0].requested = 2
    runs[1].requested = 3
    whole = merged(runs)
    assert (whole.reconnects, whole.missing) == (1, 0.125)
    assert cast(Any, whole).workload.reconnect
