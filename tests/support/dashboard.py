"""
The dashboard for Grafana, deploy/grafana/echofactory.json:

    python tests/support/dashboard.py >deploy/grafana/echofactory.json
"""

import json
from typing import Any, NamedTuple

_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_SERVER = '{instance=~"$server"}'
_MONITOR = '{instance=~"$monitor"}'
_BOTH = '{instance=~"$server|$monitor"}'


class Panel(NamedTuple):
    """
    A panel.

    @ivar kind: the type of Grafana: C{timeseries}, C{stat}, C{heatmap} or C{table}.
    @ivar unit: the unit of Grafana, such as C{s} or C{cps} (counts per second).
    @ivar text: the explanation that the panel shows for its (i).
    @ivar queries: each expression, and its legend.
    @ivar width: of 24.
    @ivar limits: the values from which a figure has the second colour, and the third.
    @ivar colours: the colours; the first is that of figures below the limits.
    """

    kind: str
    title: str
    unit: str
    text: str
    queries: tuple[tuple[str, str], ...]
    width: int = 8
    limits: tuple[float, ...] = ()
    colours: tuple[str, ...] = ("green", "orange", "red")


def _quantiles(metric: str, *percentiles: int) -> tuple[tuple[str, str], ...]:
    return tuple(
        (
            f"histogram_quantile({percentile / 100},"
            f" sum by (instance, le) (rate({metric}_bucket{_MONITOR}[$__rate_interval])))",
            f"p{percentile} {{{{instance}}}}",
        )
        for percentile in percentiles
    )


def _rates(metric: str, chosen: str, legend: str) -> tuple[str, str]:
    return f"rate({metric}{chosen}[$__rate_interval])", legend


def _named(metric: str, label: str) -> str:
    """Return a rate that is one series for each value of a label, without those that are 0."""
    return f"sum by (instance, {label}) (rate({metric}[$__rate_interval])) > 0"


