"""
C{python -m bench.scale N}: opens N verified connections from several processes to several
processes of this machine, holds them all, sends each a message and then a few, and closes them.

It looks at the memory first. If N connections do not fit, it opens as many as do, and says so.
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil, sqrt
from pathlib import Path
from threading import get_native_id
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorCore
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from bench.commands import scaledServer
from bench.processes import children, privateBytes, serving, shareOfBytes
from echofactory.client.settings import Opening, Patience
from echofactory.distributed.cluster import Cluster
from echofactory.distributed.coordinator import DistributedRun
from echofactory.distributed.hosts import LocalCluster
from echofactory.distributed.settings import RunSettings
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.net.processes import goFirst
from echofactory.report.live import line
from echofactory.report.text import report
from echofactory.results.books import Results
from echofactory.values.quantities import durationText
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload
from echofactory.workload.stages import Stage, Stages

_SPARE = 600
"""Descriptors of a process that are not for connections."""

_PER_ADDRESS = 10_000
"""Connections of a source address. From 14,100 on, the kernel's search for a port is slow."""

_CONNECTION = 16 * 1024
"""Bytes: the expected memory of a connection, with both of its ends."""

_PROCESS = 24 << 20
"""Bytes: the expected memory of a process without connections. What all of them share, and the
processes of Dask, are divided between them."""

_SHARE = 0.9
"""The share of the available memory that is used."""

_EACH_PER_S = 5000
"""Messages a second while each connection sends its first one."""

_LATER_PER_S = 1000
_LATER_S = 10.0
_LIMIT_S = 120.0
"""Seconds for a connection to be up, and for a reply to come."""


@dataclass(frozen=True)
class Plan:
    """
    How many connections, and how many processes at each end.
    """

    connections: int
    parts: int
    workers: int

    @classmethod
    def of(cls, connections: int, descriptors: int) -> "Plan":
        """
        Return a plan.

        @param descriptors: the number that each process can open.
        """
        room = descriptors - _SPARE
        # The kernel spreads the connections at random over the workers.
        share = room - 5 * sqrt(room)
        return cls(connections, ceil(connections / room), ceil(connections / share))

    @property
    def memory(self) -> int:
        """The expected memory, in bytes."""
        return self.connections * _CONNECTION + (self.parts + self.workers) * _PROCESS

    @property
    def addresses(self) -> tuple[str, ...]:
        """The source addresses."""
        count = max(2, ceil(self.connections / _PER_ADDRESS))
        return tuple(f"127.0.{1 + number // 250}.{2 + number % 250}" for number in range(count))


def _meminfo(name: str) -> int:
    """Return a figure of the machine's memory, in bytes."""
    found = re.search(rf"^{name}: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.M)
    assert found is not None
    return 1024 * int(found[1])


def _available() -> int:
    return _meminfo("MemAvailable")


def _descendants(pid: int) -> Iterator[int]:
    for child in children(pid):
        yield child
        yield from _descendants(child)


@dataclass(frozen=True)
class Memory:
    """
    Memory while connections are held, in bytes: of the client, of the server, and of the
    kernel's objects (C{Slab}).

    @ivar shares: of the processes, with what they share divided between them; 0: there are too
        many connections to find out.
    """

    client: int
    server: int
    kernel: int
    shares: int


class _Scale:
    """
    The measurement. A small run comes first, because it shows what the processes need without
    connections.
    """

    def __init__(self, reactor: Any, plan: Plan, pid: int, port: int) -> None:
        self._reactor = reactor
        self._plan = plan
        self._server = pid
        self._port = port
        self._cluster = Cluster(reactor, LocalCluster())
        self.held: Memory | None = None

    async def run(self) -> tuple[Memory, Memory, Results]:
        """Return the memory without and with connections, and the results."""
        try:
            # At the end of the first second, each connection has had a message.
            await self._run(self._plan.parts, max(20, self._plan.parts), quiet=True)
            without = self.held
            self.held = None
            results = await self._run(self._plan.connections, _EACH_PER_S)
        finally:
            await self._cluster.close()
        if without is None or self.held is None:
            print(report(results))
            raise RuntimeError("the connections were not all open at one time")
        return without, self.held, results

    async def _run(self, connections: int, rate: float, quiet: bool = False) -> Results:
        each = Stage(Rate(rate, rate), max(3.0, connections / rate))
        later = Stage(Rate(_LATER_PER_S, _LATER_PER_S), _LATER_S)
        settings = RunSettings(
            target=f"tcp:127.0.0.1:{self._port}",
            workload=Workload(size=64, rate=Stages((each,) if quiet else (each, later))),
            connections=connections,
            # As in the server, no keepalive.
            patience=Patience(connect=_LIMIT_S, reply=_LIMIT_S, keepAlive=0),
            opening=Opening(addresses=self._plan.addresses),
            # The books of many parts take time.
            interval=0.25 if self._plan.parts < 10 else 1.0,
        )
        run = DistributedRun(self._reactor, self._cluster, settings, self._plan.parts)

        def look(results: Results) -> None:
            if not quiet:
                print(line(results, results.intervals[-1]), file=sys.stderr, flush=True)
            if self.held is None and results.open == connections <= results.verified:
                ours, its = list(_descendants(os.getpid())), list(_descendants(self._server))
                client, server = (sum(map(privateBytes, each)) for each in (ours, its))
                shares = sum(map(shareOfBytes, ours + its)) if quiet else 0
                self.held = Memory(client, server, _meminfo("Slab"), shares)

        run.ticker.watchers.append(look)
        return await run.run()


def _figures(plan: Plan, without: Memory, held: Memory, results: Results) -> dict[str, Any]:
    """Return what was measured."""
    count = results.peakOpen or 1
    client, server = held.client - without.client, held.server - without.server
    kernel = held.kernel - without.kernel
    opened = next(each.endNs for each in results.intervals if each.open == plan.connections)
    p50, p99, highest = results.response.percentiles(50.0, 99.0, 100.0)
    assert results.parts is not None
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "connections": results.peakOpen,
        "parts": plan.parts,
        "workers": plan.workers,
        "failed": results.failed,
        "verified": results.verified,
        "connects_per_s": round(results.established / (opened / 1e9)),
        "kib_per_connection": {
            name: round(size / count / 1024, 2)
            for name, size in (("kernel", kernel), ("client", client), ("server", server))
        },
        "mib_per_process": round(without.shares / (1 << 20) / (plan.parts + plan.workers)),
        "response_ns": {"p50": p50, "p99": p99, "max": highest},
        "longest_hold_ns": results.parts.longestHoldNs,
        "elapsed_s": round(results.elapsedNs / 1e9, 1),
    }


