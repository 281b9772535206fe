"""
The charts of the page, as data that C{page.js} draws. Pure.

Every line is two lists, x and y. In a chart of intervals and of percentiles, y holds from the
x before up to its own x, and C{null} is a gap. The first y of an interval chart is C{null},
because its x is the beginning of the first interval.
"""

from collections.abc import Callable, Sequence
from typing import Any

from echofactory.report.compare import Run
from echofactory.report.course import (
    Piece,
    askedLabel,
    bottomNs,
    curve,
    description,
    limits,
    pieces,
    schedule,
    shortNames,
    stepFields,
    topRate,
)
from echofactory.report.palette import COLOURS, FAILURE
from echofactory.results.books import Results
from echofactory.results.latency import statisticName

Line = dict[str, Any]
Chart = dict[str, Any]

_INK = -1
"""The colour of text."""
_CONNECT = 3
"""The colour of connect times."""


class _Lines:
    """
    Makes the lines of a chart. A single run has a colour for each line, of several each run
    has one.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._alone = len(runs) == 1
        self._names = shortNames(runs)
        self.made: list[Line] = []

    def add(
        self,
        run: int,
        label: str,
        points: tuple[Sequence[float], Sequence[float | None]],
        place: int = 0,
        dash: int = 0,
        **more: object,
    ) -> None:
        """
        Add a line.

        @param run: the number of the run.
        @param points: x and y.
        @param place: the colour, if there is one run.
        @param dash: the kind of the line: 0 is solid.
        """
        if not self._alone:
            place = run % len(COLOURS)
            label = f"{self._names[run]}: {label}" if label else self._names[run]
        self.made.append(
            {
                "label": label,
                "colour": place,
                "dash": dash,
                # Runs that share a colour differ in width.
                "width": 1.5 + (0 if self._alone else run // len(COLOURS)),
                "x": points[0],
                "y": points[1],
                "brief": [],
                **more,
            }
        )


def charts(runs: Sequence[Run]) -> list[Chart]:
    """Return the charts that have something to show, in their order on the page."""
    made = [_responseTimes(runs), _rates(runs), _latencies(runs)]
    searches = [run for run in runs if run.results.search is not None]
    if searches:
        made.insert(0, _steps(searches))
    made.append(_counts(runs, "open", "Open connections", lambda piece: piece.interval.open))
    if any(run.results.failed for run in runs):
        made.append(
            _counts(
                runs,
                "failures",
                "Failed connections per interval",
                lambda piece: piece.interval.failures,
            )
        )
    told = description(runs)
    return [chart | {"told": told} for chart in made if chart["lines"]]


def _overTime(
    drawn: Sequence[Piece], read: Callable[[Piece], float | None]
) -> tuple[list[float], list[float | None]]:
    """Return x and y of a figure of the intervals."""
    times = [drawn[0].beginS, *(piece.endS for piece in drawn)]
    return [round(at, 6) for at in times], [None, *map(read, drawn)]


def _brief(drawn: Sequence[Piece]) -> list[float]:
    """Return the ends of the intervals that no line leads to."""
    return [round(piece.endS, 6) for piece in drawn if piece.brief]


def _partial(runs: Sequence[Run]) -> list[tuple[float, float]]:
    """Return the partial intervals of a run. Those of several runs would cover each other."""
    if len(runs) > 1:
        return []
    return [(piece.beginS, piece.endS) for piece in pieces(runs[0].results) if piece.partial]


def _limitLines(runs: Sequence[Run]) -> list[dict[str, object]]:
    return [
        {"text": text, "at": ns}
        for text, ns in dict.fromkeys(limit for run in runs for limit in limits(run.results))
    ]


def _responseTimes(runs: Sequence[Run]) -> Chart:
    lines = _Lines(runs)
    for number, (_, results) in enumerate(runs):
        drawn = pieces(results)
        for field, place in (("p50Ns", 0), ("p99Ns", 1)):
            if any(getattr(piece.interval, field) is not None for piece in drawn):
                points = _overTime(drawn, lambda piece, f=field: getattr(piece.interval, f))  # type: ignore[misc]
                dash = place if len(runs) > 1 else 0
                lines.add(number, field[:3], points, place, dash, brief=_brief(drawn))
    return {
        "id": "response",
        "title": "Response time over time",
        "x": "time",
        "y": "latency",
        "kind": "step",
        "lines": lines.made,
        "limits": _limitLines(runs),
        "partial": _partial(runs),
    }


def _rates(runs: Sequence[Run]) -> Chart:
    lines = _Lines(runs)
    for number, (_, results) in enumerate(runs):
        if drawn := pieces(results):
            achieved = _overTime(drawn, lambda piece: piece.rate)
            label = "achieved" if len(runs) == 1 else ""
            lines.add(number, label, achieved, brief=_brief(drawn))
        if corners := schedule(results):
            times, rates = zip(*corners, strict=True)
            label = askedLabel(results) if len(runs) == 1 else "asked"
            rounded = [round(at, 6) for at in times]
            lines.add(number, label, (rounded, rates), _INK, 2, kind="line")
    return {
        "id": "rate",
        "title": "Messages per second",
        "x": "time",
        "y": "rate",
        "kind": "step",
        "lines": lines.made,
        "top": topRate([run.results for run in runs]),
        "partial": _partial(runs),
    }


def _latencies(runs: Sequence[Run]) -> Chart:
    lines = _Lines(runs)
    alone = len(runs) == 1
    for number, (_, results) in enumerate(runs):
        for label, latency, place, shown in _latenciesOf(results):
            if (alone or place < _CONNECT) and (points := curve(latency)):
                places, readings = zip(*points, strict=True)
                on = alone or place == 0
                more = {} if shown and on else {"off": True}
                rounded = [round(at, 6) for at in places]
                lines.add(
                    number, label, (rounded, readings), place, 0 if alone else place, **more
                )
    return {
        "id": "latency",
        "title": "Latency by percentile",
        "x": "percentile",
        "y": "latency",
        "kind": "step",
        "lines": lines.made,
        "bottom": bottomNs([run.results for run in runs]),
    }


def _latenciesOf(results: Results) -> list[tuple[str, Any, int, bool]]:
    """Return the latencies of a run: the name, the readings, the colour, and whether on."""
    found = [("response time", results.response, 0, True)]
    if results.rateAsked is not None:
        found.append(("service time", results.serviceTime, 1, True))
        found.append(("send lag", results.sendLag, 2, True))
    found.append(("connect time", results.connect, _CONNECT, False))
    return found


def _counts(
    runs: Sequence[Run], name: str, title: str, read: Callable[[Piece], float | None]
) -> Chart:
    lines = _Lines(runs)
    place = FAILURE if name == "failures" else 0
    for number, (_, results) in enumerate(runs):
        if drawn := pieces(results):
            label = name if len(runs) == 1 else ""
            lines.add(number, label, _overTime(drawn, read), place)
    return {
        "id": name,
        "title": title,
        "x": "time",
        "y": "count",
        "kind": "step",
        "lines": lines.made,
        "partial": _partial(runs),
    }


def _steps(searches: Sequence[Run]) -> Chart:
    lines = _Lines(searches)
    fields, marked = stepFields([search.results for search in searches])
    for number, (_, results) in enumerate(searches):
        assert results.search is not None
        steps = sorted(results.search.steps, key=lambda step: step.asked)
        rates = [step.asked for step in steps]
        for place, field in enumerate(fields):
            readings = [step.response[field] for step in steps]
            dash = 0 if len(searches) == 1 else min(place, 2)
            name = statisticName(field)
            lines.add(number, name, (rates, readings), place, dash, dots=True)
        broken = [
            None if step.kept or step.interrupted else step.response[marked] for step in steps
        ]
        if any(broken):
            lines.add(number, "goals broken", (rates, broken), _INK, kind="cross")
    return {
        "id": "steps",
        "title": "Response time at each rate tried",
        "x": "rate",
        "y": "latency",
        "kind": "line",
        "lines": lines.made,
        "limits": _limitLines(searches),
    }