SERVER = (
    Panel(
        "stat", "Open connections", "none", "Connections that are open now, on each server.",
        ((f"echofactory_connections_open{_SERVER}", "{{instance}}"),), 6,
    ),
    Panel(
        "stat", "Connection limit in use", "percentunit",
        "Open connections, of --max-connections. 0 % if there is no limit.",
        (
            (
                f"echofactory_connections_open{_SERVER}"
                f" / echofactory_connections_limit{_SERVER}",
                "{{instance}}",
            ),
        ), 6, (0.7, 0.9),
    ),
    Panel(
        "stat", "Refused in the last hour", "none",
        "Connections closed immediately and not served, for any reason.",
        (
            (
                "sum by (instance)"
                f" (increase(echofactory_connections_refused_total{_SERVER}[1h]))",
                "{{instance}}",
            ),
        ), 6, (1, 1000),
    ),
    Panel(
        "stat", "Draining", "none",
        "1: the server is stopping, and waits for its open connections.",
        ((f"echofactory_draining{_SERVER}", "{{instance}}"),), 6, (1,),
    ),
    Panel(
        "timeseries", "Open connections", "none", "Connections that are open.",
        ((f"echofactory_connections_open{_SERVER}", "{{instance}}"),),
    ),
    Panel(
        "timeseries", "Accepted connections", "cps", "Connections accepted and served.",
        (_rates("echofactory_connections_accepted_total", _SERVER, "{{instance}}"),),
    ),
    Panel(
        "timeseries", "Refused connections, by reason", "cps",
        "Connections closed immediately and not served. No line: none was refused.",
        (
            (
                _named(f"echofactory_connections_refused_total{_SERVER}", "limit"),
                "{{limit}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "timeseries", "Closed connections, by how they ended", "cps",
        "done is an end in order. lost, aborted, idle, worker and error are not.",
        (
            (
                _named(f"echofactory_connections_closed_total{_SERVER}", "how"),
                "{{how}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "timeseries", "Bytes", "binBps",
        "Bytes received and sent. If sent stays below received, clients do not read.",
        (
            _rates("echofactory_received_bytes_total", _SERVER, "received {{instance}}"),
            _rates("echofactory_sent_bytes_total", _SERVER, "sent {{instance}}"),
        ),
    ),
    Panel(
        "timeseries", "Chunks", "cps",
        "Pieces as the transports delivered them. If messages are small and wait for their"
        " echo, chunks are messages.",
        (_rates("echofactory_chunks_total", _SERVER, "{{instance}}"),),
    ),
    Panel(
        "timeseries", "Datagrams", "cps", "UDP: datagrams answered, and those not answered.",
        (
            _rates("echofactory_datagrams_answered_total", _SERVER, "answered {{instance}}"),
            (
                _named(f"echofactory_datagrams_unanswered_total{_SERVER}", "why"),
                "{{why}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "timeseries", "Workers: open connections", "none",
        "With --workers: how the kernel distributes the connections. A worker that is down"
        " has no line.",
        (
            (
                f"echofactory_worker_connections_open{_SERVER}"
                f" and echofactory_worker_up{_SERVER} == 1",
                "worker {{worker}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "timeseries", "Workers: processor", "percentunit",
        "With --workers: 100 % is one core.",
        (
            _rates(
                "echofactory_worker_cpu_seconds_total", _SERVER,
                "worker {{worker}} {{instance}}",
            ),
        ),
    ),
)  # fmt: skip

MONITOR = (
    Panel(
        "stat", "Connections up", "percentunit", "Of those that the monitor keeps.",
        (
            (
                f"echofactory_probe_connections_up{_MONITOR}"
                f" / echofactory_probe_connections_wanted{_MONITOR}",
                "{{instance}}",
            ),
        ), 6, (0.01, 1), ("red", "orange", "green"),
    ),
    Panel(
        "stat", "Failures in the last hour", "none", "Connections that failed, of any kind.",
        (
            (
                f"sum by (instance) (increase(echofactory_probe_failures_total{_MONITOR}[1h]))",
                "{{instance}}",
            ),
        ), 6, (1, 10),
    ),
    Panel(
        "stat", "Altered messages in the last hour", "none",
        "Messages that came back with other bytes than were sent.",
        (
            (
                "sum by (instance) (increase(echofactory_probe_messages_total"
                '{instance=~"$monitor", outcome="mismatched"}[1h]))',
                "{{instance}}",
            ),
        ), 6, (1,), ("green", "red"),
    ),
    Panel(
        "stat", "Response time, p99", "s", "Over the time that the dashboard shows.",
        (
            (
                "histogram_quantile(0.99, sum by (instance, le)"
                f" (rate(echofactory_probe_response_seconds_bucket{_MONITOR}[$__range])))",
                "{{instance}}",
            ),
        ), 6,
    ),
    Panel(
        "timeseries", "Response time", "s",
        "From when a message was due until its last byte came back.",
        _quantiles("echofactory_probe_response_seconds", 50, 90, 99), 12,
    ),
    Panel(
        "heatmap", "Response time, distribution", "s",
        "Messages by response time. Two bands are two paths, or a queue.",
        (
            (
                "sum by (le) (increase(echofactory_probe_response_seconds_bucket"
                f"{_MONITOR}[$__rate_interval]))",
                "{{le}}",
            ),
        ), 12,
    ),
    Panel(
        "timeseries", "Connect time", "s",
        "From the request for a connection until it is up, including the TLS handshake.",
        _quantiles("echofactory_probe_connect_seconds", 50, 99),
    ),
    Panel(
        "timeseries", "Failures, by kind", "cps", "Connections that failed. No line: none.",
        (
            (
                _named(f"echofactory_probe_failures_total{_MONITOR}", "kind"),
                "{{kind}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "timeseries", "Messages, by outcome", "cps",
        "verified: echoed correctly. mismatched: echoed with wrong bytes. unanswered: the"
        " connection ended before the echo. left out: the monitor did not run in time.",
        (
            (
                _named(f"echofactory_probe_messages_total{_MONITOR}", "outcome"),
                "{{outcome}} {{instance}}",
            ),
            (
                "rate(echofactory_probe_messages_left_out_total"
                f"{_MONITOR}[$__rate_interval]) > 0",
                "left out {{instance}}",
            ),
        ),
    ),
)  # fmt: skip

PROGRAMS = (
    Panel(
        "timeseries", "Processor", "percentunit",
        "100 % is one core. With --workers, this process serves UDP and the status only.",
        (_rates("process_cpu_seconds_total", _BOTH, "{{instance}}"),),
    ),
    Panel(
        "timeseries", "Memory", "bytes", "Memory in RAM, of each process.",
        (
            (f"process_resident_memory_bytes{_BOTH}", "{{instance}}"),
            (
                f"echofactory_worker_resident_memory_bytes{_SERVER}",
                "worker {{worker}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "timeseries", "File descriptors in use", "percentunit",
        "Open descriptors, of the limit of the process.",
        (
            (f"process_open_fds{_BOTH} / process_max_fds{_BOTH}", "{{instance}}"),
            (
                f"echofactory_worker_open_fds{_SERVER} / on (instance, job) group_left ()"
                f" process_max_fds{_SERVER}",
                "worker {{worker}} {{instance}}",
            ),
        ),
    ),
    Panel(
        "table", "Versions", "none", "The versions of echofactory, Python and Twisted.",
        ((f"echofactory_build_info{_BOTH}", ""),), 16,
    ),
    Panel(
        "stat", "Uptime", "s", "Time since the program started.",
        ((f"time() - echofactory_start_time_seconds{_BOTH}", "{{instance}}"),), 8,
    ),
)  # fmt: skip

_HEIGHTS = {"stat": 4, "timeseries": 8, "heatmap": 8, "table": 6}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "timeseries":
        return {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    if panel.kind == "stat":
        return {
            "colorMode": "value",
            "graphMode": "area",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto",
        }
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "cellGap": 1,
            "color": {"mode": "scheme", "scheme": "Oranges", "steps": 64},
            "yAxis": {"unit": panel.unit},
        }
    return {"showHeader": True}


def _targets(panel: Panel) -> list[dict[str, Any]]:
    """Return the queries of a panel, as Grafana has them."""
    format_ = {"heatmap": "heatmap", "table": "table"}.get(panel.kind, "time_series")
    return [
        {
            "datasource": _SOURCE,
            "expr": expression,
            "format": format_,
            "instant": panel.kind == "table",
            "legendFormat": legend,
            "range": panel.kind != "table",
            "refId": chr(ord("A") + number),
        }
        for number, (expression, legend) in enumerate(panel.queries)
    ]


def _panel(panel: Panel, number: int, x: int, y: int) -> dict[str, Any]:
    steps = [
        {"color": colour, "value": value}
        for colour, value in zip(panel.colours, (None, *panel.limits), strict=False)
    ]
    defaults: dict[str, Any] = {
        "unit": panel.unit,
        "thresholds": {"mode": "absolute", "steps": steps},
    }
    if panel.kind == "timeseries":
        # Otherwise an axis begins near the smallest value, and small changes look large.
        defaults["min"] = 0
        defaults["custom"] = {"fillOpacity": 8, "lineWidth": 1, "showPoints": "never"}
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": {"x": x, "y": y, "w": panel.width, "h": _HEIGHTS[panel.kind]},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": _options(panel),
        "targets": _targets(panel),
    }
    if panel.kind == "table":
        hidden = {"Time": True, "Value": True, "__name__": True}
        made["transformations"] = [{"id": "organize", "options": {"excludeByName": hidden}}]
    return made


def _panels() -> list[dict[str, Any]]:
    """Return the rows, and their panels from left to right."""
    made = list[dict[str, Any]]()
    y = 0
    rows = (("Server", SERVER), ("Monitor", MONITOR), ("Programs", PROGRAMS))
    for title, panels in rows:
        place = {"x": 0, "y": y, "w": 24, "h": 1}
        made.append(
            {"id": len(made) + 1, "type": "row", "title": title, "gridPos": place}
            | {"collapsed": False, "panels": []}
        )
        x, y, height = 0, y + 1, 0
        for panel in panels:
            if x + panel.width > 24:
                x, y, height = 0, y + height, 0
            made.append(_panel(panel, len(made) + 1, x, y))
            x += panel.width
            height = max(height, _HEIGHTS[panel.kind])
        y += height
    return made


def _variable(name: str, label: str, metric: str) -> dict[str, Any]:
    """Return a choice of the instances that have a metric."""
    query = f"label_values({metric}, instance)"
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
        # When the time range changes: instances come and go.
        "refresh": 2,
        "sort": 1,
    }


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return {
        "uid": "echofactory",
        "title": "echofactory",
        "description": "Echo servers, and the monitors of the paths to them.",
        "tags": ["echofactory"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                },
                _variable("server", "Server", "echofactory_connections_limit"),
                _variable("monitor", "Monitor", "echofactory_probe_connections_wanted"),
            ]
        },
        "panels": _panels(),
    }


if __name__ == "__main__":
    print(json.dumps(dashboard(), indent=2))
