"""
The status of a server: what it says, and how it answers.
"""

import json
import os
import re
import resource
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest
from peers import LOOPBACK, Certificates, Connect, portOf
from programs import (
    LIMIT,
    TWISTD,
    Program,
    client,
    echoes,
    multiecho,
    multiechoMain,
    residentBytes,
    running,
    until,
    withStatus,
)
from prometheus_client.registry import CollectorRegistry
from pytest_twisted import ensureDeferred
from statuses import Source, ask, get, metrics, started
from twisted.application.service import Service
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs

from echofactory import Limits, OrderedServices
from echofactory._version import __version__
from echofactory.net.addresses import namesLoopback
from echofactory.net.endpoints import EndpointError, ListenError
from echofactory.server.counts import CombinedCounts, Counts, PeerCounts, WorkerState
from echofactory.status import History, ServerStatus, StatusService, View
from echofactory.status.history import LastMinute

pytestmark = pytest.mark.oldest


async def told(status: ServerStatus) -> tuple[dict[str, Any], View]:
    facts = await status.facts()
    return facts, status.view(facts)


# What it says.


def test_rates_are_of_the_time_that_passed() -> None:
    """A sample that comes late is of more seconds; one without another before it, of none."""
    history = History()
    history.record(10.0, {"open": 1}, {"bytes": 500})
    assert history.points("bytes") == []
    history.record(11.0, {"open": 2}, {"bytes": 600})
    history.record(13.5, {"open": 3}, {"bytes": 1100})
    assert history.points("open") == [(-2.5, 2), (0.0, 3)]
    assert history.points("bytes") == [(-2.5, 100), (0.0, 200)]


def test_a_total_that_shrinks_is_no_negative_rate() -> None:
    """That of several processes does, when one of them is gone."""
    history = History()
    history.begin(0.0, {"bytes": 1000})
    history.record(1.0, {}, {"bytes": 400})
    assert history.points("bytes") == [(0.0, 0)]


def test_the_history_is_bounded() -> None:
    """It keeps the last 300 samples."""
    history = History()
    for second in range(1000):
        history.record(float(second), {"open": second}, {})
    points = history.points("open")
    assert len(points) == 300
    assert points[0] == (-299.0, 700)
    assert points[-1] == (0.0, 999)


@ensureDeferred
async def test_facts_and_view() -> None:
    """Counts as of the last sample, with the kinds that have not occurred; JSON all of it."""
    clock = Clock()
    source = Source(Counts(accepted=1, open=1, chunks=10, bytesIn=1000, bytesOut=1000))
    status = ServerStatus(source, clock=clock.seconds)
    status.begin()
    clock.advance(2)
    source.now = replace(source.now, open=3, chunks=30, bytesIn=5000, refused={"host": 2})
    status.sample()
    source.now = replace(source.now, open=4)
    facts, view = await told(status)
    assert facts["uptime_s"] == 2.0
    assert facts["counts"] == {
        "accepted": 1,
        "open": 3,
        "datagrams": 0,
        "unanswered": {},
        "refused": {"connections": 0, "host": 2, "descriptors": 0, "fault": 0, "header": 0},
        "lost": {"done": 0, "lost": 0, "aborted": 0, "idle": 0, "worker": 0, "error": 0},
        "chunks": 30,
        "bytes_in": 5000,
        "bytes_out": 1000,
    }
    history = dict(facts["history"])
    ((use,),) = (history.pop("processor_percent"),)
    assert use >= 0
    assert history == {
        "t_s": [0.0],
        "open": [3],
        "chunks_per_s": [10.0],
        "bytes_per_s": [2000.0],
    }
    assert facts["last_minute"] == {
        "accepted": 0,
        "refused": 2,
        "bytes_in": 4000,
        "bytes_out": 0,
    }
    assert facts["peers"][0] == {"host": "192.0.2.1", "open": 2, "bytes_in": 4096}
    assert json.loads(json.dumps([facts, view]))
    assert [table["caption"] for table in view["tables"]] == [
        "Connections refused",
        "Connections closed",
        "Peers by bytes received",
        "Totals",
    ]
    assert view["tables"][2]["rows"] == [("192.0.2.1", 2, 4096), ("UNIX socket", 1, 12)]
    assert (view["state"], view["condition"]) == ("serving", "well")


