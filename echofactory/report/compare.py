"""
The comparison of several runs, as one table.
"""

from collections.abc import Callable, Sequence
from enum import Enum
from textwrap import wrap
from typing import NamedTuple

from echofactory.report.expectations import expectationLines
from echofactory.report.noise import Range, latencyRange, overlap, rateRange
from echofactory.report.text import percentileName
from echofactory.results.books import Results
from echofactory.results.connectionfacts import tallyText
from echofactory.results.latency import PERCENTILES
from echofactory.values.printable import printable
from echofactory.values.quantities import durationText, numberText, sizeRateText

FACTOR = 2.0
"""From this ratio on, a difference is written as a factor, not in percent."""


class Run(NamedTuple):
    """
    A run with a name.

    @ivar name: its name in tables and plots, in printable characters.
    """

    name: str
    results: Results

    @classmethod
    def named(cls, path: str, results: Results) -> "Run":
        """Return the run that was read from a file."""
        name = printable(path)
        # matplotlib leaves a name with this first character out of the legend.
        return cls(f"./{name}" if name.startswith("_") else name, results)


class Direction(Enum):
    """What a higher figure means."""

    MORE_IS_BETTER = 1
    MORE_IS_WORSE = -1
    NEITHER = 0
    """It is a setting of the run, or one reading."""


class _Row(NamedTuple):
    """
    @ivar title: the name of the figure.
    @ivar read: returns the figure of a run; C{None}: the run does not have it.
    @ivar write: writes the figure with its unit.
    @ivar direction: what a higher figure means.
    @ivar within: returns the range of the figure within a run (L{noise}).
    """

    title: str
    read: Callable[[Results], float | None]
    write: Callable[[float], str]
    direction: Direction = Direction.NEITHER
    within: Callable[[Results], Range | None] = lambda _: None


class Cell(NamedTuple):
    """
    A figure of a run in the comparison.

    @ivar figure: the figure with its unit; C{-}: the run does not have it.
    @ivar change: its difference from the first run's: C{+3.9%}, C{× 11}, C{÷ 2.5}; empty:
        there is none to tell.
    @ivar verdict: C{better}, C{worse}, C{noise}, or empty: nothing is judged.
    """

    figure: str
    change: str = ""
    verdict: str = ""


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _perSecond(value: float) -> str:
    return f"{numberText(value)}/s"


def _unsent(results: Results) -> float | None:
    return results.unsent if results.rateAsked is not None else None


def _receiveLag(results: Results) -> float | None:
    lag = results.receiveLag
    return None if lag is None else lag.percentiles(99.0)[0]


def _datagrams(field: str) -> Callable[[Results], float | None]:
    def read(results: Results) -> float | None:
        return getattr(results.datagrams, field, None)

    return read


def _latency(title: str, name: str, *fields: str) -> list[_Row]:
    """Return a row for each of these fields of a latency: percentiles, and C{max}."""
    return [
        _percentile(title, name, PERCENTILES[field])
        if field in PERCENTILES
        # A maximum is one reading, from which nothing follows.
        else _Row(f"{title} max", lambda run: getattr(run, name).asJSON()["max"], durationText)
        for field in fields
    ]


def _percentile(title: str, name: str, percent: float) -> _Row:
    """Return the row of a percentile of a latency."""
    return _Row(
        f"{title} {percentileName(percent)}",
        lambda results: getattr(results, name).percentiles(percent)[0],
        durationText,
        Direction.MORE_IS_WORSE,
        lambda results: latencyRange(results, name, percent),
    )


_BETTER, _WORSE = Direction.MORE_IS_BETTER, Direction.MORE_IS_WORSE
_ROWS = (
    _Row("connections", lambda results: results.requested, _count),
    _Row("failed", lambda results: results.failed, _count, _WORSE),
    _Row("messages verified", lambda results: results.verified, _count),
    _Row("messages unsent", _unsent, _count, _WORSE),
    _Row("messages asked", lambda results: results.rateAsked, _perSecond),
    _Row("messages achieved", lambda results: results.achieved, _perSecond, _BETTER, rateRange),
    _Row("received", lambda results: results.bytesPerSecond, sizeRateText),
    _Row("segments retransmitted", lambda results: results.kernel.retransmits, _count, _WORSE),
    _Row("datagrams lost", _datagrams("lost"), _count, _WORSE),
    _Row("datagrams repeated", _datagrams("repeated"), _count, _WORSE),
    _Row("datagrams reordered", _datagrams("reordered"), _count, _WORSE),
    *_latency("connect time", "connect", "p50", "p99"),
    *_latency("response time", "response", "p50", "p90", "p99", "p99_9", "max"),
    *_latency("service time", "serviceTime", "p50", "p99"),
    *_latency("send lag", "sendLag", "p99"),
    _Row("receive lag p99", _receiveLag, durationText),
)


_RESPONSE = "response time p"


def _rows(percents: Sequence[float]) -> list[_Row]:
    """Return the rows, with these percentiles of the response time."""
    if not percents:
        return list(_ROWS)
    chosen = [_percentile("response time", "response", percent) for percent in percents]
    begin = [row.title.startswith(_RESPONSE) for row in _ROWS].index(True)
    rest = [row for row in _ROWS[begin:] if not row.title.startswith(_RESPONSE)]
    return [*_ROWS[:begin], *chosen, *rest]


