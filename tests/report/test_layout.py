"""
The report in columns.
"""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.report.layout import WIDTH, factLines, hasColour, styled, tableLines, widthOf

WORD = st.text("abc019", min_size=1, max_size=30)
CELL = st.text("019", min_size=1, max_size=9)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.lists(WORD), st.integers(40, 100))
def test_facts(words: list[str], width: int) -> None:
    """No word is lost or broken, and only a single word is longer than the line."""
    lines = factLines("name", " ".join(words), width)
    assert lines[0].startswith("name")
    assert all(line.startswith(" " * 15) for line in lines[1:])
    bodies = [line[15:].split() for line in lines]
    assert [word for body in bodies for word in body] == words
    assert all(
        len(line) <= width or len(body) == 1 for line, body in zip(lines, bodies, strict=True)
    )


@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=6), st.integers(40, 80))
def test_columns(figures: list[tuple[str, str, str]], width: int) -> None:
    """Every cell is there once, with a gap before it, and the lines fit."""
    lines = tableLines([["latency", "p50", "p99.9"], *figures], width)
    assert max(map(len, lines)) <= width
    words = [line.split()[1:] for line in lines]
    for row in range(3):
        cells = [word for body in words[row::3] for word in body]
        assert cells == [column[row] for column in figures]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": ""}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: bool
) -> None:
    """Only a terminal gets it, and only if its user wants it."""
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert hasColour(_Terminal()) is expected
    assert not hasColour(io.StringIO())
    assert styled("x", "bad") == "\x1b[1;31mx\x1b[0m"
    assert styled("x", "") == "x"


def test_the_width(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of the terminal, if it is not wider than a report."""
    for columns, expected in (("40", 40), ("200", WIDTH)):
        monkeypatch.setenv("COLUMNS", columns)
        assert widthOf(_Terminal()) == expected
    assert widthOf(io.StringIO()) == WIDTH
