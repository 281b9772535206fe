"""
The page of all metrics, docs/metrics.md, from what the programs serve:

    python tests/support/metrics_page.py >docs/metrics.md
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import NamedTuple, cast

from prometheus_client import Metric
from statuses import Source
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Clock

from echofactory.client.monitor import ProbeService
from echofactory.results.books import Results
from echofactory.server.counts import LOSSES, REFUSALS, Counts, WorkerState
from echofactory.server.guard import UNANSWERED
from echofactory.status.metrics import programMetrics
from echofactory.status.monitor import ProbeStatus
from echofactory.status.run import RunStatus
from echofactory.status.server import ServerStatus
from echofactory.workload.settings import Workload

_HEAD = """\
<!-- Written by: python tests/support/metrics_page.py >docs/metrics.md -->

# Metrics

Each program with `--status` serves its metrics at `/metrics`. The text of each metric below is
the help text that Prometheus receives.

If the scraper asks for OpenMetrics, the answer is OpenMetrics 1.0. The samples are the same.
[server.md](server.md#metrics) and [monitor.md](monitor.md#metrics) say how to use the metrics.

Times are in seconds, sizes in bytes. A counter begins at 0 when the program starts. A histogram
has `_bucket{le}`, `_count` and `_sum`.
"""

# What the metric's own label cannot say.
_VALUES = {
    "echofactory_connections_refused": REFUSALS,
    "echofactory_connections_closed": LOSSES,
    "echofactory_datagrams_unanswered": UNANSWERED,
}


class Section(NamedTuple):
    """
    Metrics that belong together.

    @ivar title: the heading.
    @ivar text: which program has them.
    """

    title: str
    text: str
    metrics: list[Metric]


def sections() -> list[Section]:
    """Return the metrics of each program, with those that all programs have in the first."""
    every = list(programMetrics(datetime.now(UTC)))
    common = {metric.name for metric in every}

    def own(metrics: Iterable[Metric]) -> list[Metric]:
        return [metric for metric in metrics if metric.name not in common]

    worker = WorkerState(1, os.getpid(), 0, 0, True)
    server = ServerStatus(Source(Counts(), processes=[worker]))
    clock = cast(IReactorTime, Clock())
    monitor = own(ProbeStatus(ProbeService(clock, "tcp:127.0.0.1:7"), "there").collect())
    common.update(metric.name for metric in monitor)
    results = Results(target="there", workload=Workload().facts(), requested=1)
    run = RunStatus(results, connections=1, size=64)
    return [
        Section("Every program", "The server, the monitor and a run of the client.", every),
        Section("Server", "`twistd -n multiecho`.", own(server.collect())),
        Section(
            "Monitor and run",
            "`twistd -n multiecho-client`, and `python -m echofactory.client`.",
            monitor,
        ),
        Section("Run", "`python -m echofactory.client`.", own(run.collect())),
    ]


def sampleName(metric: Metric) -> str:
    """Return a metric's name as a query names it, with its labels."""
    suffix = {"counter": "_total", "info": "_info"}.get(metric.type, "")
    labels = sorted({label for each in metric.samples for label in each.labels} - {"le"})
    named = f"{{{', '.join(labels)}}}" if labels else ""
    return f"{metric.name}{suffix}{named}"


def _row(metric: Metric) -> str:
    text = metric.documentation
    if metric.name in _VALUES:
        # The values follow in a table of their own.
        text = text.partition(":")[0] + "."
    kind = "gauge" if metric.type == "info" else metric.type
    return f"| `{sampleName(metric)}` | {kind} | {text} |"


def _values(metric: Metric) -> list[str]:
    label = next(iter(metric.samples[0].labels))
    lines = [
        "",
        f"Values of `{label}` in `{sampleName(metric)}`:",
        "",
        f"| {label} | meaning |",
    ]
    lines.append("|---|---|")
    lines += [f"| `{value}` | {text} |" for value, text in _VALUES[metric.name].items()]
    return lines


def page() -> str:
    """Return the page, as Markdown."""
    lines = []
    for section in sections():
        lines += ["", f"## {section.title}", "", section.text, ""]
        lines += ["| metric | type | meaning |", "|---|---|---|"]
        lines += [_row(metric) for metric in section.metrics]
        for metric in section.metrics:
            if metric.name in _VALUES:
                lines += _values(metric)
    return _HEAD + "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
