"""
The status of an echo server: its counts as metrics, as JSON, and on the page.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from echofactory._version import __version__
from echofactory.server.counts import LOSSES, REFUSALS, Counts, CountsSource, WorkerState
from echofactory.server.guard import UNANSWERED
from echofactory.status.history import History, LastMinute
from echofactory.status.view import Chart, Column, Condition, Table, View

_CONDITIONS: Mapping[str, Condition] = {"ok": "well", "draining": "impaired"}
"""The page's condition, by health. For any other health, it is C{down}."""


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
    yield byLabel(
        "echofactory_connections_lost",
        _explained("Connections closed, by how they ended", LOSSES),
        "how",
        withAll(LOSSES, counts.lost),
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


def workersMetrics(workers: Sequence[WorkerState]) -> Iterable[Metric]:
    """Return the metrics of the worker processes."""
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
    for worker in workers:
        number = [str(worker.number)]
        up.add_metric(number, worker.listening)
        restarts.add_metric(number, worker.restarts)
        open_.add_metric(number, worker.open)
    return (up, restarts, open_)


class ServerStatus:
    """
    The L{Status<echofactory.status.Status>} of an echo server.
    """

    def __init__(
        self,
        source: CountsSource,
        title: str = "multiecho",
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """
        @param source: the source of the counts.
        @param title: the title of the page. Default: C{multiecho}.
        @param clock: returns monotonic seconds.
        """
        self._source = source
        self._title = title
        self._clock = clock
        self._beganS = clock()
        self._started = datetime.now(UTC)
        self._counts = source.counts()
        self._history = History()
        self._lastMinute = LastMinute[str]()

    @property
    def health(self) -> str:
        """See L{Status<echofactory.status.Status>}."""
        if self._source.draining:
            return "draining"
        workers = self._source.workers()
        if workers and not any(worker.listening for worker in workers):
            return "no worker is up"
        return "ok"

    def begin(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        self._counts = self._source.counts()
        self._lastMinute.begin(self._tiled())
        self._history.begin(self._clock(), self._totals())

    def sample(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        self._counts = self._source.counts()
        atS = self._clock()
        self._lastMinute.record(atS, self._tiled())
        self._history.record(atS, {"open": self._counts.open}, self._totals())

    def _tiled(self) -> dict[str, int]:
        """Return the counts whose last minute the page shows."""
        return {
            "accepted": self._counts.accepted,
            "refused": sum(self._counts.refused.values()),
            "bytes_in": self._counts.bytesIn,
            "bytes_out": self._counts.bytesOut,
        }

    def _totals(self) -> dict[str, float]:
        return {"chunks": self._counts.chunks, "bytes": self._counts.bytesIn}

    def collect(self) -> Iterable[Metric]:
        """See L{Status<echofactory.status.Status>}."""
        build = GaugeMetricFamily(
            "echofactory_build_info", "Always 1. The label is the version.", labels=["version"]
        )
        build.add_metric([__version__], 1)
        yield build
        yield GaugeMetricFamily(
            "echofactory_start_time_seconds",
            "Start time of the server, in seconds since 1970-01-01 UTC.",
            self._started.timestamp(),
        )
        yield GaugeMetricFamily(
            "echofactory_draining",
            "1 if the server is stopping and waits for open connections, else 0.",
            self._source.draining,
        )
        yield from countsMetrics(self._source.counts())
        if workers := self._source.workers():
            yield from workersMetrics(workers)

    async def facts(self) -> dict[str, Any]:
        """See L{Status<echofactory.status.Status>}."""
        # The peers come first. A sample can be taken while this waits for them, and all other
        # values must be of the same moment.
        peers = await self._source.peers()
        counts = asdict(self._counts)
        counts["bytes_in"] = counts.pop("bytesIn")
        counts["bytes_out"] = counts.pop("bytesOut")
        counts["refused"] = withAll(REFUSALS, self._counts.refused)
        counts["lost"] = withAll(LOSSES, self._counts.lost)
        history = self._history
        open_ = history.points("open")
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started.isoformat(timespec="milliseconds"),
            "uptime_s": round(self._clock() - self._beganS, 1),
            "draining": self._source.draining,
            "health": self.health,
            "counts": counts,
            "last_minute": withAll(self._tiled(), self._lastMinute.total()),
            "peers": [
                {"host": peer.host, "open": peer.open, "bytes_in": peer.bytesIn}
                for peer in peers
            ],
            "workers": [worker._asdict() for worker in self._source.workers()],
            "history": {
                "t_s": [t for t, _ in open_],
                "open": [value for _, value in open_],
                "chunks_per_s": [value for _, value in history.points("chunks")],
                "bytes_per_s": [value for _, value in history.points("bytes")],
            },
        }

    def view(self, facts: dict[str, Any]) -> View:
        """See L{Status<echofactory.status.Status>}."""
        counts, lastMinute = facts["counts"], facts["last_minute"]
        since = timeText(facts["started"])
        tables: list[Table] = [
            _byKind("Connections refused", since, "reason", REFUSALS, counts["refused"]),
            _byKind("Connections closed", since, "how", LOSSES, counts["lost"]),
            {
                "caption": "Peers by bytes received",
                "since": "",
                "columns": columns(("host", ""), ("open", ""), ("received", "B")),
                "rows": [
                    (peer["host"] or "UNIX socket", peer["open"], peer["bytes_in"])
                    for peer in facts["peers"]
                ],
                "empty": "No open connections.",
            },
            {
                "caption": "Totals",
                "since": since,
                "columns": columns(
                    ("accepted", ""), ("chunks", ""), ("received", "B"), ("sent", "B")
                ),
                "rows": [
                    tuple(
                        counts[each] for each in ("accepted", "chunks", "bytes_in", "bytes_out")
                    )
                ],
                "empty": "",
            },
        ]
        if counts["datagrams"] or counts["unanswered"]:
            tables.append(_datagramsTable(since, counts))
        if facts["workers"]:
            tables.append(_workersTable(facts["workers"]))
        return {
            "title": self._title,
            "state": "serving" if facts["health"] == "ok" else facts["health"],
            "condition": _CONDITIONS.get(facts["health"], "down"),
            "tiles": [
                {"name": "Open connections", "value": counts["open"], "unit": ""},
                {"name": "Accepted, last minute", "value": lastMinute["accepted"], "unit": ""},
                {"name": "Refused, last minute", "value": lastMinute["refused"], "unit": ""},
                {"name": "Received, last minute", "value": lastMinute["bytes_in"], "unit": "B"},
                {"name": "Sent, last minute", "value": lastMinute["bytes_out"], "unit": "B"},
                {"name": "Uptime", "value": facts["uptime_s"], "unit": "s"},
            ],
            "charts": [
                chart("Open connections", "", facts["history"], "open"),
                chart("Chunks received", "/s", facts["history"], "chunks_per_s"),
                chart("Bytes received", "B/s", facts["history"], "bytes_per_s"),
            ],
            "tables": tables,
            "footer": f"echofactory {facts['version']}, process {facts['pid']}",
        }


def timeText(iso: str) -> str:
    """Return a time, given in ISO 8601, as the page writes it."""
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S} UTC"


def chart(title: str, unit: str, history: dict[str, list[Any]], name: str) -> Chart:
    points = list(zip(history["t_s"], history[name], strict=True))
    return {"title": title, "unit": unit, "points": points}


def columns(*columns: tuple[str, str]) -> list[Column]:
    return [{"name": name, "unit": unit} for name, unit in columns]


def _byKind(
    caption: str, since: str, label: str, kinds: Mapping[str, str], counted: Mapping[str, int]
) -> Table:
    return {
        "caption": caption,
        "since": since,
        "columns": columns((label, ""), ("meaning", ""), ("count", "")),
        "rows": [(kind, kinds.get(kind, ""), count) for kind, count in counted.items()],
        "empty": "",
    }


def _datagramsTable(since: str, counts: Mapping[str, Any]) -> Table:
    return {
        "caption": "Datagrams",
        "since": since,
        "columns": columns(("result", ""), ("count", "")),
        "rows": [
            ("answered", counts["datagrams"]),
            *(
                (f"not answered, {UNANSWERED.get(why, why)}", count)
                for why, count in counts["unanswered"].items()
            ),
        ],
        "empty": "",
    }


def _workerState(worker: Mapping[str, Any]) -> str:
    if worker["listening"]:
        return "up"
    return "down" if worker["pid"] is None else "starting"


def _workersTable(workers: Sequence[dict[str, Any]]) -> Table:
    names = ("worker", "state", "process", "restarts", "open")
    return {
        "caption": "Workers",
        "since": "",
        "columns": columns(*((name, "") for name in names)),
        "rows": [
            (
                f"{worker['number']}",
                _workerState(worker),
                None if worker["pid"] is None else f"{worker['pid']}",
                worker["restarts"],
                worker["open"],
            )
            for worker in workers
        ],
        "empty": "",
    }
