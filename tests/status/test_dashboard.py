"""
The dashboard for Grafana: what it asks for is what the programs serve.
"""

import json
import re
from typing import Any

import pytest
from dashboard import dashboard
from documents import ROOT
from promql import checkExpression, parsed

FILE = ROOT / "deploy" / "grafana" / "echofactory.json"
BOARD: dict[str, Any] = json.loads(FILE.read_text("utf-8"))
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
UNITS = {"none", "cps", "s", "bytes", "binBps", "percentunit"}

each = pytest.mark.parametrize(
    "panel", PANELS, ids=lambda panel: f"{panel['id']} {panel['title']}"
)


def test_the_file_is_up_to_date() -> None:
    """It is what the script writes."""
    assert dashboard() == BOARD, (
        "run: python tests/support/dashboard.py >deploy/grafana/echofactory.json"
    )


@each
def test_metrics_of_a_panel(panel: dict[str, Any]) -> None:
    """Each metric, label and value is there, and each label of a legend."""
    for target in panel["targets"]:
        legend = re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])
        checkExpression(target["expr"], legend)


@each
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    """It has a title, an explanation, a unit that Grafana knows, and a legend."""
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    for target in panel["targets"]:
        assert target["legendFormat"] or panel["type"] == "table"


@each
def test_the_unit_of_a_panel(panel: dict[str, Any]) -> None:
    """A panel in seconds or bytes shows metrics in seconds or bytes."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    for target in panel["targets"]:
        names = [selector.metric for selector in parsed(target["expr"])[0]]
        if unit == "s":
            assert all("_seconds" in name for name in names)
        assert all("_bytes" in name for name in names) == (unit in ("bytes", "binBps"))
        assert ("rate(" in target["expr"]) == (unit in ("cps", "binBps")) or unit in (
            "s",
            "percentunit",
        )


def test_places_of_the_panels() -> None:
    """They have numbers of their own, fill the width, and do not overlap."""
    taken = set[tuple[int, int]]()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    assert {x for x, _ in taken} == set(range(24))
    numbers = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


def test_variables() -> None:
    """Each variable that a panel uses is chosen at the top, from a metric that is there."""
    listed = {variable["name"]: variable for variable in BOARD["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(BOARD["panels"])))
    assert used - {"__rate_interval", "__range"} == set(listed)
    for variable in listed.values():
        if variable["type"] == "query":
            (metric,) = re.findall(
                r"^label_values\((\w+), instance\)$", variable["query"]["query"]
            )
            checkExpression(metric)


def test_each_part_is_there() -> None:
    """Of the metrics of a server, a monitor and workers, the panels show the main ones."""
    shown = set[str]().union(*map(checkExpression, EXPRESSIONS))
    assert {
        "echofactory_connections_open",
        "echofactory_connections_refused_total",
        "echofactory_worker_up",
        "echofactory_probe_response_seconds_bucket",
        "echofactory_probe_failures_total",
        "process_resident_memory_bytes",
    } <= shown
    assert "echofactory_connections_lost_total" not in shown, "it is deprecated"
