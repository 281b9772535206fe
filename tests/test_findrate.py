"""
The search for the highest rate that keeps a promise.
"""

import json
import re
import signal
import socket
import sys
from pathlib import Path
from typing import Any, cast
from unittest.mock import ANY

import pytest
from programs import CLIENT, client, multiecho, running, untraced
from schema import validate
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from echofactory.client.factory import EchoClientFactory
from echofactory.client.search import Search
from echofactory.client.target import IProbeReactor
from echofactory.findrate import PRECISION, Ending, Goal, RateSearch, Step
from echofactory.parsers import parseGoals
from echofactory.results import ConnectionFailure, FailureKind, Results
from echofactory.schedule import Rate
from echofactory.workload import Workload

MS = 1_000_000
GOALS = (Goal("p99", 5 * MS, "p99<5ms"),)


def came(rate: float, responseNs: int, lagNs: int = 1000, failed: bool = False) -> Step:
    """A step of one message."""
    results = Results(target="x", workload={}, requested=1, rateAsked=rate)
    results.due = results.sent = results.verified = 1
    results.scheduledNs = int(1e9 / rate)
    results.response.record(responseNs)
    results.sendLag.record(lagNs)
    if failed:
        results.connectionFailed(ConnectionFailure(1, "x", FailureKind.RESET, "reset"))
    else:
        results.completed = 1
    return Step.of(rate, results, GOALS)


@pytest.mark.parametrize("limit", [501, 1000, 1234, 77_000])
def test_it_closes_in(limit: float) -> None:
    """Doubling, then halving the distance to a twentieth, wherever the limit is."""
    search = RateSearch(500)
    while (rate := search.next()) is not None:
        search.note(came(rate, MS if rate <= limit else 9 * MS))
    assert search.ending is Ending.FOUND
    assert search.best is not None
    assert search.best.asked <= limit < search.best.asked * PRECISION
    assert len(search.steps) < 16


def test_the_first_is_broken() -> None:
    """There is nothing to find."""
    search = RateSearch(500)
    search.note(came(500, 9 * MS))
    assert (search.next(), search.ending, search.best) == (None, Ending.FIRST, None)


def test_the_client_is_the_limit() -> None:
    """A late client's broken goal says nothing of the server."""
    search = RateSearch(500)
    search.note(came(500, MS))
    while (rate := search.next()) is not None:
        search.note(came(rate, MS) if rate < 900 else came(rate, 9 * MS, lagNs=5 * MS))
    assert search.ending is Ending.CLIENT
    assert search.best is not None
    # It went on inside the last factor of two.
    assert search.best.asked < 900 < search.best.asked * PRECISION


def test_the_client_is_the_limit_at_once() -> None:
    """There is nothing to find."""
    search = RateSearch(500)
    search.note(came(500, 9 * MS, lagNs=5 * MS))
    assert (search.next(), search.ending, search.best) == (None, Ending.CLIENT, None)


@pytest.mark.parametrize("capacity", [600.0, 900.0])
def test_replies_that_do_not_keep_up(capacity: float) -> None:
    """
    A server that carries less than was asked for falls behind, however long its
    queue has made every message's response time by the end of settling.
    """
    asked, seconds, least = 1000.0, 1.3, 2 * MS
    results = Results(target="x", workload={}, requested=1, completed=1, rateAsked=asked)
    results.firstAt = results.lastSentAt = 1
    results.due, results.scheduledNs = int(asked * seconds), int(seconds * 1e9)
    for number in range(int(asked * seconds)):
        due, done = number / asked, number / capacity
        if due >= 1.0 > (number - 1) / asked:
            results.forgetLatencies()
        results.response.record(int((done - due) * 1e9) + least)
        results.sent = results.verified = number + 1
        results.lastAt = int(done * 1e9) + least
    assert not Step.of(asked, results, (Goal("p99", 10_000 * MS, "p99<10s"),)).kept


def test_a_failure_breaks_every_promise() -> None:
    """However fast the others were."""
    search = RateSearch(500)
    search.note(came(500, MS))
    search.note(came(1000, MS, failed=True))
    assert search.next() == 750


def test_goals() -> None:
    """Several, each with its unit."""
    assert parseGoals("p50<300us, p99.9 < 5ms,max<1.5s") == (
        Goal("p50", 300_000, "p50<300us"),
        Goal("p99.9", 5 * MS, "p99.9 < 5ms"),
        Goal("max", 1500 * MS, "max<1.5s"),
    )


@pytest.mark.parametrize(
    "text", ["", "p99", "p98<5ms", "p99>5ms", "p99<5", "p99<0ms", "p99<5ms,"]
)
def test_goals_that_are_none(text: str) -> None:
    """One line that names the option, the value and what is accepted."""
    done = client("127.0.0.1", "7", "--find-rate", text)
    assert done.process.returncode == 2
    (line,) = done.err
    assert line.startswith(f"echofactory.client: --find-rate: {text!r} is not such as p99<5ms")