@ensureDeferred
async def test_totals_stand_in_tables_that_say_since_when() -> None:
    """Figures of now do not."""
    status = ServerStatus(Source(Counts(accepted=7, chunks=8, bytesIn=9, bytesOut=10)))
    facts, view = await told(status)
    since = {table["caption"]: table["since"] for table in view["tables"]}
    began = facts["started"][:19].replace("T", " ") + " UTC"
    assert since == {
        "Connections refused": began,
        "Connections closed": began,
        "Peers by bytes received": "",
        "Totals": began,
    }
    assert view["tables"][-1]["rows"] == [(7, 8, 9, 10)]


@ensureDeferred
async def test_tiles_are_of_now_or_of_the_last_minute() -> None:
    """What came before is in the totals alone."""
    clock = Clock()
    source = Source(Counts(accepted=100, open=2, bytesIn=1000, refused={"host": 9}))
    status = ServerStatus(source, clock=clock.seconds)
    status.begin()
    for second in range(61):
        clock.advance(1)
        if second == 0:
            source.now = replace(source.now, accepted=150, bytesIn=2000, refused={"host": 19})
        if second == 30:
            source.now = replace(source.now, accepted=153, bytesIn=2500, bytesOut=7)
        status.sample()
    _, view = await told(status)
    tiles = {tile["name"]: tile["value"] for tile in view["tiles"]}
    assert list(tiles)[-3:] == ["Processor", "Memory", "Open descriptors"]
    assert dict(list(tiles.items())[:-3]) == {
        "Open connections": 2,
        "Accepted, last minute": 3,
        "Refused, last minute": 0,
        "Received, last minute": 500,
        "Sent, last minute": 7,
    }


@ensureDeferred
async def test_what_the_server_is() -> None:
    """Its host, addresses and limits; what it uses of the machine; how long it has run."""
    clock = Clock()
    source = Source(
        Counts(open=3),
        addresses=[IPv6Address("TCP", "::1", 7007), IPv4Address("UDP", "127.0.0.1", 7)],
        limits=Limits(connections=10_000, idle=90.0),
    )
    status = ServerStatus(source, clock=clock.seconds)
    status.begin()
    clock.advance(75)
    status.sample()
    facts, view = await told(status)
    assert facts["host"] == socket.gethostname()
    assert facts["addresses"] == ["[::1]:7007", "udp 127.0.0.1:7"]
    assert facts["limits"] == {"connections": 10_000, "per_host": None, "idle_timeout_s": 90.0}
    assert facts["usage"]["resident_bytes"] > 1 << 20
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < facts["usage"]["open_descriptors"] < facts["usage"]["max_descriptors"] == most
    assert [(each["name"], each["value"]) for each in view["about"]] == [
        ("Host", socket.gethostname()),
        ("Listening on", "[::1]:7007, udp\N{NO-BREAK SPACE}127.0.0.1:7"),
        ("Connection limit", 10_000),
        ("Limit per host", "none"),
        ("Idle timeout", 90.0),
        ("Uptime", 75.0),
    ]
    tiles = {tile["name"]: (tile["value"], tile["unit"]) for tile in view["tiles"]}
    assert tiles["Open connections"] == (3, "of 10,000")
    assert tiles["Open descriptors"][1] == f"of {most:,}"
    assert view["footer"] == f"echofactory {__version__}, process {os.getpid()}"


