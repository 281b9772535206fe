"""
The plots: latency by percentile, the run over time, and the steps of a search. They need
U{matplotlib<https://matplotlib.org>}, which the extra C{plot} installs.
"""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from echofactory.report.compare import Run
from echofactory.results.books import Results
from echofactory.results.intervals import Interval
from echofactory.results.latency import Latency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = ("png", "svg", "pdf")
"""The suffixes of plot files, which name the format."""

_INK = "#5b6770"
_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)


def missing() -> str | None:
    """Return what must be installed for plots, as a message; C{None}: nothing."""
    if find_spec("matplotlib") is None:
        return "matplotlib draws the plots and is not installed: pip install matplotlib"
    return None


def draw(runs: Sequence[Run], file: str | IO[bytes], suffix: str) -> None:
    """
    Draw one run, or several runs in the same plots.

    @param file: the path or the file to write to.
    @param suffix: one of L{SUFFIXES}.
    @raise OSError: if the file cannot be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "echofactory",
        "font.size": 9,
        "axes.titlesize": 10,
        "axes.edgecolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.color": "#d8dee3",
        "grid.linewidth": 0.6,
        "axes.axisbelow": True,
        "legend.edgecolor": "none",
        "text.parse_math": False,
        "path.simplify_threshold": 0.5,
    }
    searches = [run for run in runs if run.results.search is not None]
    # No date, so that the same results make the same file.
    metadata = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}[suffix]
    with mpl.rc_context(style):
        figure = Figure(figsize=(10, 9.5 if searches else 7), layout="constrained")
        grid = figure.add_gridspec(3 if searches else 2, 2)
        _latencies(figure.add_subplot(grid[0, :]), runs)
        rates, times = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
        _overTime(rates, times, runs)
        if searches:
            _steps(figure.add_subplot(grid[2, :]), searches)
        with warnings.catch_warnings():
            # A name can have characters that are missing in the font.
            warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
            figure.savefig(file, format=suffix, dpi=120, metadata=metadata)


def _logarithmic(axes: "Axes", title: str) -> None:
    """Give the axes a logarithmic scale of nanoseconds, with labels such as 10 µs."""
    from matplotlib.ticker import LogLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda ns, _: _tick(ns))
    axes.yaxis.set_minor_locator(LogLocator(subs=()))
    axes.set_title(title, loc="left")


def _tick(ns: float) -> str:
    """Write a round number of nanoseconds: C{10 µs}."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= unit * 0.999:
            return f"{ns / unit:g} {name}"
    return f"{ns:g} ns"


