"""
The search for the highest rate that keeps a promise.
"""

import json
import re
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest
from programs import CLIENT, SUPPORT, client, multiecho, running, untraced
from schema import FACTS, validate
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor

from echofactory.cli.client import main
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.parsers import parseGoals
from echofactory.client.factory import EchoClientFactory
from echofactory.client.findrate import PRECISION, RateSearch, judged
from echofactory.client.search import Search
from echofactory.report.text import searchText, stepText
from echofactory.results.books import Results
from echofactory.results.expectations import Expectation
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.search import Ending, SearchOutcome, SearchStep
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

MS = 1_000_000
GOALS = (Expectation("p99<5ms"),)


def came(rate: float, responseNs: int, lagNs: int = 1000, failed: bool = False) -> SearchStep:
    """A step of one message."""
    results = Results(target="x", workload=FACTS, requested=1, rateAsked=rate)
    results.due = results.sent = results.verified = 1
    results.scheduledNs = int(1e9 / rate)
    results.response.record(responseNs)
    results.sendLag.record(lagNs)
    if failed:
        results.connectionFailed(ConnectionFailure(1, "x", FailureKind.RESET, "reset"))
    else:
        results.completed = 1
    return judged(rate, results, GOALS)


@pytest.mark.parametrize("limit", [501, 1000, 1234, 77_000])
def test_it_closes_in(limit: float) -> None:
    """Doubling, then halving the distance to a twentieth, wherever the limit is."""
    search = RateSearch(500, 1)
    while (rate := search.next()) is not None:
        search.note(came(rate, MS if rate <= limit else 9 * MS))
    assert search.ending is Ending.FOUND
    assert search.best is not None
    assert search.best.asked <= limit < search.best.asked * PRECISION
    assert len(search.steps) < 16


@pytest.mark.parametrize("limit", [1, 1.3, 7, 100, 499])
def test_it_goes_down(limit: float) -> None:
    """Halving, and then closing in."""
    search = RateSearch(500, 1)
    while (rate := search.next()) is not None:
        search.note(came(rate, MS if rate <= limit else 9 * MS))
    assert search.ending is Ending.FOUND
    assert search.best is not None
    assert search.best.asked <= limit < search.best.asked * PRECISION
    assert [step.asked for step in search.steps[:2]] == [500, 250]
    assert len(search.steps) < 18


@pytest.mark.parametrize(("first", "lowest"), [(500, 1), (3, 1), (1, 1), (0.2, 0.2)])
def test_every_rate_is_broken(first: float, lowest: float) -> None:
    """There is nothing to find, and the least rate is the last one."""
    search = RateSearch(first, 1)
    while (rate := search.next()) is not None:
        search.note(came(rate, 9 * MS))
    assert (search.ending, search.best) == (Ending.LOWEST, None)
    assert search.steps[-1].asked == lowest


def test_low_rates_have_decimals() -> None:
    """So that two rates that are 5 % apart differ."""
    search = RateSearch(500, 1)
    while (rate := search.next()) is not None:
        search.note(came(rate, MS if rate <= 30 else 9 * MS))
    assert searchText(search.outcome(GOALS)) == (
        "29.3 messages/s keep p99<5ms; 30.3 messages/s do not"
    )
    assert stepText(search.steps[4], {}).startswith("      31.2 messages/s asked")


def test_a_step_says_why_it_is_broken() -> None:
    """A goal, failures, or replies that fell behind: the figures alone do not show it."""
    step = came(500, 9 * MS)
    assert stepText(step, {}).endswith("0 failed: broken: p99<5ms")
    failed = replace(step, broken=(), failures={FailureKind.RESET: 2})
    assert stepText(failed, {}).endswith(": broken: 2 connections failed")
    slow = replace(step, broken=(), achieved=400.0)
    assert stepText(slow, {}).endswith(": broken: fell behind, 80.0% achieved")
    late = replace(step, broken=(), achieved=500.0)
    assert stepText(late, {}).endswith(": broken: fell behind, the last replies came late")


