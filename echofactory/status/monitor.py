"""
The status of a monitor: the results of its connections as metrics, as JSON, and on the page.
"""

import os
import socket
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

from prometheus_client import Metric
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from echofactory._version import __version__
from echofactory.client.monitor import ProbeService
from echofactory.results.books import measured
from echofactory.results.failures import FailureKind
from echofactory.results.latency import PERCENTILES, Latency, statisticName
from echofactory.status.history import History, LastMinute
from echofactory.status.metrics import byLabel, programMetrics, withAll
from echofactory.status.usage import UsageMeter, percent, usageTiles
from echofactory.status.view import Table, View, chart, columns, timeText

BUCKETS_S = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05),
    *(0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
"""Upper bounds of the histograms' buckets, in seconds."""

_MS_NS = 1e6


def _histogram(name: str, text: str, latency: Latency) -> HistogramMetricFamily:
    counts, count, sumNs = latency.buckets(*(int(bound * 1e9) for bound in BUCKETS_S))
    # OpenMetrics wants 1.0, not 1.
    buckets = [
        (str(float(bound)), count) for bound, count in zip(BUCKETS_S, counts, strict=True)
    ]
    buckets.append(("+Inf", count))
    return HistogramMetricFamily(name, text, buckets, sumNs / 1e9)


class ProbeStatus:
    """
    The L{Status<echofactory.status.Status>} of a
    L{ProbeService<echofactory.client.monitor.ProbeService>}. Its health is C{ok} while at
    least one connection is up.

    Response time is measured from when a message was due, so that stalls of this process
    of up to one second are included. A message that is more than one second late is not
    sent, and is counted as left out.
    """

    def __init__(
        self, probing: ProbeService, target: str, clock: Callable[[], float] = perf_counter
    ) -> None:
        """
        @param probing: the monitor.
        @param target: the target of the connections, for the title of the page.
        @param clock: returns monotonic seconds.
        """
        self._probing = probing
        self._target = target
        self._clock = clock
        self._beganS = clock()
        self._started = datetime.now(UTC)
        self._history = History()
        self._results = probing.results
        self._counted = LastMinute[str]()
        # Totals over all starts of the service. Its own results begin at 0 at each start.
        self._totals = Counter(messages=0, failures=0)
        # Counts by histogram step, because sixty L{Latency} objects take 11 MB.
        self._responses = LastMinute[int]()
        self._usage = UsageMeter()

    @property
    def health(self) -> str:
        """See L{Status<echofactory.status.Status>}."""
        return "ok" if self._probing.results.open else "no connection is up"

    def begin(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        self._results = self._probing.results
        self._counted.begin(self._counts())
        self._responses.begin(measured(self._results).counts())
        atS = self._clock()
        self._usage.begin(atS, [os.getpid()])
        self._history.begin(atS, dict(self._totals))

    def sample(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        if self._results is not self._probing.results:
            # The service was started again, and its results began at 0.
            self._results = self._probing.results
            self._counted.begin({})
            self._responses.begin({})
        atS = self._clock()
        self._totals.update(self._counted.record(atS, self._counts()))
        # The last interval of the results ends at another time than this sample.
        came = self._responses.record(atS, measured(self._results).counts())
        p50, p99 = Latency.fromCounts(came).percentiles(50.0, 99.0)
        self._usage.sample(atS, [os.getpid()])
        levels = {
            "up": self._results.open,
            "p50": _ms(p50),
            "p99": _ms(p99),
            "processor_percent": percent(self._usage.total),
        }
        self._history.record(atS, levels, dict(self._totals))

    def _counts(self) -> dict[str, int]:
        return {"messages": self._results.verified, "failures": self._results.failed}

    def collect(self) -> Iterable[Metric]:
        """See L{Status<echofactory.status.Status>}."""
        results = self._probing.results
        yield from programMetrics(self._started)
        yield GaugeMetricFamily(
            "echofactory_probe_connections_wanted",
            "Number of connections that the monitor keeps up.",
            self._probing.connections,
        )
        yield GaugeMetricFamily(
            "echofactory_probe_connections_up", "Connections that are up.", results.open
        )
        yield CounterMetricFamily(
            "echofactory_probe_attempts", "Connection attempts.", results.requested
        )
        yield byLabel(
            "echofactory_probe_failures",
            "Connections that failed, by kind.",
            "kind",
            withAll(map(str, FailureKind), self._failures()),
        )
        outcomes = {
            "verified": results.verified,
            "mismatched": results.mismatched,
            "unanswered": results.unanswered,
        }
        yield CounterMetricFamily(
            "echofactory_probe_messages_sent", "Messages sent.", results.sent
        )
        yield byLabel(
            "echofactory_probe_messages",
            "Messages by outcome: verified (echoed correctly), mismatched (echoed with wrong"
            " bytes), unanswered (the connection ended before the echo).",
            "outcome",
            outcomes,
        )
        yield CounterMetricFamily(
            "echofactory_probe_messages_left_out",
            "Messages not sent, because this process did not run within one second of when"
            " they were due.",
            self._probing.skipped,
        )
        yield _histogram(
            "echofactory_probe_response_seconds",
            "Response time: from when a message was due until its last byte came back.",
            measured(results),
        )
        yield _histogram(
            "echofactory_probe_connect_seconds",
            "Connect time: from the request for a connection until it is up, including the"
            " TLS handshake.",
            results.connect,
        )

    def _failures(self) -> dict[str, int]:
        return {str(kind): n for kind, n in sorted(self._probing.results.failures.items())}

    async def facts(self) -> dict[str, Any]:
        """See L{Status<echofactory.status.Status>}."""
        results = self._probing.results
        history = self._history
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started.isoformat(timespec="milliseconds"),
            "uptime_s": round(self._clock() - self._beganS, 1),
            "host": socket.gethostname(),
            "target": self._target,
            "messages_per_s": self._probing.rate,
            "message_size": self._probing.size,
            "usage": self._usage.facts([os.getpid()]),
            "connections": {
                "wanted": self._probing.connections,
                "up": results.open,
                "attempts": results.requested,
            },
            "messages": {
                "sent": results.sent,
                "verified": results.verified,
                "mismatched": results.mismatched,
                "unanswered": results.unanswered,
            },
            "failures": self._failures(),
            "since": results.started.isoformat(timespec="milliseconds"),
            "last_minute": {
                **withAll(self._totals, self._counted.total()),
                "response_ns": Latency.fromCounts(self._responses.total()).asJSON(),
            },
            "latest": {
                str(kind): {
                    "at": self._probing.latestAt[kind].isoformat(timespec="milliseconds"),
                    **example.asJSON(),
                }
                for kind, example in results.examples.items()
            },
            "response_ns": measured(results).asJSON(),
            "connect_ns": results.connect.asJSON(),
            "history": {
                "t_s": [t for t, _ in history.points("up")],
                **{
                    name: [value for _, value in history.points(name)]
                    for name in (
                        *("up", "p50", "p99", "messages", "failures"),
                        "processor_percent",
                    )
                },
            },
        }

    def view(self, facts: dict[str, Any]) -> View:
        """See L{Status<echofactory.status.Status>}."""
        up, wanted = facts["connections"]["up"], facts["connections"]["wanted"]
        lastMinute, history = facts["last_minute"], facts["history"]
        response, recent = facts["response_ns"], lastMinute["response_ns"]
        since = timeText(facts["since"])
        failures: Table = {
            "caption": "Failures",
            "since": since,
            "columns": columns(("kind", ""), ("count", ""), ("latest", "")),
            "rows": [
                (kind, count, _latest(facts["latest"].get(kind)))
                for kind, count in facts["failures"].items()
            ],
            "empty": "No failures.",
        }
        ladder: Table = {
            "caption": "Response times",
            "since": since,
            "columns": columns(("percentile", ""), ("response time", "ms")),
            "rows": [
                (statisticName(field), _ms(response[field]))
                for field in ("min", *PERCENTILES, "max")
            ],
            "empty": "",
        }
        return {
            "title": f"multiecho-client: {facts['target']}",
            "state": "all up" if up == wanted else f"{up} of {wanted} up",
            "condition": "well" if up == wanted else "impaired" if up else "down",
            "about": [
                {"name": "Host", "value": facts["host"], "unit": ""},
                {"name": "Target", "value": facts["target"], "unit": ""},
                {"name": "Messages wanted", "value": facts["messages_per_s"], "unit": "/s"},
                {"name": "Message size", "value": facts["message_size"], "unit": "B"},
                {"name": "Uptime", "value": facts["uptime_s"], "unit": "s"},
            ],
            "tiles": [
                {"name": "Connections up", "value": up, "unit": f"of {wanted}"},
                {
                    "name": "Messages verified, last minute",
                    "value": lastMinute["messages"],
                    "unit": "",
                },
                {
                    "name": "Failures, last minute",
                    "value": lastMinute["failures"],
                    "unit": "",
                },
                {
                    "name": "Response p50, last minute",
                    "value": _ms(recent["p50"]),
                    "unit": "ms",
                },
                {
                    "name": "Response p99, last minute",
                    "value": _ms(recent["p99"]),
                    "unit": "ms",
                },
                *usageTiles(facts["usage"]),
            ],
            "charts": [
                chart("Connections up", "", history, "up"),
                chart("Messages verified", "/s", history, "messages"),
                chart("Failures", "/s", history, "failures"),
                chart("Response time, p50", "ms", history, "p50"),
                chart("Response time, p99", "ms", history, "p99"),
                chart("Processor", "%", history, "processor_percent"),
            ],
            "tables": [failures, ladder],
            "footer": f"echofactory {facts['version']}, process {facts['pid']}",
        }


def _ms(ns: int | None) -> float | None:
    return None if ns is None else round(ns / _MS_NS, 3)


def _latest(example: dict[str, Any] | None) -> str:
    if example is None:
        return ""
    at = timeText(example["at"])
    return f"{at}, connection {example['connection']} to {example['peer']}: {example['detail']}"