def _latencies(axes: "Axes", runs: Sequence[Run]) -> None:
    """Draw a line for each latency: the latency at each percentile."""
    from matplotlib.ticker import NullLocator

    lines: list[tuple[str, str, str, Latency]] = []
    for number, (name, results) in enumerate(runs):
        # One run has a colour for each latency; of several, each run has one colour.
        alone = len(runs) == 1
        beside = "" if alone else f"{name}: "
        lines.append((f"{beside}response time", f"C{number}", "-", results.response))
        if results.rateAsked is not None:
            colour, dashes = ("C1", "-") if alone else (f"C{number}", "--")
            lines.append((f"{beside}service time", colour, dashes, results.serviceTime))
            if alone:
                lines.append(("send lag", "C2", "-", results.sendLag))
    most = 1
    for title, colour, dashes, latency in lines:
        shares, readings = latency.distribution()
        if not shares:
            continue
        most = max(most, latency.count)
        # 1 - share is 0 for the last reading, so half a message stands there instead.
        places = [1 / max(1 - share, 0.5 / latency.count) for share in shares]
        axes.step(
            [1.0, *places],
            [readings[0], *readings],
            where="pre",
            label=title,
            color=colour,
            linestyle=dashes,
        )
    axes.set_xscale("log")
    shown = [share for share in _NINES if share == 0 or 1 / (1 - share) <= 2 * most]
    axes.set_xticks(
        [1 / (1 - share) for share in shown], [f"p{100 * share:.6g}" for share in shown]
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(1, max(10, 2 * most))
    axes.set_xlabel("percentile")
    _logarithmic(axes, "Latency by percentile")
    if axes.lines:
        axes.legend(loc="best")
    else:
        axes.text(0.5, 0.5, "no message came back", ha="center", transform=axes.transAxes)


def _wholePieces(results: Results) -> Sequence[Interval]:
    """
    Return the intervals without those of no length, and without the last one if it is
    shorter than half an interval.
    """
    whole = [interval for interval in results.intervals if interval.lengthNs]
    if len(whole) > 1:
        # The interval before it can be too long, if the client was stopped in it.
        usualNs = results.intervalNs or whole[-2].lengthNs
        if whole[-1].lengthNs < usualNs / 2:
            whole.pop()
    return whole


def _edges(intervals: Sequence[Interval]) -> list[float]:
    """Return the times at which intervals begin and end, in seconds."""
    first = intervals[0]
    return [
        (first.endNs - first.lengthNs) / 1e9,
        *(interval.endNs / 1e9 for interval in intervals),
    ]


def _overTime(rates: "Axes", times: "Axes", runs: Sequence[Run]) -> None:
    """Draw the rate and the response times of each run, per interval."""
    for number, (name, results) in enumerate(runs):
        intervals = _wholePieces(results)
        if not intervals:
            continue
        colour = f"C{number}"
        edges = _edges(intervals)
        beside = f"{name}: " if len(runs) > 1 else ""
        rates.stairs(
            [interval.perSecond for interval in intervals],
            edges,
            baseline=None,
            color=colour,
            label=name if len(runs) > 1 else "verified",
        )
        if len(runs) == 1 and results.rateAsked is not None:
            rates.axhline(
                results.rateAsked, color=_INK, linestyle=":", label="asked, on average"
            )
        failing = [interval for interval in results.intervals if interval.failures]
        rates.plot(
            [interval.endNs / 1e9 for interval in failing],
            [interval.perSecond for interval in failing],
            "x",
            color="#d1495b",
            label="connections failed" if failing and len(runs) == 1 else None,
        )
        for field, line in (("p50Ns", "-"), ("p99Ns", "--")):
            readings: list[Any] = [getattr(interval, field) for interval in intervals]
            if any(reading is not None for reading in readings):
                times.stairs(
                    [float("nan") if ns is None else ns for ns in readings],
                    edges,
                    baseline=None,
                    color=colour,
                    linestyle=line,
                    label=f"{beside}{field[:3]}",
                )
    if rates.patches:
        rates.set_ylim(0, 1.15 * rates.dataLim.y1 or 1.0)
    rates.set_title("Messages verified per second", loc="left")
    rates.yaxis.set_major_formatter("{x:,.0f}")
    rates.set_xlabel("time, s")
    if rates.get_legend_handles_labels()[0]:
        rates.legend(loc="best")
    _logarithmic(times, "Response time")
    times.set_xlabel("time, s")
    if times.patches:
        times.legend(loc="best")


def _steps(axes: "Axes", searches: Sequence[Run]) -> None:
    """Draw the response times of each search at each rate that it tried."""
    for number, (name, results) in enumerate(searches):
        assert results.search is not None
        steps = sorted(results.search.steps, key=lambda step: step.asked)
        beside = f"{name}: " if len(searches) > 1 else ""
        for field, line in (("p50", "-"), ("p99", "--")):
            axes.plot(
                [step.asked for step in steps],
                [step.response[field] or float("nan") for step in steps],
                line,
                color=f"C{number}",
                label=f"{beside}{field}",
            )
        for kept, mark in ((True, "o"), (False, "x")):
            these = [step for step in steps if step.kept is kept and not step.interrupted]
            axes.plot(
                [step.asked for step in these],
                [step.response["p99"] or float("nan") for step in these],
                mark,
                color=f"C{number}",
                label=f"{beside}{'kept' if kept else 'broken'}",
            )
    axes.set_xlabel("messages per second, asked")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _logarithmic(axes, "Response time at each rate tried")
    axes.legend(loc="best")