def test_one_message_a_second() -> None:
    """It is singular."""
    search = RateSearch(1, 1)
    while (rate := search.next()) is not None:
        search.note(came(rate, MS if rate <= 1 else 9 * MS))
    told = searchText(search.outcome(GOALS))
    assert told == "1 message/s keeps p99<5ms; 1.03 messages/s do not"


def test_nothing_comes_back() -> None:
    """The rate is not the reason: no other rate is tried."""
    search = RateSearch(500, 1)
    results = Results(target="x", workload=FACTS, requested=1, rateAsked=500.0)
    results.connectionFailed(ConnectionFailure(1, "x", FailureKind.REFUSED, "refused"))
    search.note(judged(500.0, results, GOALS))
    assert (search.next(), search.ending) == (None, Ending.LOWEST)


def test_the_client_is_the_limit() -> None:
    """A late client's broken goal says nothing of the server."""
    search = RateSearch(500, 1)
    search.note(came(500, MS))
    while (rate := search.next()) is not None:
        search.note(came(rate, MS) if rate < 900 else came(rate, 9 * MS, lagNs=5 * MS))
    assert search.ending is Ending.CLIENT
    assert search.best is not None
    # It went on inside the last factor of two.
    assert search.best.asked < 900 < search.best.asked * PRECISION


def test_the_client_is_the_limit_at_every_rate() -> None:
    """There is nothing to find."""
    search = RateSearch(500, 1)
    while (rate := search.next()) is not None:
        search.note(came(rate, 9 * MS, lagNs=5 * MS))
    assert (search.ending, search.best) == (Ending.CLIENT, None)
    assert search.steps[-1].asked == 1


def carried(
    asked: float, capacity: float, seconds: float = 1.3, least: int = 2 * MS
) -> Results:
    """
    Return the results of a run against a server that carries so many messages a second. The
    first second is the warm-up.
    """
    facts = replace(FACTS, warmUpS=1.0)
    results = Results(target="x", workload=facts, requested=1, completed=1, rateAsked=asked)
    results.firstAt = results.lastSentAt = 1_000_000_000
    results.due, results.scheduledNs = int(asked * seconds), int((seconds - 1) * 1e9)
    for number in range(int(asked * seconds)):
        due, done = number / asked, number / capacity
        elapsedNs = int(max(0.0, done - due) * 1e9) + least
        if due < 1.0:
            results.leaveOut(elapsedNs)
        else:
            results.response.record(elapsedNs)
        results.sent = results.verified = number + 1
        results.lastAt = int(max(due, done) * 1e9) + least
    return results


@pytest.mark.parametrize("capacity", [600.0, 900.0])
def test_replies_that_do_not_keep_up(capacity: float) -> None:
    """
    A server that carries less than was asked for falls behind, however long its
    queue has made every message's response time by the end of the warm-up.
    """
    asked = 1000.0
    results = carried(asked, capacity)
    assert not judged(asked, results, (Expectation("p99<10s"),)).kept


def test_a_failure_breaks_every_promise() -> None:
    """However fast the others were."""
    search = RateSearch(500, 1)
    search.note(came(500, MS))
    search.note(came(1000, MS, failed=True))
    assert search.next() == 750


def test_goals() -> None:
    """Several, each with its unit."""
    goals = parseGoals("p50<300us, p99.9 < 5ms,max<1.5s")
    assert [(goal.text, goal.quantity, goal.bound) for goal in goals] == [
        ("p50<300us", "p50", 300_000),
        ("p99.9 < 5ms", "p99.9", 5 * MS),
        ("max<1.5s", "max", 1500 * MS),
    ]


@pytest.mark.parametrize(
    "text",
    ["", "p99", "p98<5ms", "p99>5ms", "p99<5", "p99<0ms", "p99<5ms,", "p99<=5ms", "p99<+5%",
     "service:p99<5ms", "mean<5ms", "failed<1"],
)  # fmt: skip
def test_goals_that_are_none(refusal: Callable[..., str], text: str) -> None:
    """One line that names the option, the value and what is accepted."""
    line = refusal(main, "127.0.0.1", "7", "--find-rate", text)
    assert line.startswith(
        f"echofactory.client: --find-rate: {text!r} is not a goal such as p99<5ms"
    )


