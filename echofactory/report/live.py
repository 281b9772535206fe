"""
The progress of a run: a live view on a terminal, or a line for each interval.
"""

from collections.abc import Callable
from typing import IO, Any

from echofactory.report.blocks import bar, canShow, sparkline
from echofactory.report.text import latencyText
from echofactory.results.books import Results
from echofactory.results.intervals import Interval, withoutShortEnd
from echofactory.values.quantities import (
    counted,
    durationText,
    percentText,
    rateText,
    sizeRateText,
)

CHOICES = ("auto", "always", "never")

_WIDEST = 100
"""Columns of the live view, at most."""
_NAMES = 14
"""Columns of the names, with the gap after them."""
_FIGURES = 24
"""Columns of a figure that a line follows."""
_LEAST = 10
"""Columns of a line, at least. Otherwise there is none."""

_BOUNDS = tuple(factor * 10**power for power in range(3, 12) for factor in (1, 2, 5))
"""The ends of the bars, in nanoseconds: three in a decade, from 1 µs."""


def line(results: Results, interval: Interval) -> str:
    """Return one interval as a line."""
    seconds = interval.lengthNs / 1e9 or 1.0
    return (
        f"{interval.endNs / 1e9:7.{1 if seconds > 0.9 else 2}f} s  {interval.open:6,} open"
        f"  {rateText(interval.messages / seconds):>21}"
        f"  {sizeRateText(interval.bytes / seconds):>11}"
        f"  p50 {latencyText(interval.p50Ns):>8}  p99 {latencyText(interval.p99Ns):>8}"
        f"  {results.failed:,} failed"
    )


class _Lines:
    """A line for each interval."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, results: Results) -> None:
        interval = results.intervals[-1]
        # The report has what came in a shorter one at the end.
        if interval is withoutShortEnd(results.intervals)[-1]:
            print(line(results, interval), file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Write another text."""
        print(text, end="", file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing."""


class _Live:
    """A view that is redrawn for each interval, and stays on the terminal at the end."""

    def __init__(self, stream: IO[str], remaining: Callable[[], float | None]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._remaining = remaining
        self._plain = not canShow(getattr(stream, "encoding", None))
        # No automatic refresh: its thread would take time from the measurement.
        self._live = Live(console=Console(file=stream), auto_refresh=False)
        self._live.start()

    def __call__(self, results: Results) -> None:
        self._live.update(self._drawn(results), refresh=True)

    def say(self, text: str) -> None:
        """Write another text above the view."""
        from rich.text import Text

        self._live.console.print(Text.from_ansi(text))

    def close(self) -> None:
        """Leave the view as it is, with an empty line after it."""
        self._live.stop()
        self._live.console.print()

    def _drawn(self, results: Results) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        width = min(self._live.console.width, _WIDEST)
        elapsed, left = results.intervals[-1].endNs / 1e9, self._remaining()
        drawn = Table.grid(padding=(0, 2))
        drawn.add_column(style="bold", no_wrap=True)
        drawn.add_column(no_wrap=True, overflow="ellipsis")
        for name, value, style in [
            ("target", results.target, ""),
            ("time", f"{elapsed:,.0f} s" + (f", {left:,.0f} s left" if left else ""), ""),
            *self._series(results, width),
            *_distribution(results, width - _NAMES, self._plain),
            ("verified", counted(results.verified, "message"), ""),
            *(
                (str(kind), f"{counted(count, 'connection')} failed", "bold red")
                for kind, count in sorted(results.failures.items())
            ),
        ]:
            # As Text, because a target's name can look like markup.
            drawn.add_row(Text(name, style=style), Text(value, style=style))
        return Group(*self._bar(elapsed, left, width), drawn)

    def _bar(self, elapsed: float, left: float | None, width: int) -> list[Any]:
        """Draw how much of the run is over, if that is known."""
        from rich.console import Group
        from rich.progress_bar import ProgressBar

        if left is None:
            return []
        return [Group(ProgressBar(elapsed + left, elapsed, width=width), "")]

    def _series(self, results: Results, width: int) -> list[tuple[str, str, str]]:
        """Return the latest figures, and lines of the last minute if there is room."""
        recent = _lastMinute(results)
        last = recent[-1]
        room = width - _NAMES - _FIGURES
        figures: list[tuple[str, str, list[float | None]]] = [
            (
                "connections",
                f"{last.open:,} of {results.requested - (results.reconnects or 0):,} open",
                [each.open for each in recent],
            ),
            ("rate", rateText(last.perSecond), [each.perSecond for each in recent]),
            ("", sizeRateText(last.bytesPerSecond), [each.bytesPerSecond for each in recent]),
            ("p50", latencyText(last.p50Ns), [each.p50Ns for each in recent]),
            ("p99", latencyText(last.p99Ns), [each.p99Ns for each in recent]),
        ]
        rows = []
        for name, figure, values in figures:
            line = sparkline(values, min(room, 60), self._plain)
            rows.append((name, f"{figure:<{_FIGURES}}{line}" if room >= _LEAST else figure, ""))
        return rows


def _lastMinute(results: Results) -> list[Interval]:
    """Return the intervals of the last minute, without a shorter one at the end."""
    since = results.intervals[-1].endNs - 60e9
    return [each for each in withoutShortEnd(results.intervals)[-600:] if each.endNs > since]


def _distribution(results: Results, width: int, plain: bool) -> list[tuple[str, str, str]]:
    """Return the response times of the run so far as bars."""
    counts = results.response.buckets(*_BOUNDS)[0]
    total = results.response.count
    shares = [
        (bound, (count - below) / total)
        for bound, count, below in zip(_BOUNDS, counts, [0, *counts], strict=False)
        if total and count > below
    ]
    most = max((share for _, share in shares), default=0)
    return [
        (
            f"≤ {durationText(bound)}" if not plain else f"<= {durationText(bound)}",
            f"{percentText(share):>8} {bar(share / most, min(width - 9, 50), plain)}",
            "cyan",
        )
        for bound, share in shares
    ]


def progress(
    choice: str, stream: IO[str], remaining: Callable[[], float | None]
) -> _Lines | _Live | None:
    """
    Return the progress, which is called at the end of each interval; C{None}: nothing is
    shown.

    @param choice: one of L{CHOICES}; C{auto}: only on a terminal.
    @param stream: the stream to show the progress on.
    @param remaining: returns the seconds to the end of the run; C{None}: unknown.
    """
    if choice == "never":
        return None
    if stream.isatty():
        return _Live(stream, remaining)
    return _Lines(stream) if choice == "always" else None
