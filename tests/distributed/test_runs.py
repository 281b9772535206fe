"""
Runs of two parts on a cluster of this machine: their books are those of one process.
"""

import json
import signal
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from datagrams import echoingOverUDP
from peers import Certificates
from programs import LISTENING, TWISTD, Program, multiecho, until
from pytest_twisted import async_yield_fixture, ensureDeferred
from schema import validate
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads

from echofactory.client.factory import EchoClientFactory
from echofactory.client.settings import Opening, Patience
from echofactory.distributed.cluster import Cluster
from echofactory.distributed.coordinator import DistributedRun
from echofactory.distributed.hosts import LocalCluster
from echofactory.distributed.probe import probeAcross
from echofactory.distributed.settings import ClientTLSSettings, RunSettings
from echofactory.net.endpoints import EndpointError
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.results.json import toJSON
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload
from echofactory.workload.stages import Stage, Stages

pytestmark = pytest.mark.seconds

RATE = Rate(400.0, 400.0)
SCHEDULED = Workload(size=64, rate=RATE, duration=0.6)
PATIENCE = Patience()


@async_yield_fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """One for all runs that kill nothing."""
    from twisted.internet import reactor

    cluster = Cluster(cast(IReactorFromThreads, reactor), LocalCluster())
    yield cluster
    await cluster.close()


