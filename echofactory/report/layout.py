"""
Lays a report out in columns: no line is longer than the terminal, except for a word that is.
"""

import os
import shutil
import textwrap
from collections.abc import Sequence
from typing import IO

WIDTH = 80
"""Columns of a report that does not go to a terminal, and the most of one that does."""

_NAMES = 15
"""Columns of the names, with the gap after them."""
_GAP = 2

_STYLES = {"good": "32", "bad": "1;31", "doubtful": "33", "quiet": "2"}


def widthOf(stream: IO[str]) -> int:
    """Return the columns of a report on a stream: at most L{WIDTH}."""
    if not stream.isatty():
        return WIDTH
    return min(shutil.get_terminal_size().columns or WIDTH, WIDTH)


def hasColour(stream: IO[str]) -> bool:
    """
    Return whether to write in colour: on a terminal, unless C{NO_COLOR} is set and not empty
    (no-color.org), or the terminal is C{dumb}.
    """
    return (
        stream.isatty()
        and not os.environ.get("NO_COLOR")
        and os.environ.get("TERM", "dumb") != "dumb"
    )


def styled(text: str, style: str) -> str:
    """
    Write text in a colour of ANSI terminals.

    @param style: C{good}, C{bad}, C{doubtful} or C{quiet}; empty: no colour.
    """
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if style else text


def factLines(name: str, text: str, width: int) -> list[str]:
    """Return a fact as lines: the name stands before the first."""
    wrapped = textwrap.wrap(
        text, max(width - _NAMES, 20), break_long_words=False, break_on_hyphens=False
    )
    first, *others = wrapped or [""]
    return [f"{name:<{_NAMES}}{first}".rstrip(), *(" " * _NAMES + line for line in others)]


def tableLines(columns: Sequence[Sequence[str]], width: int) -> list[str]:
    """
    Return a table as lines. If the columns do not fit, the rest of them follow below.

    @param columns: the cells of each column, from the top. The first column has the names.
    """
    names, *others = columns
    # On a narrow terminal, a column of figures is worth more than the alignment.
    first = _NAMES if width >= WIDTH else max(map(len, names)) + _GAP
    lines: list[str] = []
    while others:
        fitting: list[Sequence[str]] = []
        used = first
        while others and (not fitting or used + _widthOf(others[0]) <= width):
            used += _widthOf(others[0])
            fitting.append(others.pop(0))
        for row, name in enumerate(names):
            cells = "".join(f"{column[row]:>{_widthOf(column)}}" for column in fitting)
            lines.append(f"{name:<{first}}{cells}")
    return lines


def _widthOf(column: Sequence[str]) -> int:
    return max(map(len, column)) + _GAP
