"""
The panels of a plot: latency by percentile, response times and rates over time, and the steps
of a search. L{course} says what is drawn; this module draws it, with the axes that it is given.
The rules:

 - A legend stands beside its axes, so that it covers no data.
 - A partial interval is drawn and marked, and does not set the scale.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from echofactory.report.compare import Run
from echofactory.report.course import (
    Limit,
    Piece,
    askedLabel,
    bottomNs,
    curve,
    limits,
    pieces,
    schedule,
    shortNames,
    stepFields,
    topRate,
)
from echofactory.report.palette import COLOURS, FAILURE, GRID, INK
from echofactory.results.latency import Latency
from echofactory.values.quantities import durationText

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NINES = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999)
_FAR = 20
"""If a limit is more than 20 times the highest reading, it is not drawn. Its line would press
the readings into a small part of the picture."""
_DASHES = ("-", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
"""Lines of runs that have to share a colour."""


def _legend(axes: "Axes") -> None:
    """Explain the lines of the axes, to the right of them."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.03), borderaxespad=0.5)


def _logarithmic(axes: "Axes", heading: str) -> None:
    """Give the axes a logarithmic scale of nanoseconds, with labels such as 10 µs."""
    from matplotlib.ticker import LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda ns, _: _tick(ns))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_title(heading, loc="left")


def _tick(ns: float) -> str:
    """Write a round number of nanoseconds: C{10 µs}."""
    for unit, name in ((1e9, "s"), (1e6, "ms"), (1e3, "µs")):
        if ns >= unit * 0.999:
            return f"{ns / unit:g} {name}"
    return f"{ns:g} ns"


def _look(number: int) -> dict[str, Any]:
    """Return the colour of a run, and its line if it has to share the colour."""
    turn, place = divmod(number, len(COLOURS))
    return {"color": COLOURS[place], "linestyle": _DASHES[turn % len(_DASHES)]}