@ensureDeferred
async def test_a_server_without_limits_that_has_closed_its_ports() -> None:
    """Words, not dashes."""
    _, view = await told(ServerStatus(Source()))
    shown = {each["name"]: each["value"] for each in view["about"]}
    assert shown["Listening on"] == "nothing"
    assert shown["Connection limit"] == shown["Limit per host"] == "none"
    assert shown["Idle timeout"] == "none"
    assert view["tiles"][0]["unit"] == ""


def test_a_source_of_several() -> None:
    """Addresses of all; the limits of the first, because the other has only UDP."""
    tcp, udp = IPv4Address("TCP", "127.0.0.1", 1), IPv4Address("UDP", "127.0.0.1", 2)
    first = Source(addresses=[tcp], limits=Limits(connections=5))
    both = CombinedCounts([first, Source(addresses=[udp])])
    assert both.addresses == [tcp, udp]
    assert both.limits == Limits(connections=5)


def test_a_level_that_was_not_measured() -> None:
    """It is C{None}; the level before it is not repeated."""
    history = History()
    history.begin(0.0, {})
    history.record(1.0, {"p50": 0.6591}, {})
    history.record(2.0, {"p50": None}, {})
    assert history.points("p50") == [(-1.0, 0.659), (0.0, None)]


def test_the_last_minute_is_of_sixty_samples() -> None:
    """Each late or early by some of a second; what did not grow is not kept."""
    minute = LastMinute[str]()
    minute.begin({"a": 1000, "b": 1})
    for second in range(1, 100):
        late = 0.4 if second % 2 else 0.0
        grown = minute.record(second + late, {"a": 1000 + second, "b": 1})
        assert grown == {"a": 1}
    assert minute.total() == {"a": 60}


def test_the_last_minute_after_a_stop() -> None:
    """What was counted before is older than a minute then."""
    minute = LastMinute[str]()
    minute.begin({})
    minute.record(1.0, {"a": 5})
    minute.record(61.0, {"a": 7})
    assert minute.total() == {"a": 2}


def test_the_last_minute_after_a_pause() -> None:
    """What was counted in the pause may be of any time."""
    minute = LastMinute[str]()
    minute.begin({"a": 1})
    minute.record(1.0, {"a": 2})
    minute.begin({"a": 50})
    minute.record(2.0, {"a": 51})
    assert minute.total() == {"a": 2}


def test_counts_that_shrink_do_not_count_for_less_than_nothing() -> None:
    """Those of several processes do, when one of them is gone."""
    minute = LastMinute[str]()
    minute.begin({"a": 10})
    minute.record(1.0, {"a": 4})
    minute.record(2.0, {"a": 5})
    assert minute.total() == {"a": 1}


def test_the_history_is_of_five_minutes() -> None:
    """Of a process that was stopped for half an hour, too."""
    history = History()
    for second in (*range(100), *range(2000, 2010)):
        history.record(float(second), {"open": second}, {})
    assert history.points("open") == [(second - 2009.0, second) for second in range(2000, 2010)]
    history.record(2300.0, {"open": 1}, {})
    assert history.points("open")[0] == (-300.0, 2000)


@pytest.mark.parametrize("before", [1, 300])
def test_a_sample_while_the_peers_are_waited_for(before: int) -> None:
    """What is told is of one moment, whether the history has room for it or not."""
    waiting: Deferred[None] = Deferred()

    class Slow(Source):
        async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
            await waiting
            return []

    clock = Clock()
    source = Slow()
    status = ServerStatus(source, clock=clock.seconds)
    status.begin()

    def sample() -> None:
        clock.advance(1)
        source.now = Counts(open=source.now.open + 1, chunks=source.now.chunks + 7)
        status.sample()

    for _ in range(before):
        sample()
    found: list[tuple[dict[str, Any], View]] = []
    Deferred.fromCoroutine(told(status)).addCallback(found.append)
    sample()
    waiting.callback(None)
    ((facts, view),) = found
    assert facts["counts"]["open"] == facts["history"]["open"][-1] == before + 1
    lengths = {len(series) for series in facts["history"].values()}
    assert lengths == {min(before + 1, 300)}
    assert view["charts"][1]["points"][-1] == (0.0, 7)


