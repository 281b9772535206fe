"""
The coordinator, with a cluster that does what the test says.
"""

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from echofactory.distributed.coordinator import DistributedRun
from echofactory.distributed.hosts import ClusterError, Host
from echofactory.distributed.settings import PartSettings, RunSettings
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

HOSTS = [Host(f"tcp://192.0.2.{n}:1", f"192.0.2.{n}", 1000, n * 10**9) for n in (1, 2)]


class SimulatedHandle:
    def __init__(self, number: int) -> None:
        self.number = number


class SimulatedCluster:
    """
    A cluster of two hosts.

    @ivar starting: for each part, what its start waits for.
    @ivar told: what each part was told.
    @ivar killed: the parts that were killed.
    """

    connected = True

    def __init__(self) -> None:
        self.hosts = HOSTS
        self.starting: list[Deferred[SimulatedHandle]] = []
        self.told: list[list[dict[str, int]]] = []
        self.killed: list[int] = []

    def open(self) -> Deferred[None]:
        return succeed(None)

    def listen(
        self, heard: Callable[[int, dict[str, Any]], None], gone: Callable[[Host], None]
    ) -> str:
        self.heard, self.gone = heard, gone
        return "a run"

    def start(
        self, host: Host, number: int, run: str, settings: PartSettings
    ) -> Deferred[SimulatedHandle]:
        self.starting.append(Deferred())
        self.told.append([])
        return self.starting[-1]

    def started(self, number: int) -> None:
        """A part has been started, and is ready."""
        self.starting[number].callback(SimulatedHandle(number))
        self.heard(number, {"ready": 1})

    def tell(self, handle: SimulatedHandle, **message: int) -> None:
        self.told[handle.number].append(message)

    def kill(self, handle: SimulatedHandle) -> None:
        self.killed.append(handle.number)


class Running:
    """A run of two parts with two connections each."""

    def __init__(self, workload: Workload, connections: int = 4, parts: int = 2) -> None:
        self.clock = Clock()
        self.cluster = SimulatedCluster()
        settings = RunSettings(
            target="tcp:192.0.2.9:7", workload=workload, connections=connections
        )
        cluster: Any = self.cluster
        self.run = DistributedRun(self.clock, cluster, settings, parts, self.ns)
        self.outcome: list[Any] = []
        Deferred.fromCoroutine(self.run.run()).addBoth(self.outcome.append)

    def ns(self) -> int:
        return 10**9 + int(self.clock.seconds() * 1e9)

    def seconds(self, count: int, *alive: int) -> None:
        """So many seconds pass. Some parts say something in each."""
        for _ in range(count):
            for number in alive:
                self.cluster.heard(number, {"alive": True})
            self.clock.advance(1.0)

    def error(self) -> str:
        (failure,) = self.outcome
        failure.trap(ClusterError)
        return str(failure.value)

    def results(self) -> Results:
        (results,) = self.outcome
        assert isinstance(results, Results)
        return results


@pytest.fixture
def running() -> Running:
    return Running(Workload(size=8, rate=Rate(10.0, 10.0), duration=100.0))


@pytest.fixture
def lines() -> Any:
    """What is logged."""
    found: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "part" in event:
            found.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def test_the_parts_begin_together(running: Running) -> None:
    """When all are ready: by the clock of each host."""
    running.cluster.started(0)
    assert running.cluster.told == [[], []]
    running.cluster.started(1)
    (one,), (other,) = running.cluster.told
    assert other["go"] - one["go"] == 10**9
    running.cluster.heard(0, {"up": True})
    assert len(running.cluster.told[0]) == 1
    running.cluster.heard(1, {"up": True})
    assert running.cluster.told[1][1]["send"] - running.cluster.told[0][1]["send"] == 10**9


def test_a_part_that_waits_for_others_hears_something(running: Running) -> None:
    """So that it does not end: it does if it hears nothing for ten seconds."""
    running.cluster.started(0)
    running.seconds(15, 0)
    assert len(running.cluster.told[0]) == 15
    # The other one reads its settings.
    running.cluster.starting[1].callback(SimulatedHandle(1))
    running.seconds(1, 0)
    assert running.cluster.told[1] == []
    running.cluster.heard(1, {"ready": 1})
    assert "go" in running.cluster.told[0][-1]