def latencies(axes: "Axes", runs: Sequence[Run]) -> None:
    """Draw a line for each latency: the latency at each percentile."""
    from matplotlib.ticker import NullLocator

    alone = len(runs) == 1
    lines: list[tuple[str, dict[str, Any], Latency]] = []
    for number, (name, (_, results)) in enumerate(zip(shortNames(runs), runs, strict=True)):
        # One run has a colour for each latency; of several, each run has one colour.
        beside = "" if alone else f"{name}: "
        lines.append((f"{beside}response time", _look(number), results.response))
        if results.rateAsked is not None:
            look = _look(1) if alone else _look(number) | {"linestyle": ":"}
            lines.append((f"{beside}service time", look, results.serviceTime))
            if alone:
                lines.append(("send lag", _look(2), results.sendLag))
    bottom = 0.9 * bottomNs([run.results for run in runs])
    most, highest = 1.0, 0
    for label, look, latency in lines:
        points = curve(latency)
        if not points:
            continue
        most, highest = max(most, points[-1][0]), max(highest, points[-1][1])
        if points[-1][1] < bottom:
            label = f"{label}, at most {durationText(points[-1][1])}"  # noqa: PLW2901
        places, readings = zip(*points, strict=True)
        axes.step(places, readings, where="pre", label=label, **look)
    axes.set_xscale("log")
    shown = [share for share in _NINES if share == 0 or 1 / (1 - share) <= most]
    axes.set_xticks(
        [1 / (1 - share) for share in shown], [f"p{100 * share:.6g}" for share in shown]
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(1, max(10, 1.05 * most))
    axes.set_xlabel("percentile")
    _logarithmic(axes, "Latency by percentile")
    if axes.lines:
        if bottom:
            axes.set_ylim(bottom, 1.2 * highest)
    else:
        axes.text(0.5, 0.5, "no message came back", ha="center", transform=axes.transAxes)
    _legend(axes)


def _edges(drawn: Sequence[Piece]) -> list[float]:
    """Return the times at which intervals begin and end, in seconds."""
    return [drawn[0].beginS, *(piece.endS for piece in drawn)]


def _markPartial(axes: "Axes", drawn: Sequence[Piece]) -> None:
    """Mark the partial intervals of a run with a band."""
    told: str | None = "partial interval"
    wholeS = drawn[-1].endS - drawn[0].beginS
    for piece in drawn:
        if piece.partial and (
            piece.interval.messages or piece.endS - piece.beginS > wholeS / 200
        ):
            axes.axvspan(piece.beginS, piece.endS, color=GRID, alpha=0.7, lw=0.8, label=told)
            told = None


def _limits(axes: "Axes", lines: Sequence[Limit], highest: float) -> None:
    """Draw the bounds of the response times as lines."""
    for limit in dict.fromkeys(lines):
        if highest and limit.ns > _FAR * highest:
            axes.plot([], [], "-.", color=INK, label=f"{limit.text} (above)")
        else:
            axes.axhline(limit.ns, color=INK, linestyle="-.", lw=1.2, label=limit.text)


def _course(
    axes: "Axes",
    drawn: Sequence[Piece],
    figures: Sequence[float | None],
    label: str,
    look: dict[str, Any],
) -> None:
    """Draw a figure of the intervals: a line, and a point for each brief interval."""
    known = [float("nan") if figure is None else figure for figure in figures]
    brief = [piece.brief for piece in drawn]
    line = [
        float("nan") if alone else figure for alone, figure in zip(brief, known, strict=True)
    ]
    axes.stairs(line, _edges(drawn), baseline=None, linewidth=1.5, label=label, **look)
    points = [
        (piece.endS, figure) for piece, figure in zip(drawn, known, strict=True) if piece.brief
    ]
    if points:
        places, heights = zip(*points, strict=True)
        axes.plot(places, heights, ".", color=look["color"])


def responseTimes(axes: "Axes", runs: Sequence[Run]) -> None:
    """Draw the response times of each run, per interval."""
    highest = 0.0
    for number, (name, (_, results)) in enumerate(zip(shortNames(runs), runs, strict=True)):
        drawn = pieces(results)
        if not drawn:
            continue
        beside = f"{name}: " if len(runs) > 1 else ""
        for field, place, line in (("p50Ns", 0, "-"), ("p99Ns", 1, "--")):
            readings = [getattr(piece.interval, field) for piece in drawn]
            known = [ns for ns in readings if ns is not None]
            if known:
                highest = max(highest, *known)
                colour = _look(number if len(runs) > 1 else place)["color"]
                look = {"color": colour, "linestyle": line}
                _course(axes, drawn, readings, f"{beside}{field[:3]}", look)
        if len(runs) == 1:
            _markPartial(axes, drawn)
    _limits(axes, [limit for run in runs for limit in limits(run.results)], highest)
    _logarithmic(axes, "Response time per interval")
    _timeAxis(axes, runs)
    _legend(axes)


def _timeAxis(axes: "Axes", runs: Sequence[Run]) -> None:
    """Let the time begin and end where the intervals do."""
    drawn = [piece for run in runs for piece in pieces(run.results)]
    if drawn:
        axes.set_xlim(min(piece.beginS for piece in drawn), max(piece.endS for piece in drawn))
    axes.set_xlabel("seconds from the beginning")


def rates(axes: "Axes", runs: Sequence[Run]) -> None:
    """Draw the rate of each run per interval, and its schedule."""
    alone = len(runs) == 1
    top = topRate([run.results for run in runs])
    failed: list[tuple[float, float]] = []
    for number, (name, (_, results)) in enumerate(zip(shortNames(runs), runs, strict=True)):
        drawn = pieces(results)
        look = _look(number)
        if drawn:
            achieved = [piece.rate for piece in drawn]
            _course(axes, drawn, achieved, "verified" if alone else name, look)
        if corners := schedule(results):
            times, corner = zip(*corners, strict=True)
            asked = askedLabel(results) if alone else None
            axes.plot(times, corner, ":", color=INK if alone else look["color"], label=asked)
        failed += [
            (piece.endS, min(piece.rate or 0.0, top))
            for piece in drawn
            if piece.interval.failures
        ]
        _tellPartial(axes, drawn, top, alone)
    if failed:
        times, heights = zip(*failed, strict=True)
        axes.plot(
            times,
            heights,
            "x",
            color=COLOURS[FAILURE],
            label="connections failed",
            clip_on=False,
        )
    axes.set_ylim(0, 1.1 * top or 1.0)
    axes.set_title("Messages verified per second", loc="left")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    _timeAxis(axes, runs)
    _legend(axes)


def _tellPartial(axes: "Axes", drawn: Sequence[Piece], top: float, alone: bool) -> None:
    """
    Mark the partial intervals of a run. If the rate of one is above the scale, a triangle at
    the top stands for it.
    """
    if alone and drawn:
        _markPartial(axes, drawn)
    for piece in drawn:
        if piece.partial and (piece.rate or 0.0) > 1.1 * top:
            interval = piece.interval
            told = f"{interval.messages:,} messages\nin {durationText(interval.lengthNs)}"
            axes.plot(
                [(piece.beginS + piece.endS) / 2],
                [1.06 * top],
                "^",
                color=INK,
                markersize=5,
                clip_on=False,
                label=told if alone else None,
            )


def steps(axes: "Axes", searches: Sequence[Run]) -> None:
    """Draw the response times of each search at each rate that it tried."""
    goals: list[Limit] = []
    highest = 0.0
    alone = len(searches) == 1
    fields, marked = stepFields([search.results for search in searches])
    for number, (name, (_, results)) in enumerate(
        zip(shortNames(searches), searches, strict=True)
    ):
        assert results.search is not None
        goals += limits(results)
        tried = sorted(results.search.steps, key=lambda step: step.asked)
        beside = "" if alone else f"{name}: "
        for place, field in enumerate(fields):
            line = ("-", "--", ":", "-.")[place % 4]
            readings = [step.response[field] or float("nan") for step in tried]
            highest = max([highest, *(ns for ns in readings if ns > 0)])
            axes.plot(
                [step.asked for step in tried],
                readings,
                line,
                color=_look(place if alone else number)["color"],
                label=f"{beside}{field.replace('_', '.')}",
            )
        for kept, mark in ((True, "o"), (False, "X")):
            these = [step for step in tried if step.kept is kept and not step.interrupted]
            if these:
                axes.plot(
                    [step.asked for step in these],
                    [step.response[marked] or float("nan") for step in these],
                    mark,
                    color=_look(fields.index(marked) if alone else number)["color"],
                    label=f"{beside}goals {'kept' if kept else 'broken'}",
                )
    silent = sorted(
        {
            step.asked
            for _, results in searches
            for step in (results.search.steps if results.search is not None else ())
            if not step.kept and not step.interrupted and step.response[marked] is None
        }
    )
    if silent:
        # At the top of the picture, whatever its scale.
        top = axes.get_xaxis_transform()
        heights = [0.95] * len(silent)
        axes.plot(silent, heights, "X", color=INK, transform=top, label="broken, no reply")
    _limits(axes, goals, highest)
    axes.margins(x=0.02)
    axes.set_xlabel("messages per second, asked")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    _logarithmic(axes, "Response time at each rate tried")
    _legend(axes)
