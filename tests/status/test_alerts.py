"""
The alerts for Prometheus: what they ask for is what the programs serve, and each fires.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from dashboard import dashboard
from documents import ROOT
from programs import LIMIT
from promql import OWN_METRICS, checkExpression, served

FOLDER = ROOT / "deploy" / "prometheus"
RULES = FOLDER / "echofactory.rules.yml"
ALERTS: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load(RULES.read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
NAMES = [alert["alert"] for alert in ALERTS]

needsPromtool = pytest.mark.skipif(
    shutil.which("promtool") is None and "CI" not in os.environ, reason="there is no promtool"
)

# One sample per minute, for half an hour.
TROUBLE = {
    'up{job="echofactory-server", instance="a"}': "0x30",
    'up{job="echofactory-monitor", instance="b"}': "0x30",
    'echofactory_connections_open{instance="c"}': "95x30",
    'echofactory_connections_limit{instance="c"}': "100x30",
    'echofactory_connections_refused_total{instance="c", limit="host"}': "0+9x30",
    'echofactory_connections_refused_total{instance="c", limit="descriptors"}': "0+9x30",
    'echofactory_connections_closed_total{instance="c", how="error"}': "0+90x30",
    'echofactory_worker_up{instance="c", worker="1"}': "0x30",
    'echofactory_worker_restarts_total{instance="c", worker="1"}': "0+1x30",
    'echofactory_probe_connections_up{instance="d"}': "2x30",
    'echofactory_probe_connections_wanted{instance="d"}': "3x30",
    'echofactory_probe_failures_total{instance="d", kind="reset"}': "0+1x30",
    'echofactory_probe_messages_total{instance="d", outcome="mismatched"}': "0+1x30",
    'echofactory_probe_messages_total{instance="d", outcome="verified"}': "7x30",
    'echofactory_probe_response_seconds_bucket{instance="d", le="0.1"}': "0+50x30",
    'echofactory_probe_response_seconds_bucket{instance="d", le="0.25"}': "0+60x30",
    'echofactory_probe_response_seconds_bucket{instance="d", le="+Inf"}': "0+60x30",
    'echofactory_probe_messages_left_out_total{instance="d"}': "0+1x30",
}
WELL = {
    'up{job="echofactory-server", instance="a"}': "1x30",
    'up{job="echofactory-monitor", instance="b"}': "1x30",
    'up{job="another", instance="e"}': "0x30",
    'echofactory_connections_open{instance="c"}': "95000x30",
    'echofactory_connections_limit{instance="c"}': " ".join(31 * ["+Inf"]),
    'echofactory_connections_refused_total{instance="c", limit="host"}': "7x30",
    'echofactory_connections_refused_total{instance="c", limit="fault"}': "0+9x30",
    'echofactory_connections_closed_total{instance="c", how="done"}': "0+900x30",
    'echofactory_connections_closed_total{instance="c", how="error"}': "0+1x30",
    'echofactory_worker_up{instance="c", worker="1"}': "1x30",
    'echofactory_worker_restarts_total{instance="c", worker="1"}': "2x30",
    'echofactory_probe_connections_up{instance="d"}': "3x30",
    'echofactory_probe_connections_wanted{instance="d"}': "3x30",
    'echofactory_probe_failures_total{instance="d", kind="reset"}': "1x30",
    'echofactory_probe_messages_total{instance="d", outcome="mismatched"}': "1x30",
    'echofactory_probe_messages_total{instance="d", outcome="verified"}': "0+60x30",
    'echofactory_probe_response_seconds_bucket{instance="d", le="0.1"}': "0+60x30",
    'echofactory_probe_response_seconds_bucket{instance="d", le="0.25"}': "0+60x30",
    'echofactory_probe_response_seconds_bucket{instance="d", le="+Inf"}': "0+60x30",
    'echofactory_probe_messages_left_out_total{instance="d"}': "2x30",
}

each = pytest.mark.parametrize("alert", ALERTS, ids=NAMES)


@each
def test_metrics_of_an_alert(alert: dict[str, Any]) -> None:
    """Each metric, label and value is there, and each label that a text names."""
    texts = " ".join(alert["annotations"].values())
    checkExpression(alert["expr"], re.findall(r"\$labels\.(\w+)", texts))


@each
def test_an_alert_explains_itself(alert: dict[str, Any]) -> None:
    """It has a severity and two texts, and the guide lists it."""
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert {"summary", "description"} == set(alert["annotations"])
    assert all(text.endswith(".") for text in alert["annotations"].values())
    assert f"| `{alert['alert']}` |" in (ROOT / "docs" / "deploy.md").read_text("utf-8")


def test_names() -> None:
    """Each name is there once, and the guide has no others."""
    assert len(set(NAMES)) == len(NAMES)
    guide = (ROOT / "docs" / "deploy.md").read_text("utf-8")
    assert set(re.findall(r"^\| `(Echo\w+)` \|", guide, re.MULTILINE)) == set(NAMES)


@pytest.mark.parametrize("series", [TROUBLE, WELL], ids=["trouble", "well"])
def test_the_series_are_those_of_the_programs(series: dict[str, str]) -> None:
    """So what fires on them fires on a program's."""
    for selector in series:
        if not selector.startswith("up{"):
            checkExpression(selector)
    assert {selector.partition("{")[0] for selector in series} <= set(served()) | OWN_METRICS


def test_jobs_of_the_example() -> None:
    """The alerts name the jobs that the example scrapes, and the example loads the alerts."""
    example = yaml.safe_load((FOLDER / "prometheus.yml").read_text("utf-8"))
    jobs = {job["job_name"] for job in example["scrape_configs"]}
    assert set(re.findall(r'job="([^"]+)"', RULES.read_text("utf-8"))) == jobs
    assert example["rule_files"] == [RULES.name]


def promtool(*words: str) -> str:
    """Run promtool. Return what it prints."""
    done = subprocess.run(
        ["promtool", *words],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@needsPromtool
def test_promtool_reads_the_files() -> None:
    """It finds every rule, in the example too."""
    assert f"{len(ALERTS)} rules found" in promtool("check", "rules", str(RULES))
    promtool("check", "config", str(FOLDER / "prometheus.yml"))


@needsPromtool
def test_promtool_reads_the_dashboard(tmp_path: Path) -> None:
    """Each query is an expression that Prometheus accepts."""
    queries = [
        target["expr"] for panel in dashboard()["panels"] for target in panel.get("targets", [])
    ]
    rules = [
        {"record": f"panel:{number}", "expr": re.sub(r"\$__\w+", "5m", query)}
        for number, query in enumerate(queries)
    ]
    path = tmp_path / "dashboard.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(path))


@needsPromtool
@pytest.mark.parametrize(
    ("series", "fire"), [(TROUBLE, NAMES), (WELL, [])], ids=["trouble", "well"]
)
def test_alerts_fire(series: dict[str, str], fire: list[str], tmp_path: Path) -> None:
    """All of them in trouble, and none when all is well."""
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": of} for name, of in series.items()],
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": "20m",
                "exp_samples": [
                    {"labels": f'{{alertname="{name}"}}', "value": 1} for name in fire
                ],
            }
        ],
    }
    path = tmp_path / "alerts.yml"
    path.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [case]}))
    promtool("test", "rules", str(path))
