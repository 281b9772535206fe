"""
What the plots draw: by the lines, bands and texts of the figure, and by the SVG.
"""

from dataclasses import replace
from io import BytesIO
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from runs import MS, S, drawnRun, failedRun, searchedRun

from echofactory.report.compare import Run
from echofactory.report.course import (
    curve,
    limits,
    options,
    pieces,
    schedule,
    shortNames,
    stepFields,
)
from echofactory.report.palette import (
    COLOURS,
    DARK_COLOURS,
    DARK_PAPER,
    DIM,
    INK,
    PAPER,
    contrast,
)
from echofactory.report.plot import draw, figure
from echofactory.results.books import Results
from echofactory.results.expectations import Expectation, Judgement
from echofactory.results.latency import Latency
from echofactory.results.search import Ending, SearchOutcome

if TYPE_CHECKING:
    from matplotlib.axes import Axes

pytestmark = pytest.mark.oldest


def panels(*runs: Results, command: str = "") -> "dict[str, Axes]":
    """Return the axes of a figure by their titles, after they were laid out."""
    named = [Run(f"run{number}.json", results) for number, results in enumerate(runs, 1)]
    drawn = figure(named, command)
    drawn.savefig(BytesIO(), format="svg")
    return {axes.get_title(loc="left"): axes for axes in drawn.axes}


def texts(axes: "Axes") -> list[str]:
    legend = axes.get_legend()
    return [] if legend is None else [text.get_text() for text in legend.get_texts()]


def heading(axes: "Axes") -> str:
    return "\n".join(text.get_text() for text in axes.texts)


@pytest.mark.parametrize("runs", [1, 4])
def test_no_legend_covers_data(runs: int) -> None:
    """Each stands beside its axes, and within the picture."""
    for title, axes in panels(*[drawnRun([100] * 3)] * runs).items():
        legend = axes.get_legend()
        if not title:
            continue
        assert legend is not None, title
        assert axes.figure is not None
        box, around = legend.get_window_extent(), axes.get_window_extent()
        assert box.x0 >= around.x1, title
        assert box.x1 <= axes.figure.get_window_extent().x1, title


def test_latency_axes_begin_where_response_times_do() -> None:
    """A send lag that is far below is a note in the legend."""
    axes = panels(drawnRun([100] * 3))["Latency by percentile"]
    low, high = axes.get_ylim()
    assert 4 * MS < low < 5 * MS
    assert 150 * MS < high < 200 * MS
    assert texts(axes)[2] == "send lag, at most 1.0 µs"


def test_a_higher_send_lag_is_drawn() -> None:
    """It has a line like the others."""
    results = drawnRun([100] * 3)
    results.sendLag.record(20 * MS)
    assert texts(panels(results)["Latency by percentile"]) == [
        "response time",
        "service time",
        "send lag",
    ]


def test_time_begins_and_ends_with_the_intervals() -> None:
    """There is no margin."""
    for title in ("Response time per interval", "Messages verified per second"):
        assert panels(drawnRun([100] * 3))[title].get_xlim() == (0.0, 3.0)


def test_a_partial_interval_does_not_stretch_the_scale() -> None:
    """After a stall, 500 replies in 20 ms: a triangle at the top, with what it holds."""
    axes = panels(drawnRun([100, 100, 0, 500], lastNs=20 * MS))["Messages verified per second"]
    assert axes.get_ylim()[1] == pytest.approx(110)
    assert "500 messages\nin 20.0 ms" in texts(axes)
    assert "partial interval" in texts(axes)
    (triangle,) = [line for line in axes.lines if line.get_marker() == "^"]
    assert 3.0 < float(triangle.get_xdata()[0]) < 3.02  # type: ignore[index, arg-type]


def test_a_run_that_is_shorter_than_an_interval() -> None:
    """It has only partial intervals: a mark on the whole picture would say nothing."""
    axes = panels(drawnRun([5], lastNs=20 * MS))["Messages verified per second"]
    assert "partial interval" not in texts(axes)


def test_the_percentiles_of_the_goals_are_drawn() -> None:
    """A goal of p90 says nothing of p99."""
    results = searchedRun()
    assert stepFields([results]) == (["p50", "p99", "max"], "p99")
    assert results.search is not None
    results.search = replace(results.search, goals=("p90<1ms", "p99.9<1s"))
    assert stepFields([results]) == (["p50", "p90", "p99_9"], "p90")
    told = texts(panels(results)["Response time at each rate tried"])
    assert {"p50", "p90", "p99.9"} <= set(told)
    results.search = replace(results.search, goals=("p50<1ms", "nonsense"))
    assert stepFields([results]) == (["p50", "p99"], "p50")