@pytest.mark.parametrize(
    ("message", "how"),
    [
        ({"ended": 1}, "part 1 on 192.0.2.1 ended with exit status 1"),
        ({"ended": -9}, "part 1 on 192.0.2.1 ended by signal 9"),
        ({"failed": "a\x1b\nb"}, "part 1 on 192.0.2.1 failed: a\\x1b\\nb"),
    ],
)
@pytest.mark.parametrize("ready", [True, False])
def test_a_part_that_is_lost_before_the_run(
    running: Running, message: dict[str, Any], how: str, ready: bool
) -> None:
    """There is no run without it, whether it was ready or not."""
    if ready:
        running.cluster.started(0)
    else:
        running.cluster.starting[0].callback(SimulatedHandle(0))
    running.cluster.heard(0, message)
    assert running.error() == how
    # One that has started too late ends.
    running.cluster.starting[1].callback(SimulatedHandle(1))
    assert 1 in running.cluster.killed


def test_a_ready_part_that_is_silent_before_the_run(running: Running) -> None:
    running.cluster.started(0)
    running.seconds(6)
    assert running.error() == "part 1 on 192.0.2.1 said nothing for 5 seconds"


def test_a_part_that_is_not_ready_in_time(running: Running) -> None:
    running.cluster.started(0)
    running.cluster.starting[1].callback(SimulatedHandle(1))
    running.seconds(30, 0)
    assert running.error() == "part 2 on 192.0.2.2 was not ready within 30 s"
    assert sorted(running.cluster.killed) == [0, 1]


def test_lost_parts(running: Running, lines: list[str]) -> None:
    """One is silent, and the worker of the other one is gone: a line for each."""
    for number in (0, 1):
        running.cluster.started(number)
        running.cluster.heard(number, {"began": 1000 * number})
    running.seconds(6, 1)
    assert running.outcome == []
    assert lines == ["part 1 on 192.0.2.1 said nothing for 5 seconds"]
    # It can still be heard, if its host stood still. That counts no more.
    running.cluster.heard(0, {"up": True})
    running.cluster.gone(HOSTS[1])
    assert lines[1:] == ["part 2 on 192.0.2.2 is gone: its worker has left the cluster"]
    results = running.results()
    assert results.failures == {FailureKind.PART_LOST: 4}
    assert results.parts is not None
    assert (results.parts.lost, results.parts.startSkewNs) == (2, 1000)
    assert results.verdict == "failed"
    assert sorted(running.cluster.killed) == [0, 0, 1, 1]


def test_an_interrupt_while_the_parts_are_started(running: Running) -> None:
    running.cluster.started(0)
    running.run.interrupt()
    results = running.results()
    assert results.verdict == "interrupted"
    assert results.failures == {}
    running.cluster.starting[1].callback(SimulatedHandle(1))
    assert sorted(running.cluster.killed) == [0, 1]


def test_an_interrupt_that_is_not_answered(running: Running, lines: list[str]) -> None:
    """After five seconds, the run is over without the results of the parts."""
    for number in (0, 1):
        running.cluster.started(number)
    running.run.interrupt()
    assert all(
        {"interrupt": n * 10**9} in told for n, told in enumerate(running.cluster.told, 1)
    )
    running.seconds(4, 0, 1)
    assert running.outcome == []
    running.seconds(1, 0, 1)
    assert running.results().verdict == "interrupted"
    assert lines == []


def test_a_second_interrupt(running: Running) -> None:
    """The parts have no more time. A third one changes nothing."""
    for number in (0, 1):
        running.cluster.started(number)
    running.run.interrupt()
    assert running.outcome == []
    running.run.interrupt()
    results = running.results()
    assert results.verdict == "interrupted"
    assert results.parts is not None
    assert results.parts.lost == 2
    assert sorted(set(running.cluster.killed)) == [0, 1]
    running.run.interrupt()


def test_a_second_interrupt_while_the_parts_are_started(running: Running) -> None:
    running.cluster.started(0)
    running.run.interrupt()
    running.run.interrupt()
    assert running.results().verdict == "interrupted"


def test_what_parts_log(running: Running, lines: list[str]) -> None:
    """Each text once, and escaped."""
    for number in (0, 1):
        running.cluster.started(number)
    for number in (0, 1):
        running.cluster.heard(number, {"log": "bad\x1b[2J"})
    assert lines == [r"part 1 on 192.0.2.1: bad\x1b[2J"]


def test_connections_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Into the process of a part."""
    running = Running(Workload(size=8), connections=4000)
    assert running.error().startswith("2,000 connections of part 1 on 192.0.2.1 do not fit: ")
    assert running.cluster.told == []


def test_parts_are_not_started_for_a_run_that_is_over() -> None:
    """Those that wait for their turn."""
    running = Running(Workload(size=8), connections=40, parts=40)
    turns = len(running.cluster.starting)
    assert 0 < turns < 40
    running.cluster.starting[0].errback(ClusterError("no"))
    assert running.error() == "no"
    for each in running.cluster.starting[1:]:
        each.callback(SimulatedHandle(1))
    assert len(running.cluster.starting) == turns
