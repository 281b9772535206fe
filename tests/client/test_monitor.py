"""
The synthetic monitor: connections that are kept up, and what is told of them.
"""

import json
import re
from collections.abc import Callable
from itertools import count, pairwise
from pathlib import Path
from typing import Any, cast

import pytest
from peers import (
    LOOPBACK,
    FakeTimeReactor,
    eventually,
    misbehaving,
    neverAnswers,
    openDescriptors,
    portOf,
    readFakeClock,
    serving,
)
from programs import LIMIT, TWISTD, multiecho, running, until
from prometheus_client.registry import Collector, CollectorRegistry
from pytest_twisted import ensureDeferred
from statuses import get, metrics
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.interfaces import IHostnameResolver
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from zope.interface import implementer

from echofactory import EchoFactory, EchoService, FailureKind, ProbeService
from echofactory.cli.monitor import MonitorOptions, makeService
from echofactory.client.persistent import PersistentConnections
from echofactory.client.settings import Patience
from echofactory.client.target import Target
from echofactory.net.endpoints import EndpointError
from echofactory.results.books import Results
from echofactory.status import ProbeStatus, View

CLIENT = (*TWISTD, "multiecho-client")


def probeMetrics(port: int) -> dict[str, float]:
    """Return the metrics by their names, without what all of them begin with."""
    return {name.removeprefix("probe_"): value for name, value in metrics(port).items()}


@ensureDeferred
async def test_both_as_children_of_another_service(reactor: Any, folder: Path) -> None:
    """Started and stopped again in one process, without a descriptor left."""
    application: Any = MultiService()
    echo: Any = EchoService(reactor, [f"unix:{folder}/echo.sock"], EchoFactory())
    probing: Any = ProbeService(reactor, f"unix:{folder}/echo.sock", 5, rate=100.0)
    echo.setServiceParent(application)
    probing.setServiceParent(application)
    found = []
    for _ in range(3):
        application.startService()
        results = probing.results
        await eventually(reactor, lambda: probing.results.verified >= 20)
        assert results is probing.results
        assert (results.requested, results.established, results.open) == (5, 5, 5)
        await application.stopService()
        assert results.open == 0
        assert results.failures == {}
        assert results.sent == results.verified + results.unanswered
        assert echo.factory.counts().open == 0
        found.append(openDescriptors())
    # Twisted keeps one for itself from the first port on.
    assert found[0] == found[1] == found[2]


@pytest.mark.seconds
@ensureDeferred
async def test_what_ends_is_opened_again(reactor: Any) -> None:
    """Its failure is counted by kind, and it goes on where it was."""
    async with serving(reactor, LOOPBACK) as service:
        probing = ProbeService(
            reactor, f"tcp:127.0.0.1:{portOf(service.addresses[0])}", 3, rate=50.0
        )
        probing.startService()
        await eventually(reactor, lambda: probing.results.open == 3)
        (victim, *_) = service.factory.connections
        victim.abort()
        await eventually(reactor, lambda: probing.results.failed == 1)
        assert probing.results.open == 2
        await eventually(reactor, lambda: probing.results.open == 3)
        assert probing.results.requested == 4
        assert set(probing.results.failures) <= {"reset", "closed-early"}
        verified = probing.results.verified
        await eventually(reactor, lambda: probing.results.verified > verified + 10)
        await probing.stopService()


@pytest.mark.seconds
@ensureDeferred
async def test_a_target_that_is_not_there_yet(reactor: Any, folder: Path) -> None:
    """It is tried again until it is."""
    probing = ProbeService(reactor, f"unix:{folder}/echo.sock", 2, rate=50.0)
    probing.startService()
    await eventually(reactor, lambda: probing.results.failures[FailureKind.UNREACHABLE] >= 2)
    assert probing.results.open == 0
    async with serving(reactor, f"unix:{folder}/echo.sock"):
        await eventually(reactor, lambda: probing.results.open == 2)
        await eventually(reactor, lambda: probing.results.verified > 0)
        await probing.stopService()


def test_a_probe_service_refuses_a_bad_endpoint(reactor: Any) -> None:
    """At once, not when it is started."""
    with pytest.raises(EndpointError):
        ProbeService(reactor, "tcp:nowhere")