@ensureDeferred
async def test_workers_are_shown() -> None:
    """Which are up, and how often each was started again: on the page and as metrics."""
    source = Source(
        processes=[
            WorkerState(1, 4711, 0, 5, True),
            WorkerState(2, None, 3, 0, False),
            WorkerState(3, 4713, 1, 0, False),
        ]
    )
    status = ServerStatus(source)
    _, view = await told(status)
    assert view["tables"][-1]["caption"] == "Workers"
    assert [tuple(row)[:5] for row in view["tables"][-1]["rows"]] == [
        ("1", "up", "4711", 0, 5),
        ("2", "down", None, 3, 0),
        ("3", "starting", "4713", 1, 0),
    ]
    assert (view["state"], view["condition"]) == ("serving", "well")
    registry = CollectorRegistry()
    registry.register(status)

    def sample(name: str, worker: str) -> float | None:
        return registry.get_sample_value(f"echofactory_worker_{name}", {"worker": worker})

    assert [sample("up", worker) for worker in "123"] == [1, 0, 0]
    assert (sample("restarts_total", "1"), sample("restarts_total", "2")) == (0, 3)
    assert (sample("connections_open", "1"), sample("connections_open", "2")) == (5, 0)


@ensureDeferred
async def test_no_worker_is_up() -> None:
    """That is told as long as none listens; a stop that drains is told rather."""
    source = Source(
        processes=[WorkerState(1, 4711, 0, 0, False), WorkerState(2, None, 3, 0, False)]
    )
    status = ServerStatus(source)
    assert status.health == "no worker is up"
    _, view = await told(status)
    assert (view["state"], view["condition"]) == ("no worker is up", "down")
    source.draining = True
    assert status.health == "draining"
    _, view = await told(status)
    assert (view["state"], view["condition"]) == ("draining", "impaired")
    source.draining = False
    source.processes[0] = WorkerState(1, 4711, 0, 0, True)
    assert status.health == "ok"


@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost", True), ("LocalHost:80", True), ("127.0.0.1:9465", True),
        ("127.9.9.9", True), ("[::1]", True), ("[::1]:9465", True),
        ("example.org", False), ("localhost.example.org", False), ("127.0.0.1.nip.io", False),
        ("192.0.2.1:80", False), ("[2001:db8::1]:80", False), ("::1", False), ("", False),
        ("localhost:80:80", False), ("127.1", False), ("localhost@example.org", False),
    ],
)  # fmt: skip
def test_names_of_the_loopback_interface(host: str, ours: bool) -> None:
    """Whatever the name service says of a name, only these are."""
    assert namesLoopback(host) is ours


# The service, in this process.


@ensureDeferred
async def test_it_is_sampled_while_it_runs_and_only_then(reactor: Any) -> None:
    """No timer and no connection outlive the stop; and it can be started again."""
    service, _ = started(reactor, Source())
    before = len(reactor.getDelayedCalls())
    await service.stopService()
    assert len(reactor.getDelayedCalls()) < before
    assert service.address is None
    service.privilegedStartService()
    service.startService()
    assert service.address is not None
    await service.stopService()


@ensureDeferred
async def test_a_sample_that_fails_is_a_gap() -> None:
    """Sampling goes on, or the page would show the same figures for ever."""

    class Broken(Source):
        taken = 0

        def counts(self) -> Counts:
            self.taken += 1
            if self.taken == 3:
                raise RuntimeError("a secret")
            return self.now

    clock: Any = MemoryReactorClock()
    status = ServerStatus(Broken(), clock=clock.seconds)
    service = StatusService(clock, LOOPBACK, status)
    with capturedLogs() as events:
        service.startService()
        for _ in range(3):
            clock.advance(1)
    (failure,) = [event["log_failure"] for event in events if "log_failure" in event]
    assert str(failure.value) == "a secret"
    facts, _ = await told(status)
    assert facts["history"]["t_s"] == [-1.0, 0.0]
    await service.stopService()