def _text(figures: dict[str, Any]) -> str:
    kib, response = figures["kib_per_connection"], figures["response_ns"]
    return f"""\
connections      {figures["connections"]:,} open at one moment, {figures["failed"]:,} failed
processes        {figures["parts"]} of the client, {figures["workers"]} of the server
opened           {figures["connects_per_s"]:,} connections/s
memory           {kib["kernel"]} KiB a connection in the kernel, {kib["client"]} in the client,
                 {kib["server"]} in the server; {figures["mib_per_process"]} MiB a process
response         p50 {durationText(response["p50"])}, p99 {durationText(response["p99"])},
                 max {durationText(response["max"])}
longest hold     {_holdText(figures["longest_hold_ns"])} of a client's reactor
elapsed          {figures["elapsed_s"]} s"""


def _holdText(ns: int | None) -> str:
    return "not known" if ns is None else durationText(ns)


def _fitting(connections: int, descriptors: int) -> Plan:
    """Return the plan for as many connections as there is memory for."""
    plan = Plan.of(connections, descriptors)
    while plan.memory > _SHARE * _available():
        plan = Plan.of(int(plan.connections * 0.99), descriptors)
    return plan


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("connections", type=int)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    arguments = parser.parse_args()
    descriptors = raiseDescriptorLimit()
    plan = _fitting(arguments.connections, descriptors)
    if plan.connections < arguments.connections:
        print(
            f"{arguments.connections:,} connections need about"
            f" {Plan.of(arguments.connections, descriptors).memory >> 20:,} MiB;"
            f" {_available() >> 20:,} MiB are available: {plan.connections:,} are opened"
        )
    from twisted.internet import reactor as chosen

    reactor = cast(IReactorCore, chosen)
    outcome: list[Any] = []
    # The lost parts, and why.
    observer = FilteringLogObserver(
        textFileLogObserver(sys.stderr), [LogLevelFilterPredicate(LogLevel.warn)]
    )
    with serving(scaledServer(plan.workers), plan.workers) as server:
        scale = _Scale(reactor, plan, server.pid, server.port)

        def start() -> None:
            Deferred.fromCoroutine(scale.run()).addBoth(finish)

        def finish(result: Any) -> None:
            outcome.append(result)
            reactor.stop()

        globalLogBeginner.beginLoggingTo([observer], redirectStandardIO=False)
        goFirst(get_native_id())
        reactor.callWhenRunning(start)
        reactor.run()
    if not outcome:
        sys.exit(130)
    (result,) = outcome
    if isinstance(result, Failure):
        sys.exit(f"bench.scale: {result.getErrorMessage()}")
    without, held, results = result
    figures = _figures(plan, without, held, results)
    print(report(results))
    print(_text(figures))
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")
    sys.exit(results.verdict != "ok")


if __name__ == "__main__":
    main()
