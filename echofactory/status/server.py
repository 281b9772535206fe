"""
The status of an echo server: its counts as metrics, as JSON, and on the page.
"""

import os
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from prometheus_client import Metric
from prometheus_client.metrics_core import GaugeMetricFamily
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from echofactory._version import __version__
from echofactory.express.addresstext import addressText
from echofactory.server.counts import LOSSES, REFUSALS, CountsSource
from echofactory.server.guard import UNANSWERED
from echofactory.status.history import History, LastMinute
from echofactory.status.metrics import (
    countsMetrics,
    limitsMetrics,
    programMetrics,
    withAll,
    workersMetrics,
)
from echofactory.status.usage import UsageMeter, percent, usageTiles
from echofactory.status.view import Condition, Table, Tile, View, chart, columns, timeText

_CONDITIONS: Mapping[str, Condition] = {"ok": "well", "draining": "impaired"}
"""The page's condition, by health. For any other health, it is C{down}."""


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
        self._usage = UsageMeter()

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
        atS = self._clock()
        self._usage.begin(atS, self._pids())
        self._history.begin(atS, self._totals())

    def sample(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        self._counts = self._source.counts()
        atS = self._clock()
        self._lastMinute.record(atS, self._tiled())
        self._usage.sample(atS, self._pids())
        levels = {"open": self._counts.open, "processor_percent": percent(self._usage.total)}
        self._history.record(atS, levels, self._totals())

    def _pids(self) -> list[int]:
        """Return this process and its workers."""
        workers = (worker.pid for worker in self._source.workers())
        return [os.getpid(), *(pid for pid in workers if pid is not None)]

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
        yield from programMetrics(self._started)
        yield GaugeMetricFamily(
            "echofactory_draining",
            "1 if the server is stopping and waits for open connections, else 0.",
            self._source.draining,
        )
        yield from limitsMetrics(self._source.limits)
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
        limits = self._source.limits
        history = self._history
        open_ = history.points("open")
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started.isoformat(timespec="milliseconds"),
            "uptime_s": round(self._clock() - self._beganS, 1),
            "host": socket.gethostname(),
            "addresses": [_listeningText(each) for each in self._source.addresses],
            "limits": {
                "connections": limits.connections,
                "per_host": limits.perHost,
                "idle_timeout_s": limits.idle,
            },
            "usage": self._usage.facts(self._pids()),
            "draining": self._source.draining,
            "health": self.health,
            "counts": counts,
            "last_minute": withAll(self._tiled(), self._lastMinute.total()),
            "peers": [
                {"host": peer.host, "open": peer.open, "bytes_in": peer.bytesIn}
                for peer in peers
            ],
            "workers": [
                worker._asdict() | self._usage.facts([] if worker.pid is None else [worker.pid])
                for worker in self._source.workers()
            ],
            "history": {
                "t_s": [t for t, _ in open_],
                "open": [value for _, value in open_],
                "chunks_per_s": [value for _, value in history.points("chunks")],
                "bytes_per_s": [value for _, value in history.points("bytes")],
                "processor_percent": [
                    value for _, value in history.points("processor_percent")
                ],
            },
        }

    def view(self, facts: dict[str, Any]) -> View:
        """See L{Status<echofactory.status.Status>}."""
        counts, lastMinute = facts["counts"], facts["last_minute"]
        since = timeText(facts["started"])
        most = facts["limits"]["connections"]
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
            "about": _about(facts),
            "tiles": [
                {
                    "name": "Open connections",
                    "value": counts["open"],
                    "unit": "" if most is None else f"of {most:,}",
                },
                {"name": "Accepted, last minute", "value": lastMinute["accepted"], "unit": ""},
                {"name": "Refused, last minute", "value": lastMinute["refused"], "unit": ""},
                {"name": "Received, last minute", "value": lastMinute["bytes_in"], "unit": "B"},
                {"name": "Sent, last minute", "value": lastMinute["bytes_out"], "unit": "B"},
                *usageTiles(facts["usage"]),
            ],
            "charts": [
                chart("Open connections", "", facts["history"], "open"),
                chart("Chunks received", "/s", facts["history"], "chunks_per_s"),
                chart("Bytes received", "B/s", facts["history"], "bytes_per_s"),
                chart("Processor", "%", facts["history"], "processor_percent"),
            ],
            "tables": tables,
            "footer": f"echofactory {facts['version']}, process {facts['pid']}",
        }


def _listeningText(address: IAddress) -> str:
    """Write an address, and C{udp} before an address of UDP."""
    udp = isinstance(address, IPv4Address | IPv6Address) and address.type == "UDP"
    return f"udp {addressText(address)}" if udp else addressText(address)


def _about(facts: Mapping[str, Any]) -> list[Tile]:
    limits = facts["limits"]
    idle = limits["idle_timeout_s"]
    return [
        {"name": "Host", "value": facts["host"], "unit": ""},
        {
            "name": "Listening on",
            # "udp" stays in one line with its address.
            "value": ", ".join(facts["addresses"]).replace("udp ", "udp\N{NO-BREAK SPACE}")
            or "nothing",
            "unit": "",
        },
        {
            "name": "Connection limit",
            "value": "none" if limits["connections"] is None else limits["connections"],
            "unit": "",
        },
        {
            "name": "Limit per host",
            "value": "none" if limits["per_host"] is None else limits["per_host"],
            "unit": "",
        },
        {"name": "Idle timeout", "value": "none" if idle is None else idle, "unit": "s"},
        {"name": "Uptime", "value": facts["uptime_s"], "unit": "s"},
    ]


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
    used = (("processor", "%"), ("memory", "B"), ("descriptors", ""))
    return {
        "caption": "Workers",
        "since": "",
        "columns": columns(*((name, "") for name in names), *used),
        "rows": [
            (
                f"{worker['number']}",
                _workerState(worker),
                None if worker["pid"] is None else f"{worker['pid']}",
                worker["restarts"],
                worker["open"],
                percent(worker["processor_cores"]),
                worker["resident_bytes"],
                worker["open_descriptors"],
            )
            for worker in workers
        ],
        "empty": "",
    }