@implementer(IHostnameResolver)
class _Silent:
    """Never answers, and counts what it was asked."""

    def __init__(self) -> None:
        self.receivers: list[Any] = []

    def resolveHostName(self, receiver: Any, name: str, *_: object, **__: object) -> None:  # type: ignore[override]
        receiver.resolutionBegan(None)
        self.receivers.append(receiver)


class _Refusing(Clock):
    """A reactor whose names come from a L{_Silent}, and an endpoint that refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = _Silent()
        self.attempts: list[float] = []

    def connect(self, _: object) -> Deferred[Any]:
        self.attempts.append(self.seconds())
        return fail(ConnectionRefusedError())


def test_one_look_up_at_a_time() -> None:
    """Each occupies a thread for as long as it takes; who waits too long fails as C{dns}."""
    reactor = _Refusing()
    probing = ProbeService(
        cast(Any, reactor), "tcp:echo.example:7", 50, patience=Patience(connect=3.0)
    )
    probing.startService()
    for _ in range(300):
        reactor.advance(0.1)
    assert len(reactor.nameResolver.receivers) == 1
    assert set(probing.results.failures) == {"dns"}
    assert probing.results.failures[FailureKind.DNS] > 100
    assert probing.results.examples[FailureKind.DNS].detail == (
        "DNS lookup failed: no answer within 3 s."
    )
    # It has no address; and the next attempts ask again.
    reactor.nameResolver.receivers[0].resolutionComplete()
    reactor.advance(20.0)
    assert len(reactor.nameResolver.receivers) == 2
    probing.stopService()
    assert reactor.getDelayedCalls() == []


def test_longer_and_longer_between_attempts() -> None:
    """With some chance in it, so that many do not come back at once; a minute at most."""
    reactor = _Refusing()
    keeper = PersistentConnections(cast(Any, reactor), 1, rate=1.0)
    Deferred.fromCoroutine(keeper.run(cast(Any, reactor)))
    while len(reactor.attempts) < 16:
        reactor.advance(0.1)
    pauses = [after - before for before, after in pairwise(reactor.attempts)]
    growing = [min(1.5**n, 60.0) for n in range(1, 16)]
    beyond = [pause - least for pause, least in zip(pauses, growing, strict=True)]
    assert all(-0.001 < each < 1.2 for each in beyond), beyond
    assert max(beyond) - min(beyond) > 0.1
    keeper.interrupt()


@ensureDeferred
async def test_a_pause_is_not_made_up_for(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was due while the monitor was stopped does not go out at once."""
    fake: Any = FakeTimeReactor(reactor)
    readFakeClock(monkeypatch, fake)
    async with serving(reactor, LOOPBACK) as service:
        keeper = PersistentConnections(fake, 1, rate=100.0, clock=fake.ns)
        results = keeper.results
        target = Target(fake, f"tcp:127.0.0.1:{portOf(service.addresses[0])}", 10.0)
        running = Deferred.fromCoroutine(keeper.run(target))
        await eventually(reactor, lambda: results.open == 1)
        fake.advance(0.015)
        await eventually(reactor, lambda: results.verified >= 1)
        sent = results.sent
        with capturedLogs() as events:
            # As a timer finds it that comes four seconds late.
            fake.standStill(4.0)
            await eventually(reactor, lambda: results.sent - sent + keeper.skipped == 400)
            # A hundred are at most a second late.
            assert results.sent - sent == 100
            await eventually(reactor, lambda: results.verified == results.sent)
            fake.advance(1.0)
        told = [formatEvent(event) or "" for event in events]
        said = r"skipped (\d+) messages: this process did not run when they were due"
        counts = [int(match[1]) for line in told if (match := re.fullmatch(said, line))]
        assert sum(counts) == keeper.skipped == 300
        keeper.interrupt()
        await running


@ensureDeferred
async def test_a_probe_service_that_was_never_started(reactor: Any) -> None:
    """A parent may stop it all the same, when one of its other children failed."""
    await ProbeService(reactor, "tcp:127.0.0.1:7").stopService()