_FACTS = (("address", "addresses"), ("tls", "tls"), ("sockets", "sockets"))
"""The title of each fact that can differ, and its field in the results."""


def _factRows(runs: Sequence[Run]) -> list[tuple[str, list[Cell]]]:
    """Return the rows about what carried the connections, if the runs differ in it."""
    rows = []
    for title, name in _FACTS:
        tallies = [
            (getattr(results.connectionFacts, name), results.established) for _, results in runs
        ]
        cells = [Cell(tallyText(tally, of) if tally else "-") for tally, of in tallies]
        if len(set(cells)) > 1:
            rows.append((title, cells))
    return rows


def _change(first: float | None, value: float | None) -> str:
    """
    Write the difference of a figure from the first run's: in percent, or as a factor if one
    figure is at least L{FACTOR} times the other.
    """
    if first is None or value is None or not first:
        return ""
    if value >= FACTOR * first:
        return f"× {numberText(value / first)}"
    if value and first >= FACTOR * value:
        return f"÷ {numberText(first / value)}"
    return f"{value / first - 1:+.1%}".replace("-0.0%", "+0.0%")


def _verdict(row: _Row, first: Results, other: Results) -> str:
    """Judge the difference of a figure between two runs."""
    before, now = row.read(first), row.read(other)
    if before is None or now is None or before == now or row.direction is Direction.NEITHER:
        return ""
    if row.direction is _BETTER and first.rateAsked != other.rateAsked:
        # With a schedule, a run achieves what is asked of it.
        return ""
    if overlap(row.within(first), row.within(other)):
        return "noise"
    return "better" if (now > before) is (row.direction is _BETTER) else "worse"


def comparison(
    runs: Sequence[Run], percents: Sequence[float] = ()
) -> list[tuple[str, list[Cell]]]:
    """
    Return a table with a cell for each run.

    @param percents: the percentiles of the response time, each more than 0 and less than 100;
        empty: those of the table.
    @return: the verdicts, a row for each of address, TLS and socket options in which the runs
        differ, and a row for each figure that at least one run has: its name, and
        a cell of each run.
    """
    (_, first), *others = runs
    rows = [("verdict", [Cell(results.verdict) for _, results in runs])]
    rows += _factRows(runs)
    for row in _rows(percents):
        figures = [row.read(results) for _, results in runs]
        if not any(figure is not None for figure in figures):
            continue
        written = ["-" if figure is None else row.write(figure) for figure in figures]
        cells = [Cell(written[0])]
        for (_, other), figure, text in zip(others, figures[1:], written[1:], strict=True):
            cells.append(Cell(text, _change(figures[0], figure), _verdict(row, first, other)))
        rows.append((row.title, cells))
    return rows


_GAP = 2
"""Spaces between two columns of text."""


def comparisonText(
    runs: Sequence[Run], percents: Sequence[float] = (), width: int | None = None
) -> str:
    """
    Write the comparison as aligned lines. The last line ends with a newline too.

    @param percents: see L{comparison}.
    @param width: the columns that it shall fit in: the runs that do not fit follow below;
        C{None}: any.
    """
    names = [runs[0].name, *(cell for run in runs[1:] for cell in (run.name, "", ""))]
    rows = [
        ["", *names],
        *(
            [title, cells[0].figure, *(text for cell in cells[1:] for text in cell)]
            for title, cells in comparison(runs, percents)
        ),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for columns in _blocks(widths, width):
        for row in rows:
            cells = [
                # The verdicts are words, the others are numbers.
                f"{row[at]:{'<' if at > 1 and at % 3 == 1 else '>'}{widths[at]}}"
                for at in columns
            ]
            lines.append((" " * _GAP).join([f"{row[0]:<{widths[0]}}", *cells]).rstrip())
    said = [f"{name}: warning: {sentence}" for name, sentence in warnings(runs)]
    said += [f"{name}: {line}" for name, line in expected(runs)]
    for line in said:
        lines += wrap(line, width, subsequent_indent="    ") if width else [line]
    return "".join(f"{line}\n" for line in lines)


def _blocks(widths: Sequence[int], width: int | None) -> list[list[int]]:
    """
    Return which columns stand beside each other: that of the first run, and three for each
    of the others, which stay together.
    """
    groups = [[1], *([at, at + 1, at + 2] for at in range(2, len(widths), 3))]
    blocks: list[list[int]] = [[]]
    used = widths[0]
    for group in groups:
        needed = sum(widths[column] + _GAP for column in group)
        if width is not None and blocks[-1] and used + needed > width:
            blocks.append([])
            used = widths[0]
        blocks[-1] += group
        used += needed
    return blocks


def warnings(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return each run's name with each of its warnings."""
    return [(name, sentence) for name, results in runs for sentence in results.warnings]


def expected(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Return each run's name with each of its expectations."""
    return [
        (name, line)
        for name, results in runs
        for line in expectationLines(results.expectations)
    ]