@ensureDeferred
async def test_a_stop_closes_connections(reactor: Any, connect: Connect) -> None:
    """Those that have their answer and stay, or never sent a request."""
    service, port = started(reactor, Source())
    kept = await connect(f"tcp:127.0.0.1:{port}")
    kept.transport.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await kept.until(reactor, lambda: kept.received.endswith(b"\r\nok\n"))
    silent = await connect(f"tcp:127.0.0.1:{port}")
    await service.stopService()
    await kept.until(reactor, lambda: kept.ended)
    await silent.until(reactor, lambda: silent.ended)


@ensureDeferred
async def test_an_error_is_an_answer_without_details(reactor: Any, connect: Connect) -> None:
    """They are in the log."""

    class Broken(Source):
        async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
            raise RuntimeError("a secret")

    service, port = started(reactor, Broken())
    found = await ask(connect, reactor, port, b"GET /status.json HTTP/1.0\r\n\r\n")
    assert found.startswith(b"HTTP/1.0 500 ")
    assert b"secret" not in found
    await service.stopService()


@ensureDeferred
async def test_beyond_the_loopback_interface_any_host_will_do(
    reactor: Any, connect: Connect
) -> None:
    """The check is against names that were made to mean this machine."""
    service = StatusService(reactor, "tcp:0", ServerStatus(Source()))
    service.startService()
    assert service.address is not None
    request = b"GET /healthz HTTP/1.1\r\nHost: echo.example\r\nConnection: close\r\n\r\n"
    found = await ask(connect, reactor, portOf(service.address), request)
    assert found.endswith(b"\r\nok\n")
    await service.stopService()


@ensureDeferred
async def test_errors_of_endpoints(reactor: Any) -> None:
    """A string that is none, at once; a port that is taken, at the start."""
    with pytest.raises(EndpointError):
        StatusService(reactor, "stdio:", ServerStatus(Source()))
    service, port = started(reactor, Source())
    endpoint = f"tcp:{port}:interface=127.0.0.1"
    other = StatusService(reactor, endpoint, ServerStatus(Source()))
    with pytest.raises(ListenError, match=endpoint):
        other.startService()
    await service.stopService()
    # The way is free.
    other.startService()
    await other.stopService()


@ensureDeferred
async def test_services_in_turn() -> None:
    """Started in order, stopped the other way round, each when the last has stopped."""
    events: list[str] = []
    stopped: Deferred[None] = Deferred()

    class Noted(Service):
        def startService(self) -> None:
            super().startService()
            events.append(f"start {self.name}")

        def stopService(self) -> Deferred[None] | None:
            super().stopService()
            events.append(f"stop {self.name}")
            return stopped if self.name == "b" else None

    both = OrderedServices()
    for name in "ab":
        each = Noted()
        each.setName(name)
        each.setServiceParent(both)
    both.startService()
    stopping = both.stopService()
    assert events == ["start a", "start b", "stop b"]
    stopped.callback(None)
    await stopping
    assert events[-1] == "stop a"
    assert not both.running


# The program.


def answers(port: int) -> bool:
    """Tell whether health is answered; a busy machine may ask too late."""
    try:
        return get(port, "/healthz").status == 200
    except OSError:
        return False


def fewDescriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))