@pytest.mark.seconds
def test_the_program() -> None:
    """It tells when all are up, what fails, in a line a second, and ends in order."""
    with (
        multiecho("--trace", "none", "--drain", "0", "127.0.0.1", "0") as (server, port),
        running([*CLIENT, "127.0.0.1", str(port), "3", "--rate", "30"]) as monitor,
    ):
        monitor.waitFor("3 of 3 connections are up")
        server.end()
        monitor.waitFor(
            r"connections? failed \((reset|closed-early|refused)[^)]*\), such as connection"
            r" \d to 127.0.0.1:\d+: "
        )
        monitor.waitFor("0 of 3 connections are up")
        with multiecho("--trace", "none", "127.0.0.1", str(port)):
            up = "3 of 3 connections"
            until(lambda: sum(up in line for line in list(monitor.out)) >= 2)
            assert monitor.end() == -15
    assert not any("Traceback" in line for line in monitor.out)


@pytest.mark.seconds
def test_its_status() -> None:
    """Metrics, health, facts and a page of the same kind as the server's."""
    with (
        multiecho("--trace", "none", "--drain", "0", "127.0.0.1", "0") as (server, echo),
        running(
            [*CLIENT, "127.0.0.1", str(echo), "3", "--rate", "60", "--status", "0"]
        ) as monitor,
    ):
        port = int(monitor.waitFor(r"status page on 127.0.0.1:(\d+)")[1])
        monitor.waitFor("3 of 3 connections are up")
        until(lambda: probeMetrics(port)['messages_total{outcome="verified"}'] > 30)
        found = probeMetrics(port)
        assert found["connections_up"] == found["connections_wanted"] == 3
        assert found['response_seconds_bucket{le="+Inf"}'] == found["response_seconds_count"]
        assert found['response_seconds_bucket{le="10.0"}'] > 30
        assert found["response_seconds_sum"] > 0
        assert found['failures_total{kind="refused"}'] == 0
        assert found["process_resident_memory_bytes"] > 1 << 20
        assert found["start_time_seconds"] >= found["process_start_time_seconds"]
        assert get(port, "/healthz").status == 200
        until(lambda: len(json.loads(get(port, "/status.json").body)["facts"]["history"]["up"]))
        told = json.loads(get(port, "/status.json").body)
        about = {each["name"]: each["value"] for each in told["view"]["about"]}
        assert about["Target"] == f"tcp:127.0.0.1:{echo}"
        assert (about["Messages wanted"], about["Message size"]) == (60.0, 64)
        assert told["facts"]["usage"]["resident_bytes"] > 1 << 20
        assert told["facts"]["target"] == f"tcp:127.0.0.1:{echo}"
        assert told["facts"]["response_ns"]["p50"] > 0
        assert (told["view"]["state"], told["view"]["condition"]) == ("all up", "well")
        server.end()
        until(lambda: get(port, "/healthz").status == 503)
        until(lambda: probeMetrics(port)['failures_total{kind="refused"}'] >= 1)
        told = json.loads(get(port, "/status.json").body)
        assert told["view"]["state"] == "0 of 3 up"
        assert told["view"]["condition"] == "down"
        (failures, _) = told["view"]["tables"]
        assert re.match(r"[-\d]{10} [:\d]{8} UTC, connection \d to ", failures["rows"][0][2])
        assert monitor.end() == -15


@ensureDeferred
async def test_one_latency_is_shown(reactor: Any) -> None:
    """In chart, tiles, table and metrics: from when a message was due, not sent."""
    probing = ProbeService(reactor, "tcp:127.0.0.1:7")
    status = ProbeStatus(probing, "there", clock=count().__next__)
    status.begin()
    probing.results.response.record(40_000_000)
    probing.results.serviceTime.record(1_000_000)
    status.sample()
    facts = await status.facts()
    view = status.view(facts)
    assert facts["response_ns"]["p50"] == pytest.approx(40e6, rel=0.001)
    assert facts["history"]["p50"] == [pytest.approx(40, rel=0.001)]
    charts = [each for each in view["charts"] if each["unit"] == "ms"]
    assert [each["title"] for each in charts] == ["Response time, p50", "Response time, p99"]
    tiles = [each for each in view["tiles"] if each["unit"] == "ms"]
    assert [each["name"] for each in tiles] == [
        "Response p50, last minute",
        "Response p99, last minute",
    ]
    (row,) = (row for row in view["tables"][1]["rows"] if row[0] == "p50")
    drawn = [each["points"][-1][1] for each in charts]
    for value in (*drawn, *(each["value"] for each in tiles), row[1]):
        assert value == pytest.approx(40, rel=0.001)
    registry = CollectorRegistry()
    registry.register(cast(Collector, status))
    total = registry.get_sample_value("echofactory_probe_response_seconds_sum")
    assert total == pytest.approx(0.04, rel=0.001)