def test_a_search_by_what_is_no_goal() -> None:
    """It is refused when it is made."""
    with pytest.raises(ValueError, match=r"^goals: 'rate>5' is not an upper bound of p50, "):
        Search([Expectation("rate>5")], lambda _: pytest.fail("it runs"), lambda _: None)


def test_a_search_where_nobody_listens() -> None:
    """It is no broken promise that is told."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    results, told = found(str(port), "3", "--find-rate", "p50<10ms", status=1)
    assert results["failures"] == {"refused": 3}
    assert re.match(r" +500 messages/s asked, +0 achieved, p50 -, 3 failed: broken", told[0])
    assert told[1] == "3 connections failed at 500 messages/s, the lowest rate tried"


@pytest.mark.parametrize("other", [["--count", "5"], ["--hdr", "x"], ["--reconnect"]])
def test_what_makes_no_sense_with_it(refusal: Callable[..., str], other: list[str]) -> None:
    """The search decides it."""
    line = refusal(main, "127.0.0.1", "7", "--find-rate", "p99<5ms", *other)
    assert line.startswith(f"echofactory.client: --find-rate and {other[0]}: ")


def test_what_a_search_begins_with() -> None:
    """Its defaults, unless they are given. Arrivals need no rate of their own."""
    options = ClientOptions()
    command = ["127.0.0.1", "7", "--find-rate", "p99<5ms", "--arrivals", "poisson:1"]
    options.parseOptions(command)
    workload = options.workload
    assert (workload.rate, workload.duration, workload.warmUp) == (Rate(500, 500), 5.0, 1.0)
    options = ClientOptions()
    options.parseOptions([*command, "--rate", "20", "--duration", "2s", "--warm-up", "0"])
    workload = options.workload
    assert (workload.rate, workload.duration, workload.warmUp) == (Rate(20, 20), 2.0, 0.0)


@pytest.mark.parametrize("rate", ["5..10", "5:1s"])
def test_it_begins_at_one_rate(refusal: Callable[..., str], rate: str) -> None:
    """Not at two, nor in stages."""
    line = refusal(main, "127.0.0.1", "7", "--find-rate", "p99<5ms", "--rate", rate)
    assert line.startswith(
        "echofactory.client: --find-rate and --rate: the search begins at one"
    )


def found(*arguments: str, status: int = 0) -> tuple[Any, list[str]]:
    """Run a search; return its JSON and the lines of its steps."""
    what = [*arguments, "--duration", "500ms", "--json", "-"]
    done = client("127.0.0.1", *what, env=untraced())
    assert done.process.returncode == status, done.err
    return validate(json.loads("\n".join(done.out))), done.err


class Run:
    """The run of one step, whose results are known before it."""

    def __init__(self, results: Results | None) -> None:
        self.reactor = Clock()
        self._results = results
        self._waiting: Deferred[Results] = Deferred()

    async def run(self, endpoint: object) -> Results:
        return self._results if self._results is not None else await self._waiting

    def interrupt(self) -> None:
        results = Results(target="x", workload=FACTS, requested=1, interrupted=True)
        self._waiting.callback(results)


def searched(
    make: Callable[[float], Results | None], interrupted: bool = False
) -> tuple[SearchOutcome, Results, list[SearchStep]]:
    """Search by runs whose results C{make} returns: the outcome, the results, the steps."""
    told: list[SearchStep] = []
    search = Search(GOALS, lambda rate: cast(EchoClientFactory, Run(make(rate))), told.append)
    outcome: list[Results] = []
    Deferred.fromCoroutine(search.run("x")).addCallback(outcome.append)
    if interrupted:
        search.interrupt()
    (results,) = outcome
    assert results.search is not None
    return results.search, results, told


def test_the_capacity_of_a_server() -> None:
    """It is found from below, and its run's results are those of the search."""
    search, results, told = searched(lambda rate: carried(rate, 1900.0))
    assert search.goals == ("p99<5ms",)
    assert search.ending is Ending.FOUND
    assert search.found is not None
    assert 1900 / PRECISION <= search.found <= 1900
    assert [step.asked for step in search.steps[:3]] == [500, 1000, 2000]
    assert results.rateAsked == search.found
    assert re.fullmatch(
        r" +500 messages/s asked, +\d+ achieved, p99 [\d.]+ ms, 0 failed: kept",
        stepText(told[0], {"p99": "p99"}),
    )
    assert f"{search.found:,.0f} messages/s keep p99<5ms" in searchText(search)