def test_a_rate_without_a_reply_is_drawn() -> None:
    """The search ended it before one came: it has no response time, and was tried."""
    results = searchedRun()
    assert results.search is not None
    broken = results.search.steps[1]
    silent = replace(broken, asked=800.0, response=Latency().asJSON())
    results.search = replace(results.search, steps=(*results.search.steps, silent))
    axes = panels(results)["Response time at each rate tried"]
    assert "broken, no reply" in texts(axes)
    assert axes.get_xlim()[1] > 800
    assert "broken, no reply" not in texts(
        panels(searchedRun())["Response time at each rate tried"]
    )


def test_reconnects_are_no_connections() -> None:
    """The caption has the connections that the user asked for."""
    results = drawnRun([100])
    results.requested, results.reconnects = 12, 10
    assert options(results).startswith("2 connections, 10 reconnects, ")


def test_a_partial_interval_counts_by_its_length() -> None:
    """25 replies in a quarter of a second are 100 a second."""
    axes = panels(drawnRun([100, 100, 25], lastNs=S // 4))["Messages verified per second"]
    (stairs,) = axes.patches[:1]
    values: Any = stairs
    assert list(values.get_data().values) == pytest.approx([100, 100, 100])
    assert "partial interval" in texts(axes)


def test_a_moment_without_a_reply_is_no_zero() -> None:
    """The line ends with the last interval that a message could come back in."""
    results = drawnRun([100, 100])
    results.closeInterval(2 * S + 10 * MS)
    assert [piece.rate for piece in pieces(results)] == [100.0, 100.0, None]


def test_an_outage_at_the_end_is_a_zero() -> None:
    """While messages are due, no reply is a rate of 0."""
    results = drawnRun([100, 100, 0])
    results.closeInterval(3 * S + S // 2)
    results.scheduledNs = 4 * S
    assert [piece.rate for piece in pieces(results)] == [100.0, 100.0, 0.0, 0.0]


def test_an_interval_without_length_gives_its_counts_to_the_one_before() -> None:
    """A failure in it is not lost."""
    results = drawnRun([100])
    results.verified += 7
    results.closeInterval(S)
    (piece,) = pieces(results)
    assert piece.interval.messages == 107


def test_the_heading() -> None:
    """Verdict and target, date, options, and the command."""
    top = heading(panels(drawnRun([100] * 3), command="python -m echofactory.client x 7")[""])
    for part in ("ok: tcp:192.0.2.7:7", "2026-01-02 03:04:05 UTC", "2 connections",
                 "100 messages/s asked", "python -m echofactory.client x 7"):  # fmt: skip
        assert part in top, part


def test_the_title_and_the_labels_of_a_run() -> None:
    """They are in the heading, if the user gave them."""
    results = drawnRun([100] * 3)
    results.title, results.labels = "nightly", {"host": "a"}
    top = heading(panels(results)[""])
    assert "ok: nightly" in top
    assert "tcp:192.0.2.7:7, 2026-01-02 03:04:05 UTC, host=a, 2 connections" in top


def test_the_heading_of_a_comparison() -> None:
    """Each run with its target and its options."""
    top = heading(panels(drawnRun([9] * 3), drawnRun([9] * 3, target="unix:/x"))[""])
    assert top.startswith("Comparison of 2 runs")
    assert "run1.json: tcp:192.0.2.7:7, 2026-01-02 03:04:05 UTC" in top
    assert "run2.json: unix:/x, " in top


def test_the_schedule_is_drawn() -> None:
    """From where it starts to where it ends."""
    results = drawnRun([100] * 3)
    results.firstAt = S // 2
    assert schedule(results) == [(0.5, 100.0), (3.5, 100.0)]
    axes = panels(results)["Messages verified per second"]
    (line,) = [line for line in axes.lines if str(line.get_label()).startswith("asked")]
    assert list(line.get_xdata()) == [0.5, 3.5]  # type: ignore[arg-type]
    assert schedule(drawnRun([100], rate=None)) == []


def test_failed_connections_are_marked() -> None:
    """With a cross, at the end of their interval."""
    axes = panels(failedRun([100] * 2))["Messages verified per second"]
    assert "connections failed" in texts(axes)
    (crosses,) = [line for line in axes.lines if line.get_marker() == "x"]
    assert list(crosses.get_xdata()) == [2.5]  # type: ignore[arg-type]


def test_the_goals_of_a_search_are_lines() -> None:
    """In the panel of the rates and in that of the time; one far above is a note."""
    drawn = panels(searchedRun())
    for title in ("Response time at each rate tried", "Response time per interval"):
        told = texts(drawn[title])
        assert "goal p99<20ms" in told, title
        heights = [list(line.get_ydata()) for line in drawn[title].lines]  # type: ignore[arg-type]
        assert [20 * MS, 20 * MS] in heights
    assert "goal max<1s (above)" in texts(drawn["Response time per interval"])


def test_goals_of_other_forms_are_left_out() -> None:
    """The file of a run can come from a stranger."""
    results = drawnRun([1])
    goals = ("p99<5ms", "p99.9<250us", "max<1.5s", "p99", "9" * 400, "p99<5d", "rate>5/s")
    results.search = SearchOutcome(goals=goals, found=1.0, ending=Ending.FOUND, steps=())
    assert limits(results) == [
        ("goal p99<5ms", 5e6),
        ("goal p99.9<250us", 250e3),
        ("goal max<1.5s", 1.5e9),
    ]


def test_expectations_are_lines() -> None:
    """Those of the response time; a relative one with the bound that follows from it."""
    results = drawnRun([100] * 3)
    results.expectations = [
        Judgement(expectation=Expectation(text), bound=bound, value=1)
        for text, bound in (("p99<20ms", 20e6), ("p50<+10%", 6e6), ("connect:p50<1ms", 1e6))
    ]
    told = texts(panels(results)["Response time per interval"])
    assert told[-2:] == ["expected p99<20ms", "expected p50<+10%"]


def test_nothing_came_back() -> None:
    """The plot says so."""
    results = Results(target="x", workload=drawnRun([1]).workload, requested=1)
    assert heading(panels(results)["Latency by percentile"]) == "no message came back"


def test_the_svg_has_a_title_and_a_description() -> None:
    """A screen reader reads them; text of others is escaped."""
    file = BytesIO()
    draw([Run("x", drawnRun([100] * 3, target="unix:/<b>&"))], file, "svg")
    root = ElementTree.fromstring(file.getvalue())
    space = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{space}title") == "ok: unix:/<b>&"
    assert (root.findtext(f"{space}desc") or "").startswith("Response time p50 5.00 ms, p99")
    assert root.get("role") == "img"
    ids = {element.get("id") for element in root.iter()}
    assert {root.get("aria-labelledby"), root.get("aria-describedby")} <= ids


@pytest.mark.parametrize(
    ("colours", "paper"), [((*COLOURS, INK, DIM), PAPER), (DARK_COLOURS, DARK_PAPER)]
)
def test_every_colour_has_contrast(colours: tuple[str, ...], paper: str) -> None:
    """At least 3:1 with the background."""
    for colour in colours:
        assert contrast(colour, paper) >= 3, colour
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_more_runs_than_colours() -> None:
    """Runs that share a colour have different lines."""
    axes = panels(*[drawnRun([9] * 2, rate=None)] * (len(COLOURS) + 1))["Latency by percentile"]
    first, last = axes.lines[0], axes.lines[-1]
    assert first.get_color() == last.get_color()
    assert first.get_linestyle() != last.get_linestyle()


def test_points_that_look_the_same_are_left_out() -> None:
    """The curve of many readings has few points, and their extremes."""
    latency = Latency()
    for number in range(1, 20_000):
        latency.record(MS + 1000 * number)
    points = curve(latency)
    assert len(points) < 2000
    assert points[0][0] == 1.0
    assert points[-1][0] == pytest.approx(2 * latency.count)
    assert points[-1][1] == latency.asJSON()["max"]
    assert curve(Latency()) == []


@pytest.mark.parametrize(
    ("names", "short"),
    [
        (["/a/b/one.json", "/a/b/two.json"], ["one.json", "two.json"]),
        (["a/run.json", "b/run.json"], ["a/run.json", "b/run.json"]),
        (["one.json", "/x/two.json"], ["one.json", "/x/two.json"]),
        (["x" * 40, "x" * 41], [f"1 {'x' * 15}…{'x' * 15}", f"2 {'x' * 15}…{'x' * 15}"]),
        (["d/_a", "d/b"], ["./_a", "b"]),
        (["tcp:192.0.2.7:7"], ["tcp:192.0.2.7:7"]),
    ],
)
def test_names_in_legends(names: list[str], short: list[str]) -> None:
    """Without the folder that all share, not too long, and different."""
    results = drawnRun([1])
    assert shortNames([Run(name, results) for name in names]) == short