class Sampled:
    """A monitor whose results a test writes, and its status, which is sampled."""

    def __init__(self, reactor: Any, connections: int = 1) -> None:
        self._clock = Clock()
        self.probing = ProbeService(reactor, "tcp:127.0.0.1:7", connections)
        self.status = ProbeStatus(self.probing, "there", clock=self._clock.seconds)
        self.status.begin()

    @property
    def results(self) -> Results:
        return self.probing.results

    def answered(self, milliseconds: int, messages: int = 1) -> None:
        self.results.verified += messages
        for _ in range(messages):
            self.results.response.record(milliseconds * 1_000_000)

    def sample(self, seconds: int = 1) -> None:
        for _ in range(seconds):
            self._clock.advance(1)
            self.status.sample()

    async def told(self) -> tuple[dict[str, Any], View]:
        facts: dict[str, Any] = json.loads(json.dumps(await self.status.facts()))
        return facts, self.status.view(facts)

    async def tiles(self) -> dict[str, Any]:
        _, view = await self.told()
        return {
            tile["name"].removesuffix(", last minute"): tile["value"] for tile in view["tiles"]
        }


@ensureDeferred
async def test_a_second_in_which_nothing_came_back(reactor: Any) -> None:
    """It has no percentiles, and does not repeat those of the second before."""
    monitor = Sampled(reactor)
    monitor.answered(10)
    monitor.sample()
    monitor.sample(2)
    monitor.answered(20)
    monitor.sample()
    facts, view = await monitor.told()
    for name in ("p50", "p99"):
        first, *between, last = facts["history"][name]
        assert (first, last) == (pytest.approx(10, rel=1e-3), pytest.approx(20, rel=1e-3))
        assert between == [None, None]
    (p50,) = (chart for chart in view["charts"] if chart["title"] == "Response time, p50")
    assert [value for _, value in p50["points"]][1:3] == [None, None]
    assert facts["history"]["up"] == [0, 0, 0, 0]


@ensureDeferred
async def test_tiles_are_of_the_last_minute(reactor: Any) -> None:
    """What came before is in the tables alone, which say since when."""
    monitor = Sampled(reactor)
    monitor.answered(500, 100)
    monitor.results.failures[FailureKind.REFUSED] = 5
    monitor.sample(59)
    assert (await monitor.tiles())["Messages verified"] == 100
    monitor.answered(10, 8)
    monitor.results.failures[FailureKind.REFUSED] = 6
    monitor.sample(2)
    tiles = await monitor.tiles()
    assert (tiles["Messages verified"], tiles["Failures"]) == (8, 1)
    assert tiles["Response p50"] == tiles["Response p99"] == pytest.approx(10, rel=1e-3)
    monitor.sample(60)
    tiles = await monitor.tiles()
    assert (tiles["Messages verified"], tiles["Failures"]) == (0, 0)
    assert tiles["Response p50"] is tiles["Response p99"] is None
    facts, view = await monitor.told()
    failures, responses = view["tables"]
    assert [tuple(row)[:2] for row in failures["rows"]] == [("refused", 6)]
    assert {row[0]: row[1] for row in responses["rows"]}["p50"] == pytest.approx(500, rel=1e-3)
    assert failures["since"] == responses["since"]
    assert failures["since"] == facts["since"][:19].replace("T", " ") + " UTC"


@ensureDeferred
async def test_the_last_minute_of_a_monitor_that_was_started_again(reactor: Any) -> None:
    """Its results begin at 0, and so does what the status compares them with."""
    monitor = Sampled(reactor)
    monitor.answered(10, 5)
    monitor.sample()
    await monitor.probing.stopService()
    monitor.probing.startService()
    monitor.answered(10, 7)
    monitor.sample()
    assert (await monitor.tiles())["Messages verified"] == 12
    facts, _ = await monitor.told()
    assert facts["last_minute"]["response_ns"]["count"] == 12
    assert facts["history"]["messages"] == [5, 7]
    await monitor.probing.stopService()


@pytest.mark.parametrize(
    ("up", "state", "condition"),
    [(3, "all up", "well"), (1, "1 of 3 up", "impaired"), (0, "0 of 3 up", "down")],
)
@ensureDeferred
async def test_conditions(reactor: Any, up: int, state: str, condition: str) -> None:
    """Some connections are fewer than all, and more than none."""
    monitor = Sampled(reactor, 3)
    monitor.results.open = up
    _, view = await monitor.told()
    assert (view["state"], view["condition"]) == (state, condition)
    assert monitor.status.health == ("ok" if up else "no connection is up")