def test_datagrams_are_counted() -> None:
    """Beside workers, too, whose counts are other processes'."""
    with withStatus("--workers", "2", "--udp", "127.0.0.1:0") as (server, _, port):
        udp = server.waitFor(r"listening on udp 127.0.0.1:(\d+)")[1]
        load = ["-n", "2", "--size", "64", "--count", "50", "--quiet"]
        done = client("--connect", f"udp:127.0.0.1:{udp}", *load)
        assert done.process.returncode == 0, done.err
        assert metrics(port)["datagrams_answered_total"] == 100
        assert metrics(port)['worker_resident_memory_bytes{worker="2"}'] > 1 << 20
        told = json.loads(get(port, "/status.json").body)["facts"]
        assert told["addresses"][-1] == f"udp 127.0.0.1:{udp}"
        assert len(told["addresses"]) == 2
        assert metrics(port)['datagrams_unanswered_total{why="low-port"}'] == 0
        until(
            lambda: json.loads(get(port, "/status.json").body)["facts"]["counts"]["datagrams"]
        )
        tables = json.loads(get(port, "/status.json").body)["view"]["tables"]
        assert ["answered", 100] in next(
            table["rows"] for table in tables if table["caption"] == "Datagrams"
        )


def test_every_path() -> None:
    """Each with its type, the headers that keep it to itself, and nothing else."""
    with withStatus() as (server, _, port):
        for path, kind in {
            "/": "text/html; charset=utf-8",
            "/status.css": "text/css; charset=utf-8",
            "/status.js": "text/javascript; charset=utf-8",
            "/charts.js": "text/javascript; charset=utf-8",
            "/icon.svg": "image/svg+xml",
            "/metrics": "text/plain; version=0.0.4; charset=utf-8",
            "/healthz": "text/plain; charset=utf-8",
            "/status.json": "application/json",
            "/view.json": "application/json",
            "/status.json?x=1": "application/json",
        }.items():
            reply = get(port, path)
            assert (reply.status, reply.headers["Content-Type"]) == (200, kind)
            policy = reply.headers["Content-Security-Policy"]
            assert policy.startswith("default-src 'none'; ")
            assert "unsafe" not in policy
            assert "frame-ancestors 'none'" in policy
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Referrer-Policy"] == "no-referrer"
            assert reply.headers["Cache-Control"] == "no-store"
            assert "Server" not in reply.headers
            head = get(port, path, "HEAD")
            assert (head.status, head.body) == (200, "")
            assert int(head.headers["Content-Length"]) > 0
        page = get(port, "/").body
        assert not re.search(r"style=|onclick|<style|<script>|https?:", page)
        assert get(port, "/healthz").body == "ok\n"
        view = json.loads(get(port, "/view.json").body)
        assert view.keys() == json.loads(get(port, "/status.json").body)["view"].keys()
        for path in ("/nothing-<b>", "/../pyproject.toml", "//", "/status.css/", "/status.py"):
            reply = get(port, path)
            assert (reply.status, reply.body) == (404, "not found\n")
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"):
            reply = get(port, "/metrics", method)
            assert (reply.status, reply.headers["Allow"]) == (405, "GET, HEAD")
        assert get(port, "*", "OPTIONS").status == 405
        for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.nip.io", ""):
            assert get(port, "/status.json", host=host).status == 421
        for host in ("localhost", f"localhost:{port}", "127.1.2.3", "[::1]:1"):
            assert get(port, "/status.json", host=host).status == 200
        assert server.end() == -signal.SIGTERM
    assert not any("GET" in line or "POST" in line for line in server.out)


