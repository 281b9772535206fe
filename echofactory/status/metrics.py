"""
The metrics of a server's counts, limits and workers, and those of every program.
"""

import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from math import inf

from prometheus_client import Metric
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    InfoMetricFamily,
)
from twisted import __version__ as twistedVersion

from echofactory._version import __version__
from echofactory.server.counts import LOSSES, REFUSALS, Counts, WorkerState
from echofactory.server.guard import UNANSWERED
from echofactory.server.settings import Limits
from echofactory.status.usage import Usage, processMetrics, usageOf


def withAll(kinds: Iterable[str], counted: Mapping[str, int]) -> dict[str, int]:
    """Return the counts by kind, and 0 for the kinds that are not counted yet."""
    return dict.fromkeys(kinds, 0) | dict(counted)


def byLabel(
    name: str, text: str, label: str, counted: Mapping[str, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=[label])
    for value, count in counted.items():
        family.add_metric([value], count)
    return family


def _explained(text: str, kinds: Mapping[str, str]) -> str:
    """Return the help text of a metric, with the values of its label."""
    return f"{text}: " + "; ".join(f"{kind} ({meaning})" for kind, meaning in kinds.items())


def countsMetrics(counts: Counts) -> Iterable[Metric]:
    """Return the metrics of the connections and their traffic."""
    yield CounterMetricFamily(
        "echofactory_connections_accepted", "Connections accepted and served.", counts.accepted
    )
    yield GaugeMetricFamily(
        "echofactory_connections_open", "Connections open now.", counts.open
    )
    yield byLabel(
        "echofactory_connections_refused",
        _explained("Connections closed immediately and not served, by reason", REFUSALS),
        "limit",
        withAll(REFUSALS, counts.refused),
    )
    closed = withAll(LOSSES, counts.lost)
    yield byLabel(
        "echofactory_connections_closed",
        _explained("Connections closed, by how they ended", LOSSES),
        "how",
        closed,
    )
    yield byLabel(
        "echofactory_connections_lost",
        "Deprecated, the next release is without it: the same as"
        " echofactory_connections_closed_total.",
        "how",
        closed,
    )
    yield CounterMetricFamily(
        "echofactory_chunks",
        "Pieces received, as the transports delivered them.",
        counts.chunks,
    )
    yield CounterMetricFamily("echofactory_received_bytes", "Bytes received.", counts.bytesIn)
    yield CounterMetricFamily(
        "echofactory_sent_bytes", "Bytes handed to the transports.", counts.bytesOut
    )
    yield CounterMetricFamily(
        "echofactory_datagrams_answered", "Datagrams answered.", counts.datagrams
    )
    yield byLabel(
        "echofactory_datagrams_unanswered",
        _explained("Datagrams not answered, by reason", UNANSWERED),
        "why",
        withAll(UNANSWERED, counts.unanswered),
    )


def limitsMetrics(limits: Limits) -> Iterable[Metric]:
    """Return the limits as metrics. A limit that is not set is infinity."""
    for name, text, limit in (
        (
            "connections_limit",
            "Maximum number of open connections. +Inf: no limit.",
            limits.connections,
        ),
        (
            "connections_per_host_limit",
            "Maximum number of open connections of one host. +Inf: no limit.",
            limits.perHost,
        ),
        (
            "idle_timeout_seconds",
            "Time without a byte after which a connection is aborted. +Inf: never.",
            limits.idle,
        ),
    ):
        yield GaugeMetricFamily(f"echofactory_{name}", text, inf if limit is None else limit)


def workersMetrics(
    workers: Sequence[WorkerState], read: Callable[[int], Usage | None] = usageOf
) -> Iterable[Metric]:
    """
    Return the metrics of the worker processes.

    @param read: returns what a process uses.
    """
    up = GaugeMetricFamily(
        "echofactory_worker_up", "1 if the worker process serves, else 0.", labels=["worker"]
    )
    restarts = CounterMetricFamily(
        "echofactory_worker_restarts",
        "Restarts of the worker process.",
        labels=["worker"],
    )
    open_ = GaugeMetricFamily(
        "echofactory_worker_connections_open",
        "Open connections of the worker process.",
        labels=["worker"],
    )
    processor = CounterMetricFamily(
        "echofactory_worker_cpu_seconds",
        "User and system CPU time of the worker process. A restart begins at 0.",
        labels=["worker"],
    )
    memory = GaugeMetricFamily(
        "echofactory_worker_resident_memory_bytes",
        "Memory of the worker process in RAM.",
        labels=["worker"],
    )
    descriptors = GaugeMetricFamily(
        "echofactory_worker_open_fds",
        "Open file descriptors of the worker process.",
        labels=["worker"],
    )
    for worker in workers:
        number = [str(worker.number)]
        up.add_metric(number, worker.listening)
        restarts.add_metric(number, worker.restarts)
        open_.add_metric(number, worker.open)
        usage = None if worker.pid is None else read(worker.pid)
        if usage is not None:
            processor.add_metric(number, usage.processorS)
            memory.add_metric(number, usage.residentBytes)
            descriptors.add_metric(number, usage.openDescriptors)
    return (up, restarts, open_, processor, memory, descriptors)


def programMetrics(started: datetime) -> Iterable[Metric]:
    """
    Return the metrics that every program has: its version, its start and its process.

    @param started: when the program started.
    """
    yield InfoMetricFamily(
        "echofactory_build",
        "Always 1. The labels are the versions of echofactory, Python and Twisted.",
        {
            "version": __version__,
            "python": platform.python_version(),
            "twisted": twistedVersion,
        },
    )
    yield GaugeMetricFamily(
        "echofactory_start_time_seconds",
        "Start time of the program, in seconds since 1970-01-01 UTC.",
        started.timestamp(),
    )
    yield from processMetrics()