def test_an_outage_has_no_response_times() -> None:
    """Over real sockets: from the server's end on, until it is back."""
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (server, echo),
        running(
            [*CLIENT, "127.0.0.1", str(echo), "3", "--rate", "60", "--status", "0"]
        ) as monitor,
    ):
        port = int(monitor.waitFor(r"status page on 127.0.0.1:(\d+)")[1])

        def latest() -> tuple[float, float | None, float | None]:
            history = json.loads(get(port, "/status.json").body)["facts"]["history"]
            found = [history[name][-1:] or [0] for name in ("up", "p50", "p99")]
            ((up,), (p50,), (p99,)) = found
            return up, p50, p99

        until(lambda: all(latest()))
        server.process.kill()
        until(lambda: latest() == (0, None, None))
        with multiecho("--trace", "none", "127.0.0.1", str(echo)):
            until(lambda: all(latest()))


def test_wrong_bytes() -> None:
    """A server that alters some is found out, and named."""
    with (
        multiecho("--trace", "none", "--fault", "corrupt=0.01", "127.0.0.1", "0") as (_, port),
        running([*CLIENT, "127.0.0.1", str(port), "--rate", "50"]) as monitor,
    ):
        told = monitor.waitFor(r"1 connection failed \(mismatch: 1\), such as (.*)")[1]
        assert re.match(r"connection 1 to .*: message \d+, offset \d+: expected b'", told)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "nothing to connect to: give HOST PORT or --connect"),
        (["127.0.0.1", "0"], "PORT: '0' is not a port number from 1 to 65535"),
        (
            ["127.0.0.1", "7", "--rate", "5k"],
            "--rate: '5k' is not a rate of more than 0 and up to 1,000",
        ),
        (
            ["127.0.0.1", "7", "--rate", "0"],
            "--rate: '0' is not a rate of more than 0 and up to 1,000",
        ),
        (["--connect", "tcp:nowhere"], "--connect: tcp:nowhere: "),
        (
            ["--connect", "udp:127.0.0.1:7"],
            "--connect: udp:127.0.0.1:7: over UDP there are no connections to keep",
        ),
        (
            ["127.0.0.1", "7", "3", "-n", "4"],
            "--connections: give --connections or CONNECTIONS",
        ),
    ],
)
def test_what_makes_no_sense(
    refusal: Callable[..., str], arguments: list[str], said: str
) -> None:
    """One line that says why, exit 2."""

    def main() -> None:
        options = MonitorOptions()
        options.parseOptions()
        makeService(options)

    line = refusal(main, *arguments)
    assert line.startswith(f"multiecho-client: {said}"), line


def test_bad_usage_of_the_process() -> None:
    """The same."""
    with running([*CLIENT, "127.0.0.1", "0"]) as monitor:
        assert monitor.finish() == 2
    said = "PORT: '0' is not a port number from 1 to 65535 (see --help)"
    assert monitor.err == [f"multiecho-client: {said}"]


def test_help() -> None:
    """It shows each option, and examples."""
    shown = str(MonitorOptions())
    for option in ("connect", "connections", "rate", "size", "reply-timeout", "no-express"):
        assert f"--{option}" in shown
    assert "twistd -n multiecho-client 192.0.2.7" in shown


@ensureDeferred
async def test_a_peer_that_never_answers(reactor: Any) -> None:
    """It is a failure, as it is of a run."""
    fake: Any = FakeTimeReactor(reactor)
    with misbehaving(neverAnswers) as port:
        patience = Patience(connect=LIMIT, reply=1.0)
        keeper = PersistentConnections(fake, 1, rate=10.0, patience=patience, clock=fake.ns)
        target = Target(fake, f"tcp:127.0.0.1:{port}", patience.connect)
        running = Deferred.fromCoroutine(keeper.run(target))
        await eventually(reactor, lambda: keeper.results.open == 1)

        def failed() -> bool:
            fake.advance(0.2)
            return keeper.results.failures[FailureKind.REPLY_TIMEOUT] > 0

        await eventually(reactor, failed)
        keeper.interrupt()
        await running