def test_metrics_agree_with_a_load() -> None:
    """To the byte; and what has not occurred is there as 0, before anything has."""
    with withStatus("--max-per-host", "20") as (_, echo, port):
        before = metrics(port)
        assert before["connections_accepted_total"] == 0
        assert before['connections_refused_total{limit="host"}'] == 0
        assert before['connections_refused_total{limit="connections"}'] == 0
        assert before['connections_closed_total{how="idle"}'] == 0
        assert before["connections_per_host_limit"] == 20
        assert before["start_time_seconds"] == pytest.approx(time.time(), abs=LIMIT)
        done = client("127.0.0.1", str(echo), "20", "--size", "1k", "--count", "50", "--quiet")
        assert done.process.returncode == 0
        until(lambda: metrics(port)["connections_open"] == 0)
        after = metrics(port)
        assert after["connections_accepted_total"] == 20
        assert after['connections_closed_total{how="done"}'] == 20
        assert after["received_bytes_total"] == after["sent_bytes_total"] == 20 * 50 * 1024
        assert after["chunks_total"] >= 20
        held = [socket.create_connection(("127.0.0.1", echo), LIMIT) for _ in range(21)]
        until(lambda: metrics(port)['connections_refused_total{limit="host"}'] == 1)
        assert metrics(port)["connections_open"] == 20

        def facts() -> Any:
            return json.loads(get(port, "/status.json").body)["facts"]

        # The page has them within a second.
        refused = {"connections": 0, "host": 1, "descriptors": 0, "fault": 0, "header": 0}
        until(lambda: facts()["counts"]["refused"] == refused)
        assert facts()["counts"]["open"] == 20
        assert facts()["addresses"] == [f"127.0.0.1:{echo}"]
        assert facts()["limits"]["per_host"] == 20
        assert facts()["peers"] == [{"host": "127.0.0.1", "open": 20, "bytes_in": 0}]
        for each in held:
            each.close()


def test_a_drain_is_told_until_its_end() -> None:
    """503 while a connection is waited for, and the metrics; then all of it ends."""
    with withStatus("--drain", "1h") as (server, echo, port):
        with socket.create_connection(("127.0.0.1", echo), LIMIT) as held:
            held.sendall(b"x")
            assert held.recv(1) == b"x"
            server.process.send_signal(signal.SIGTERM)
            until(lambda: get(port, "/healthz").status == 503)
            assert get(port, "/healthz").body == "draining\n"
            found = metrics(port)
            assert (found["draining"], found["connections_open"]) == (1, 1)
            assert json.loads(get(port, "/status.json").body)["view"]["state"] == "draining"
            held.sendall(b"y")
            assert held.recv(1) == b"y"
        assert server.finish() == -signal.SIGTERM
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")


@pytest.mark.seconds
def test_no_worker_serves() -> None:
    """503 from when the last of them is gone until one listens again; not from the port."""
    with withStatus("--workers", "2") as (server, _, port):
        until(lambda: get(port, "/healthz").status == 200)
        pids = [
            worker["pid"]
            for worker in json.loads(get(port, "/status.json").body)["facts"]["workers"]
        ]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        until(lambda: get(port, "/healthz").status == 503)
        assert get(port, "/healthz").body == "no worker is up\n"
        until(lambda: get(port, "/healthz").status == 200)
        assert server.end() == -signal.SIGTERM


def test_over_tls_and_a_unix_socket(certificates: Certificates, folder: Path) -> None:
    """As a browser asks, which offers HTTP/2 too; and the socket's file is gone after it."""
    pem = certificates.pem
    authority = certificates.trust / "authority.pem"
    tls = ssl.create_default_context(cafile=str(authority))
    tls.set_alpn_protocols(["h2", "http/1.1"])
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with withStatus(status=endpoint) as (_, _, port):
        connection = HTTPSConnection("localhost", port, timeout=LIMIT, context=tls)
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
        connection.close()
    path = folder / "status.sock"
    with multiecho("--status", f"unix:{path}", "127.0.0.1", "0") as (server, _):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(LIMIT)
            asking.connect(str(path))
            asking.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            with asking.makefile("rb") as answer:
                assert answer.read().endswith(b"\r\nok\n")
        server.end()
    assert not path.exists()


def failing(*arguments: str) -> Program:
    with running([*TWISTD, "multiecho", *arguments, "127.0.0.1", "0"]) as program:
        program.finish()
    return program


