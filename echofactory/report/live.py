"""
The progress of a run: a live view on a terminal, or a line for each interval.
"""

from collections.abc import Callable
from typing import IO, Any

from echofactory.report.text import latencyText
from echofactory.results.books import Results
from echofactory.results.intervals import Interval
from echofactory.values.quantities import numberText, rateText, sizeRateText

CHOICES = ("auto", "always", "never")


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
        *before, interval = results.intervals
        # The last interval can be shorter, because the run ends in it. The report has it.
        if not before or interval.lengthNs > before[-1].lengthNs / 2:
            print(line(results, interval), file=self._stream, flush=True)

    def say(self, text: str) -> None:
        """Write another text."""
        print(text, end="", file=self._stream, flush=True)

    def close(self) -> None:
        """Do nothing."""


class _Live:
    """A view that is redrawn for each interval."""

    def __init__(self, stream: IO[str], remaining: Callable[[], float | None]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._remaining = remaining
        # No automatic refresh: its thread would take time from the measurement.
        self._live = Live(console=Console(file=stream), auto_refresh=False, transient=True)
        self._live.start()

    def __call__(self, results: Results) -> None:
        self._live.update(self._drawn(results), refresh=True)

    def say(self, text: str) -> None:
        """Write another text above the view."""
        from rich.text import Text

        self._live.console.print(Text(text))

    def close(self) -> None:
        """Remove the view from the terminal."""
        self._live.stop()

    def _drawn(self, results: Results) -> Any:
        from rich.table import Table
        from rich.text import Text

        interval = results.intervals[-1]
        seconds = interval.lengthNs / 1e9 or 1.0
        drawn = Table.grid(padding=(0, 3))
        drawn.add_column(style="dim")
        drawn.add_column(justify="right")
        drawn.add_column(style="dim")
        left = self._remaining()
        rows = [
            ("target", results.target, ""),
            ("connections", f"{interval.open:,}", f"of {results.requested:,} open"),
            ("rate", numberText(interval.messages / seconds), "messages/s"),
            ("", sizeRateText(interval.bytes / seconds), "received"),
            ("response time", latencyText(interval.p50Ns), "p50"),
            ("", latencyText(interval.p99Ns), "p99"),
            ("verified", f"{results.verified:,}", "messages"),
            *(
                ("failed", f"{count:,}", str(kind))
                for kind, count in sorted(results.failures.items())
            ),
            ("elapsed", f"{interval.endNs / 1e9:,.0f} s", ""),
            *([("left", f"{left:,.0f} s", "")] if left is not None else []),
        ]
        for name, value, unit in rows:
            # As Text, because a target's name can look like markup.
            drawn.add_row(Text(name), Text(value), Text(unit))
        return drawn


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