def test_a_search_where_nobody_listens() -> None:
    """It is no broken promise that is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    results, told = found(str(port), "3", "--find-rate", "p50<10ms", status=1)
    assert results["failures"] == {"refused": 3}
    assert re.match(r" +500 messages/s asked, +0 achieved, p50 -, 3 failed: broken", told[0])
    assert told[1] == "at 500 messages/s, the first rate tried, 3 connections failed"


@pytest.mark.parametrize("other", [["--rate", "5"], ["--count", "5"], ["--hdr", "x"]])
def test_what_makes_no_sense_with_it(other: list[str]) -> None:
    """The search decides it."""
    done = client("127.0.0.1", "7", "--find-rate", "p99<5ms", *other)
    assert done.process.returncode == 2
    (line,) = done.err
    assert line.startswith(f"echofactory.client: --find-rate and {other[0]}: ")


def found(*arguments: str, status: int = 0) -> tuple[Any, list[str]]:
    """Run a search; return its JSON and the lines of its steps."""
    what = [*arguments, "--duration", "500ms", "--json", "-"]
    done = client("127.0.0.1", *what, env=untraced())
    assert done.process.returncode == status, done.err
    return validate(json.loads("\n".join(done.out))), done.err


def test_the_capacity_of_a_server() -> None:
    """
    Ten connections with one message outstanding, each served in 5 ms, carry 2,000
    messages/s and no more: the rate found is below that, and above half of it.
    """
    late = [sys.executable, str(Path(__file__).parent / "late_server.py"), "5"]
    with running(late) as server:
        port = server.waitFor(r"listening on (\d+)")[1]
        load = ["10", "--size", "64", "--window", "1"]
        results, told = found(port, *load, "--find-rate", "p90<40ms,max<1s")
    search = results["find_rate"]
    assert search["goals"] == ["p90<40ms", "max<1s"]
    # Who shares the machine may stall the client, which then says that it is late,
    # and does so at whatever rate.
    assert (search["ended_by"], search["found"] >= 1000) in (("found", True), ("client", ANY))
    assert 500 <= search["found"] <= 2100
    assert [step["asked"] for step in search["steps"][:2]] == [500, 1000]
    assert results["rate"]["asked"] == search["found"]
    assert re.match(r" +500 messages/s asked, +\d+ achieved, p90 [\d.]+ ms, max ", told[0])
    assert f"{search['found']:,.0f} messages/s keep p90<40ms, max<1s" in "\n".join(told)


def test_the_first_step_is_broken() -> None:
    """It says so, and exits 1."""
    late = [sys.executable, str(Path(__file__).parent / "late_server.py"), "20"]
    with running(late) as server:
        port = server.waitFor(r"listening on (\d+)")[1]
        results, told = found(port, "50", "--size", "64", "--find-rate", "p50<10ms", status=1)
    assert results["find_rate"]["ended_by"] == "first"
    assert results["verdict"] == "failed"
    assert "not even 500 messages/s, the first rate tried, keep p50<10ms" in told


def test_the_client_itself_is_the_limit() -> None:
    """
    A server that takes whatever has come, however much, and answers it 5 ms later
    carries more than the client can send: it says so.
    """
    late = [sys.executable, str(Path(__file__).parent / "late_server.py"), "5"]
    with running(late) as server:
        port = server.waitFor(r"listening on (\d+)")[1]
        results, told = found(port, "10", "--size", "64", "--find-rate", "p90<40ms")
    assert results["find_rate"]["ended_by"] == "client"
    assert results["find_rate"]["found"] >= 1000
    assert " messages/s the client is the limit: its send lag is " in "\n".join(told)


def test_a_search_that_is_interrupted_before_it_begins() -> None:
    """It has one step, in which nothing happened."""

    def make(rate: float) -> EchoClientFactory:
        workload = Workload(size=64, rate=Rate(rate, rate), duration=1.0)
        return EchoClientFactory(cast(IProbeReactor, Clock()), workload)

    told: list[str] = []
    search = Search(GOALS, make, told.append)
    search.interrupt()
    endpoint = TCP4ClientEndpoint(MemoryReactor(), "127.0.0.1", 7)
    outcome: list[Results] = []
    Deferred.fromCoroutine(search.run(endpoint)).addCallback(outcome.append)
    (results,) = outcome
    assert results.findRate is not None
    assert results.findRate["ended_by"] == "interrupted"
    assert (results.verdict, results.unfinished) == ("interrupted", 2)
    assert told[-1] == "interrupted; nothing found"


def test_an_interrupted_search() -> None:
    """The steps until then are reported; exit 130."""
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (_, port),
        running(
            [
                *CLIENT,
                "127.0.0.1",
                str(port),
                "5",
                "--size",
                "64",
                "--find-rate",
                "max<10s",
                "--duration",
                "500ms",
                "--json",
                "-",
            ]
        ) as program,  # fmt: skip
    ):
        program.waitFor("500 messages/s asked", program.err)
        assert program.end(signal.SIGINT) == 130
    results = validate(json.loads("\n".join(program.out)))
    assert program.err[-1].endswith(
        "interrupted: the search was not done; this is the best rate until then"
    )
    assert [step["interrupted"] for step in results["find_rate"]["steps"]] == [False, True]
    assert results["find_rate"]["ended_by"] == "interrupted"
    assert results["find_rate"]["found"] == 500
