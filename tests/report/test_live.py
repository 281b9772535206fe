"""
The live view, and the letters that it is drawn with.
"""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.report.blocks import bar, canShow, sparkline
from echofactory.report.live import progress
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import Interval
from echofactory.workload.settings import Workload

VALUES = st.lists(st.none() | st.floats(0, 1e12), max_size=50)


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what is written to it."""

    def __init__(self, encoding: str) -> None:
        self.written = io.BytesIO()
        super().__init__(self.written, encoding=encoding, errors="replace", write_through=True)

    def isatty(self) -> bool:
        return True

    @property
    def text(self) -> str:
        return self.written.getvalue().decode(self.encoding)


def aRun(seconds: int, rest: float = 0.0) -> Results:
    """A run of some seconds, the last of which may have just begun."""
    results = Results(target="tcp:[::1]:7", workload=Workload(count=1).facts(), requested=9)
    before = 0.0
    for end in [*range(1, seconds + 1), *([seconds + rest] if rest else [])]:
        results.intervals.append(
            Interval(
                endNs=round(end * 1e9),
                lengthNs=round((end - before) * 1e9),
                open=9,
                # None in the part of a second at the end.
                messages=1000 if end == int(end) else 0,
                bytes=2048,
                p50Ns=250_000,
                p99Ns=3_000_000,
                failures=0,
            )
        )
        before = end
    for reading in (90_000, 250_000, 260_000, 3_000_000):
        results.response.record(reading)
    return results


@pytest.fixture(params=[80, 40])
def columns(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The columns of the terminal."""
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("LINES", "50")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return int(request.param)


def drawn(results: Results, left: float | None, encoding: str = "utf-8") -> str:
    """Draw a run once, and return what is on the terminal at the end."""
    terminal = Terminal(encoding)
    view = progress("auto", terminal, lambda: left)
    assert view is not None
    view(results)
    view.close()
    # What was drawn before is erased.
    return terminal.text.rpartition("\x1b[2K")[2]


def plain(text: str) -> list[str]:
    """Return the lines without the terminal's codes."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text).splitlines()]


def test_the_figures(columns: int) -> None:
    """Each line fits, and every figure has its unit."""
    lines = plain(drawn(aRun(3), 7.0))
    assert max(map(len, lines)) <= columns
    text = "\n".join(lines)
    for part in ("3 s, 7 s left", "9 of 9 open", "1,000 messages/s", "250 µs", "3.00 ms"):
        assert part in text
    (rate,) = [line for line in lines if line.startswith("rate")]
    assert ("███" in rate) == (columns == 80)
    # Two of four readings.
    assert "50.0% ██" in text


@pytest.mark.usefixtures("columns")
def test_a_part_of_an_interval_at_the_end() -> None:
    """It is too short for a rate."""
    assert "1,000 messages/s" in drawn(aRun(3, 0.05), None)


@pytest.mark.usefixtures("columns")
def test_failures_are_red() -> None:
    """One line for each kind."""
    results = aRun(2)
    results.connectionFailed(ConnectionFailure(1, "x", FailureKind.RESET, "y"))
    (line,) = [line for line in drawn(results, None).splitlines() if "reset" in line]
    assert "\x1b[1;31m" in line
    assert "1 connection failed" in line


@pytest.mark.usefixtures("columns")
def test_it_stays_on_the_terminal() -> None:
    """The last drawing is not erased."""
    assert "9 of 9 open" in drawn(aRun(2), None)


@pytest.mark.usefixtures("columns")
def test_an_encoding_without_the_letters() -> None:
    """ASCII is drawn instead."""
    text = drawn(aRun(2), None, "ascii")
    assert "50.0% ##" in text
    assert "<= 500" in text


@given(VALUES, st.integers(0, 60), st.booleans())
def test_a_sparkline(values: list[float | None], width: int, ascii_: bool) -> None:
    """It has a letter for each of the newest values. The greatest has the highest letter."""
    line = sparkline(values, width, ascii_)
    shown = values[-width:] if width else []
    assert [letter == " " for letter in line] == [value is None for value in shown]
    present = [value for value in shown if value is not None]
    if present and max(present) > 0:
        assert line[shown.index(max(present))] == ("#" if ascii_ else "█")
    assert line.isascii() or not ascii_


@given(st.floats(0, 1), st.integers(0, 100), st.booleans())
def test_a_bar(share: float, width: int, ascii_: bool) -> None:
    """It is as long as its share, and not empty above 0."""
    letters = bar(share, width, ascii_)
    assert bool(letters) == (share > 0 and width > 0)
    assert abs(len(letters) - share * width) <= 1


def test_what_an_encoding_has() -> None:
    """An unknown one has nothing."""
    shown = {name: canShow(name) for name in ("utf-8", "ascii", "cp437", "nonsense", None)}
    assert shown == {
        "utf-8": True, "ascii": False, "cp437": False, "nonsense": False, None: False,
    }  # fmt: skip
