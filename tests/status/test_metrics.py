"""
The metrics: their names, their formats, and the choice of the format.
"""

import os
import re
import resource
from collections.abc import Iterable
from math import inf
from typing import Any, cast

import pytest
from programs import withStatus
from prometheus_client import CollectorRegistry, Metric, ProcessCollector, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as openMetrics
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openMetricsFamilies,
)
from prometheus_client.parser import text_string_to_metric_families as families
from prometheus_client.registry import Collector
from statuses import Source, get

from echofactory import Limits, ProbeService
from echofactory.server.counts import Counts, WorkerState
from echofactory.status import ProbeStatus, ServerStatus
from echofactory.status.metrics import workersMetrics
from echofactory.status.usage import Usage, processMetrics
from echofactory.status.web import wantsOpenMetrics

pytestmark = pytest.mark.oldest

_OTHER_UNITS = re.compile(
    r"_(ms|us|ns|milliseconds|microseconds|nanoseconds|minutes|hours|days|kib|mib|gib|kilobytes"
    r"|megabytes|percent|percentage)(_|$)"
)


def registered(status: ServerStatus | ProbeStatus) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(cast(Collector, status))
    return registry


@pytest.fixture(params=["server", "monitor"])
def registry(request: pytest.FixtureRequest, reactor: Any) -> CollectorRegistry:
    """All metrics of a program."""
    if request.param == "monitor":
        return registered(ProbeStatus(ProbeService(reactor, "tcp:127.0.0.1:7"), "there"))
    own = WorkerState(1, os.getpid(), 0, 5, True)
    return registered(ServerStatus(Source(Counts(lost={"done": 1}), processes=[own])))


def faults(family: Metric) -> Iterable[str]:
    """Return which rules of C{promtool check metrics} a metric breaks."""
    name = family.name + ("_total" if family.type == "counter" else "")
    if not family.documentation:
        yield "no help"
    if family.type not in ("counter", "gauge", "histogram"):
        yield f"type {family.type}"
    if not re.fullmatch("[a-z][a-z0-9_]*", name):
        yield "not in snake case, or a colon"
    if _OTHER_UNITS.search(name):
        yield "not a base unit"
    if re.search("_(counter|gauge|histogram|summary)(_|$)", name):
        yield "the type in the name"
    suffixes = ("_total", "_count", "_sum", "_bucket")
    if family.type == "gauge" and name.endswith(suffixes):
        yield "a gauge with the suffix of another type"
    labels = {label for each in family.samples for label in each.labels}
    if family.type != "histogram" and labels & {"le", "quantile"}:
        yield "a label of histograms"
    if family.type == "counter" and any(
        not each.name.endswith("_total") for each in family.samples
    ):
        yield "a sample of a counter without _total"


def test_the_rules_of_names(registry: CollectorRegistry) -> None:
    """Those of promtool; each metric once, and of one of our names."""
    found = list(families(generate_latest(registry).decode()))
    assert {each.name: list(faults(each)) for each in found if list(faults(each))} == {}
    names = [each.name for each in found]
    assert len(set(names)) == len(names)
    assert all(name.startswith(("echofactory_", "process_")) for name in names)


def test_a_metric_against_the_rules() -> None:
    """The test above can fail."""
    bad = families("# TYPE a_Ms gauge\na_Ms 1\n# HELP b_sum x\n# TYPE b_sum gauge\nb_sum 1\n")
    assert [list(faults(each)) for each in bad] == [
        ["no help", "not in snake case, or a colon"],
        ["a gauge with the suffix of another type"],
    ]


def test_open_metrics_say_the_same(registry: CollectorRegistry) -> None:
    """A strict reader takes them, and finds each sample of the other format."""

    def samples(found: Iterable[Metric]) -> set[tuple[str, str]]:
        return {(each.name, str(each.labels)) for family in found for each in family.samples}

    plain = samples(families(generate_latest(registry).decode()))
    text = openMetrics(registry).decode()
    assert text.endswith("# EOF\n")
    assert samples(openMetricsFamilies(text)) == plain
    assert not any(name.endswith("_created") for name, _ in plain)


_PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,"
    "*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "open_"),
    [
        (_PROMETHEUS, True),
        ("application/openmetrics-text", True),
        ("Application/OpenMetrics-Text; Q=0.1", True),
        ("text/plain, application/openmetrics-text", True),
        ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.1", False),
        ("application/openmetrics-text;q=0", False),
        ("application/openmetrics-text;q=much", False),
        ("application/openmetrics-text;q=", False),
        ("text/html,*/*;q=0.8", False),
        (";,;;q=1,", False),
        ("", False),
    ],
)
def test_the_format_that_is_asked_for(accept: str, open_: bool) -> None:
    """Browsers and curl get the text that people know."""
    assert wantsOpenMetrics(accept) is open_


def test_both_formats_from_one_port() -> None:
    """Each with its type, whatever was asked for before."""
    with withStatus() as (_, _, port):
        for _ in range(2):
            plain = get(port, "/metrics", accept="*/*")
            assert plain.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
            assert "# EOF" not in plain.body
            found = get(port, "/metrics", accept=_PROMETHEUS)
            kind = "application/openmetrics-text; version=1.0.0; charset=utf-8"
            assert found.headers["Content-Type"] == kind
            assert found.body.endswith("# EOF\n")


def test_limits() -> None:
    """What has no limit is infinity, so that an alert's comparison is false."""
    names = ("connections_limit", "connections_per_host_limit", "idle_timeout_seconds")
    for limits, expected in (
        (Limits(), [inf, inf, inf]),
        (Limits(connections=100, perHost=7, idle=1.5), [100, 7, 1.5]),
    ):
        registry = registered(ServerStatus(Source(limits=limits)))
        found = [registry.get_sample_value(f"echofactory_{name}") for name in names]
        assert found == expected


def test_connections_closed_and_the_old_name() -> None:
    """Both until the next release."""
    registry = registered(ServerStatus(Source(Counts(accepted=5, lost={"done": 4, "idle": 1}))))
    for how, count in (("done", 4), ("idle", 1), ("aborted", 0)):
        for name in ("closed", "lost"):
            total = f"echofactory_connections_{name}_total"
            assert registry.get_sample_value(total, {"how": how}) == count
    text = generate_latest(registry).decode()
    assert "# HELP echofactory_connections_lost_total Deprecated" in text


def test_the_process_has_the_names_that_dashboards_know() -> None:
    """Names, types and values of the library's own collector, which is slow."""
    ours = {each.name: each for each in processMetrics()}
    theirs = {each.name: each for each in ProcessCollector(registry=None).collect()}
    assert {name: each.type for name, each in ours.items()} == {
        name: each.type for name, each in theirs.items()
    }

    def both(name: str) -> list[float]:
        return [each[f"process_{name}"].samples[0].value for each in (ours, theirs)]

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert both("max_fds") == [most, most]
    for name in ("resident_memory_bytes", "virtual_memory_bytes", "start_time_seconds"):
        assert both(name)[0] == pytest.approx(both(name)[1], rel=0.2)
    assert abs(both("open_fds")[0] - both("open_fds")[1]) < 10
    assert ours["process_cpu_seconds"].samples[0].value > 0


def test_the_use_of_workers() -> None:
    """Each its own; of one that is down, none."""
    up, down = WorkerState(1, 4711, 0, 5, True), WorkerState(2, None, 3, 0, False)
    registry = CollectorRegistry()

    class Workers(Collector):
        def collect(self) -> Iterable[Metric]:
            return workersMetrics([up, down], {4711: Usage(1.5, 1 << 20, 0, 0.0, 7, 9)}.get)

    registry.register(Workers())
    for name, value in (
        ("cpu_seconds_total", 1.5),
        ("resident_memory_bytes", 1 << 20),
        ("open_fds", 7),
    ):
        for worker, expected in (("1", value), ("2", None)):
            found = registry.get_sample_value(f"echofactory_worker_{name}", {"worker": worker})
            assert found == expected
