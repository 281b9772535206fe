"""
The page of the metrics is what the programs serve.
"""

import re

from documents import ROOT
from metrics_page import page, sampleName, sections


def test_the_page_is_up_to_date() -> None:
    """It is what the script writes, to the letter."""
    assert (ROOT / "docs" / "metrics.md").read_text("utf-8") == page(), (
        "run: python tests/support/metrics_page.py >docs/metrics.md"
    )


def test_each_metric_is_there_once() -> None:
    """And those of every room are there."""
    names = [sampleName(metric) for section in sections() for metric in section.metrics]
    assert len(set(names)) == len(names)
    assert {
        "echofactory_build_info{python, twisted, version}",
        "echofactory_connections_refused_total{limit}",
        "echofactory_probe_response_seconds",
        "echofactory_run_info{target, title, version}",
        "echofactory_worker_up{worker}",
        "process_cpu_seconds_total",
    } <= set(names)


def test_metrics_in_the_other_pages() -> None:
    """Each metric that a page, a dashboard or an alert names is in the table."""
    known = {
        sampleName(metric).partition("{")[0]
        for section in sections()
        for metric in section.metrics
    }
    known |= {f"{name}_{end}" for name in known for end in ("bucket", "count", "sum")}
    for path in (ROOT / "docs").glob("*.md"):
        named = re.findall(
            r"\bechofactory_(?:probe_|worker_|connections_)\w+", path.read_text()
        )
        assert set(named) <= known, path.name