def test_a_taken_port() -> None:
    """One line on stderr, exit 1, and nothing left running; its short form, too."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        for given in (f"tcp:{port}:interface=127.0.0.1", f"{port}"):
            done = failing("--status", given)
            assert done.process.returncode == 1
            assert done.err == [
                f"multiecho: --status: cannot listen on tcp:{port}:interface=127.0.0.1:"
                " Address already in use"
            ]
            assert not any("Traceback" in line for line in done.out)


def test_a_taken_port_of_the_echo_beside_it() -> None:
    """Still but one line."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken = f"tcp:{listening.getsockname()[1]}:interface=127.0.0.1"
        done = failing("--status", "0", "--listen", taken)
    assert done.process.returncode == 1
    assert len(done.err) == 1
    assert done.err[0].startswith(f"multiecho: --listen: cannot listen on {taken}: ")


@pytest.mark.parametrize(
    "given",
    ["nonsense", "stdio:", "tcp:x", "99999", "", "haproxy:tcp:0", "express:HAProxy:tcp:0"],
)
def test_bad_usage(refusal: Callable[..., str], given: str) -> None:
    """One line that names the option and the value; exit 2."""
    line = refusal(multiechoMain, "--status", given, "127.0.0.1", "0")
    assert line.startswith("multiecho: --status: ")
    assert given in line


def test_it_listens_on_the_loopback_interface_for_short() -> None:
    """The short form is no door to the network."""
    with withStatus(status="0") as (server, _, _):
        assert server.waitFor(r"status page on 127\.0\.0\.1:")


def test_without_it_nothing_of_it_is_loaded() -> None:
    """A server without a status spares the time and memory."""
    code = """
import sys
from echofactory.cli.server import Options, makeService
options = Options()
options.parseOptions(["127.0.0.1", "0"])
makeService(options)
assert not {"prometheus_client", "twisted.web", "echofactory.status"} & set(sys.modules)
"""
    with running([sys.executable, "-c", code]) as program:
        assert program.finish() == 0, program.err


@pytest.mark.parametrize("options", [[], ["--no-express"]], ids=["express", "no-express"])
def test_health_without_descriptors(options: list[str]) -> None:
    """It is answered while the echo has all others, and strangers hold what is kept for it."""
    words = ["--trace", "none", "--status", "0", *options, "127.0.0.1", "0"]
    with ExitStack() as held, multiecho(*words, preexec_fn=fewDescriptors) as (server, echo):
        port = int(server.waitFor(r"status page on \S+:(\d+)")[1])
        first = held.enter_context(socket.create_connection(("127.0.0.1", echo), LIMIT))
        assert echoes(first)
        while echoes(held.enter_context(socket.create_connection(("127.0.0.1", echo), LIMIT))):
            continue
        for _ in range(50):
            held.enter_context(socket.create_connection(("127.0.0.1", port), LIMIT))
        until(lambda: answers(port))
        assert metrics(port)["connections_open"] > 1
        assert echoes(first)
        assert server.end() == -signal.SIGTERM


def test_requests_that_nobody_reads() -> None:
    """They cost no memory, and keep nobody waiting."""
    asked = b"GET /status.js HTTP/1.1\r\n\r\n" * 2400
    with withStatus() as (server, echo, port), ExitStack() as held:
        assert get(port, "/status.js").status == 200
        before = residentBytes(server.process.pid)
        for _ in range(99):
            stranger = socket.create_connection(("127.0.0.1", port), LIMIT)
            held.enter_context(stranger).sendall(asked)
        until(lambda: answers(port))
        with socket.create_connection(("127.0.0.1", echo), LIMIT) as asking:
            assert echoes(asking)
        assert residentBytes(server.process.pid) - before < 16 << 20
        assert server.end() == -signal.SIGTERM


def test_a_slow_scraper_is_no_harm() -> None:
    """Half a request keeps neither other requests nor the stop waiting."""
    with (
        withStatus() as (server, _, port),
        socket.create_connection(("127.0.0.1", port), LIMIT) as half,
    ):
        half.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")
        assert get(port, "/healthz").status == 200
        assert server.end() == -signal.SIGTERM
