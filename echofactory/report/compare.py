"""
The comparison of several runs, as one table.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from echofactory.report.expectations import expectationLines
from echofactory.report.text import percentileName
from echofactory.results.books import Results
from echofactory.results.latency import Latency
from echofactory.values.printable import printable
from echofactory.values.quantities import durationText, numberText, sizeRateText


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


class _Row(NamedTuple):
    """
    @ivar title: the name of the figure.
    @ivar read: returns the figure of a run; C{None}: the run does not have it.
    @ivar write: writes the figure with its unit.
    """

    title: str
    read: Callable[[Results], float | None]
    write: Callable[[float], str]


def _count(value: float) -> str:
    return f"{value:,.0f}"


def _perSecond(value: float) -> str:
    return f"{numberText(value)}/s"


def _unsent(results: Results) -> float | None:
    return results.unsent if results.rateAsked is not None else None


def _latency(name: str, field: str) -> Callable[[Results], float | None]:
    def read(results: Results) -> float | None:
        latency: Latency = getattr(results, name)
        return latency.asJSON()[field]

    return read


def _percentile(percent: float) -> Callable[[Results], float | None]:
    def read(results: Results) -> float | None:
        return results.response.percentiles(percent)[0]

    return read


def _datagrams(field: str) -> Callable[[Results], float | None]:
    def read(results: Results) -> float | None:
        return getattr(results.datagrams, field, None)

    return read


_ROWS = (
    _Row("connections", lambda results: results.requested, _count),
    _Row("failed", lambda results: results.failed, _count),
    _Row("messages verified", lambda results: results.verified, _count),
    _Row("messages unsent", _unsent, _count),
    _Row("messages asked", lambda results: results.rateAsked, _perSecond),
    _Row("messages achieved", lambda results: results.achieved, _perSecond),
    _Row("received", lambda results: results.bytesPerSecond, sizeRateText),
    _Row("segments retransmitted", lambda results: results.kernel.retransmits, _count),
    _Row("datagrams lost", _datagrams("lost"), _count),
    _Row("datagrams repeated", _datagrams("repeated"), _count),
    _Row("datagrams reordered", _datagrams("reordered"), _count),
    _Row("connect time p50", _latency("connect", "p50"), durationText),
    _Row("connect time p99", _latency("connect", "p99"), durationText),
    _Row("response time p50", _latency("response", "p50"), durationText),
    _Row("response time p90", _latency("response", "p90"), durationText),
    _Row("response time p99", _latency("response", "p99"), durationText),
    _Row("response time p99.9", _latency("response", "p99_9"), durationText),
    _Row("response time max", _latency("response", "max"), durationText),
    _Row("service time p50", _latency("serviceTime", "p50"), durationText),
    _Row("service time p99", _latency("serviceTime", "p99"), durationText),
    _Row("send lag p99", _latency("sendLag", "p99"), durationText),
)


_RESPONSE = "response time p"


def _rows(percents: Sequence[float]) -> list[_Row]:
    """Return the rows, with these percentiles of the response time."""
    if not percents:
        return list(_ROWS)
    chosen = [
        _Row(f"response time {percentileName(percent)}", _percentile(percent), durationText)
        for percent in percents
    ]
    begin = [row.title.startswith(_RESPONSE) for row in _ROWS].index(True)
    rest = [row for row in _ROWS[begin:] if not row.title.startswith(_RESPONSE)]
    return [*_ROWS[:begin], *chosen, *rest]


def _change(first: float | None, value: float | None) -> str:
    """Write the difference of a figure from the first run's, in percent."""
    if first is None or value is None or not first:
        return ""
    return f"{value / first - 1:+.1%}"


def comparison(runs: Sequence[Run], percents: Sequence[float] = ()) -> list[list[str]]:
    """
    Return a table with a column for each run.

    @param percents: the percentiles of the response time, each more than 0 and less than 100;
        empty: those of the table.
    @return: a row of titles, and a row for each figure that at least one run has. The first
        run has one cell in a row. Each other run has two: the figure, and its difference
        from the first run's.
    """
    (_, first), *_ = runs
    rows = [
        ["", runs[0].name, *(cell for run in runs[1:] for cell in (run.name, ""))],
        ["verdict", first.verdict,
         *(cell for run in runs[1:] for cell in (run.results.verdict, ""))],
    ]  # fmt: skip
    for row in _rows(percents):
        figures = [row.read(results) for _, results in runs]
        if not any(figure is not None for figure in figures):
            continue
        written = ["-" if figure is None else row.write(figure) for figure in figures]
        cells = [written[0]]
        for figure, text in zip(figures[1:], written[1:], strict=True):
            cells += [text, _change(figures[0], figure)]
        rows.append([row.title, *cells])
    return rows


def comparisonText(runs: Sequence[Run], percents: Sequence[float] = ()) -> str:
    """
    Write the comparison as aligned lines. The last line ends with a newline too.

    @param percents: see L{comparison}.
    """
    rows = comparison(runs, percents)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, *cells in rows:
        aligned = [f"{cell:>{width}}" for cell, width in zip(cells, widths[1:], strict=True)]
        lines.append("  ".join([f"{name:<{widths[0]}}", *aligned]).rstrip())
    lines += [f"{name}: warning: {sentence}" for name, sentence in warnings(runs)]
    lines += [f"{name}: {line}" for name, line in expected(runs)]
    return "".join(f"{line}\n" for line in lines)


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