def test_the_client_itself_is_the_limit() -> None:
    """It says so, and by how much."""

    def make(rate: float) -> Results:
        results = carried(rate, rate, least=(1 if rate < 4000 else 20) * MS)
        results.sendLag.record(1000 if rate < 4000 else 19 * MS)
        return results

    search, _, _ = searched(make)
    assert search.ending is Ending.CLIENT
    # It went on inside the last factor of two.
    assert search.found is not None
    assert search.found < 4000 < search.found * PRECISION
    assert " messages/s, the client is the limit: its send lag is " in searchText(search)


def test_a_search_that_is_interrupted_in_its_second_step() -> None:
    """The steps until then are reported, and the best rate of them."""
    search, results, _ = searched(
        lambda rate: carried(rate, rate) if rate == 500 else None, interrupted=True
    )
    assert (search.ending, search.found) == (Ending.INTERRUPTED, 500)
    assert [step.interrupted for step in search.steps] == [False, True]
    assert results.verdict == "interrupted"


@pytest.mark.seconds
def test_the_lowest_step_is_broken() -> None:
    """It says so, and exits 1."""
    # On a busy machine, the client is late too, but not by half of the goal.
    late = [sys.executable, str(SUPPORT / "late_server.py"), "2000"]
    with running(late) as server:
        port = server.waitFor(r"listening on (\d+)")[1]
        load = ["50", "--size", "64", "--find-rate", "p50<1s", "--rate", "1"]
        results, told = found(port, *load, "--warm-up", "100ms", status=1)
    assert results["find_rate"]["ended_by"] == "lowest"
    assert results["workload"]["warm_up_s"] == 0.1
    assert results["verdict"] == "failed"
    assert "the lowest rate tried, 1 message/s does not keep p50<1s" in told


def test_a_search_that_is_interrupted_before_it_begins() -> None:
    """It has one step, in which nothing happened."""

    def make(rate: float) -> EchoClientFactory:
        workload = Workload(size=64, rate=Rate(rate, rate), duration=1.0)
        return EchoClientFactory(cast(IReactorTime, Clock()), workload)

    search = Search(GOALS, make, lambda _: None)
    search.interrupt()
    endpoint = TCP4ClientEndpoint(MemoryReactor(), "127.0.0.1", 7)
    outcome: list[Results] = []
    Deferred.fromCoroutine(search.run(endpoint)).addCallback(outcome.append)
    (results,) = outcome
    assert results.search is not None
    assert results.search.ending is Ending.INTERRUPTED
    assert (results.verdict, results.unfinished) == ("interrupted", 2)
    assert searchText(results.search) == "interrupted; no rate found"


def test_an_interrupted_search() -> None:
    """What was done is reported; exit 130."""
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (_, port),
        running([*CLIENT, "127.0.0.1", str(port), "5", "--size", "64", "--find-rate", "max<10s",
                 "--duration", "1h", "--json", "-", "--trace", "connections"]) as program,
    ):  # fmt: skip
        program.waitFor("starting connection 5", program.err)
        assert program.end(signal.SIGINT) == 130
    results = validate(json.loads("\n".join(program.out)))
    assert program.err[-1].startswith("verdict        interrupted")
    assert [step["interrupted"] for step in results["find_rate"]["steps"]] == [True]
    assert results["find_rate"]["ended_by"] == "interrupted"
    assert results["find_rate"]["found"] is None