@pytest.fixture(scope="module")
def served() -> Iterator[int]:
    """The port of a server, over TCP and UDP."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, port):
        yield port


def settingsOf(port: int, workload: Workload, **changes: Any) -> RunSettings:
    return RunSettings(
        **{
            "target": f"tcp:127.0.0.1:{port}", "workload": workload, "connections": 5,
            "interval": 0.2, "patience": PATIENCE, **changes,
        }
    )  # fmt: skip


async def across(reactor: Any, cluster: Cluster, settings: RunSettings) -> Results:
    """Make a run of two parts, and check its JSON."""
    results = await DistributedRun(reactor, cluster, settings, 2).run()
    validate(json.loads(json.dumps(toJSON(results, "0"))))
    assert results.parts is not None
    assert (results.parts.parts, results.parts.hosts, results.parts.lost) == (
        2, ("127.0.0.1",), 0,
    )  # fmt: skip
    assert results.verdict == "ok", (results.failures, results.examples)
    return results


async def alone(reactor: Any, settings: RunSettings) -> Results:
    """Make the same run in this process."""
    run = EchoClientFactory(
        reactor, settings.workload, settings.connections, settings.patience,
        opening=settings.opening, interval=settings.interval,
    )  # fmt: skip
    results: Results = await run.run(settings.target)
    assert results.verdict == "ok", (results.failures, results.examples)
    return results


SAME = ("requested", "established", "completed", "peakOpen", "reconnects", "due", "sent",
        "verified", "mismatched", "unanswered", "bytesSent", "bytesReceived", "uncountedDue",
        "rateAsked", "scheduledNs", "schedule", "workload", "target", "intervalNs")  # fmt: skip


@pytest.mark.parametrize(
    "workload",
    [
        Workload(size=64),
        Workload(size=64, count=3, window=2),
        SCHEDULED,
        replace(SCHEDULED, warmUp=0.3),
        Workload(
            size=64,
            rate=Stages((Stage(RATE, 0.3), Stage(Rate(400.0, 100.0), 0.3))),
            warmUp=0.1,
        ),
        Workload(size=64, churn=True, count=4),
    ],
    ids=["two messages", "count", "rate", "warm-up", "stages", "churn"],
)
@ensureDeferred
async def test_the_books_are_those_of_one_process(
    reactor: Any, cluster: Cluster, served: int, workload: Workload
) -> None:
    settings = settingsOf(served, workload)
    results = await across(reactor, cluster, settings)
    expected = await alone(reactor, settings)
    for name in SAME:
        # Without a schedule, a connection can be over before the last one is open.
        if name == "peakOpen" and (workload.churn or workload.rate is None):
            continue
        assert getattr(results, name) == getattr(expected, name), name
    assert results.response.count == expected.response.count
    assert results.sendLag.count == expected.sendLag.count
    assert results.connectionFacts.addresses == expected.connectionFacts.addresses
    # An interval of the warm-up has messages, and no response times.
    warmNs = results.firstAt - results.beganAt if workload.warmUp else 0
    counted = [each for each in results.intervals if each.messages and each.endNs > warmNs]
    assert counted
    assert all(each.p50Ns and each.p99Ns for each in counted)
    assert sum(each.messages for each in results.intervals) == results.verified


@ensureDeferred
async def test_connections_that_are_opened_at_a_rate(
    reactor: Any, cluster: Cluster, served: int
) -> None:
    """From two source addresses, in turn, as in one process."""
    opening = Opening(rate=200.0, addresses=("127.0.0.2", "127.0.0.3"))
    settings = settingsOf(served, Workload(size=64), opening=opening, connections=6)
    results = await across(reactor, cluster, settings)
    expected = await alone(reactor, settings)
    assert results.connectionFacts.asJSON() == expected.connectionFacts.asJSON()


@ensureDeferred
async def test_datagrams(reactor: Any, cluster: Cluster) -> None:
    with echoingOverUDP() as (_, port):
        settings = settingsOf(port, SCHEDULED, target=f"udp:127.0.0.1:{port}")
        results = await across(reactor, cluster, settings)
    assert results.datagrams is not None
    assert results.datagrams.lost == 0
    assert results.verified == results.due == 240


@ensureDeferred
async def test_TLS_with_a_file_that_is_not_at_the_parts(
    reactor: Any, cluster: Cluster, certificates: Certificates, tmp_path: Path
) -> None:
    """The content of the file travels."""
    authority = tmp_path / "authority.pem"
    authority.write_bytes((certificates.trust / "authority.pem").read_bytes())
    listen = f"ssl:0:interface=127.0.0.1:privateKey={certificates.pem}"
    with multiecho("--trace", "none", "--listen", listen) as (_, port):
        tls = ClientTLSSettings.read({"host": "127.0.0.1", "ca": str(authority)})
        authority.unlink()
        settings = settingsOf(port, Workload(size=64), target=f"tls:127.0.0.1:{port}", tls=tls)
        results = await across(reactor, cluster, settings)
    assert results.established == 5


@ensureDeferred
async def test_a_certificate_that_is_not_trusted(
    reactor: Any, cluster: Cluster, certificates: Certificates
) -> None:
    """Each part says why."""
    listen = f"ssl:0:interface=127.0.0.1:privateKey={certificates.pem}"
    with multiecho("--trace", "none", "--listen", listen) as (_, port):
        tls = ClientTLSSettings.read({"host": "127.0.0.1"})
        settings = settingsOf(port, Workload(size=64), target=f"tls:127.0.0.1:{port}", tls=tls)
        results = await DistributedRun(reactor, cluster, settings, 2).run()
    assert results.failures == {FailureKind.TLS: 5}
    assert "certificate verify failed" in results.examples[FailureKind.TLS].detail


@ensureDeferred
async def test_connections_that_are_lost_are_opened_again(
    reactor: Any, cluster: Cluster, served: int
) -> None:
    """The server is killed and started again while messages are sent."""
    workload = Workload(size=64, rate=RATE, duration=3.0, reconnect=True)
    with multiecho("--trace", "none", "127.0.0.1", "0") as (program, port):
        run = DistributedRun(reactor, cluster, settingsOf(port, workload), 2)
        again: list[Program] = []

        def watch(results: Results) -> None:
            if results.verified and not again:
                program.end(signal.SIGKILL)
                again.append(restarted(port))

        run.ticker.watchers.append(watch)
        try:
            results = await run.run()
        finally:
            for each in again:
                each.end(signal.SIGKILL)
    assert results.reconnects >= 5
    assert results.parts is not None
    assert results.parts.lost == 0
    assert results.completed + results.failed == results.requested
    assert 0 < results.missing < 1
    validate(json.loads(json.dumps(toJSON(results, "0"))))


def restarted(port: int) -> Program:
    words = ("multiecho", "--trace", "none", "127.0.0.1", str(port))
    program = Program([*TWISTD, *words])
    program.waitFor(LISTENING)
    return program


@ensureDeferred
async def test_two_runs_at_the_same_time(reactor: Any, cluster: Cluster, served: int) -> None:
    """Neither hears of the other."""
    await cluster.open()
    runs = [
        DistributedRun(reactor, cluster, settingsOf(served, workload, connections=count), 2)
        for workload, count in ((SCHEDULED, 4), (Workload(size=32, count=5), 7))
    ]
    one, other = await gatherResults([Deferred.fromCoroutine(each.run()) for each in runs])
    assert (one.requested, one.completed, one.verified) == (4, 4, 240)
    assert (other.requested, other.completed, other.verified) == (7, 7, 35)


@ensureDeferred
async def test_a_call_of_the_library(reactor: Any, served: int) -> None:
    """It leaves nothing behind."""
    before = threading.active_count()
    results = await probeAcross(
        reactor, LocalCluster(), f"tcp:127.0.0.1:{served}", Workload(size=64), 3, 1
    )
    assert (results.verdict, results.completed, results.verified) == ("ok", 3, 3)
    until(lambda: threading.active_count() <= before)


@ensureDeferred
async def test_an_endpoint_that_there_is_not(reactor: Any) -> None:
    """It is refused before anything is started."""
    with pytest.raises(EndpointError):
        await probeAcross(reactor, LocalCluster(), "tpc:127.0.0.1:7", Workload(size=64))
