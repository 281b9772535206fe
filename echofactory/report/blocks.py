"""
Figures drawn with letters: sparklines and bars.
"""

from collections.abc import Sequence

_LEVELS = "▁▂▃▄▅▆▇█"
_PARTS = " ▏▎▍▌▋▊▉█"
_ASCII_LEVELS = "_.:-=+*#"


def canShow(encoding: str | None) -> bool:
    """Return whether an encoding has the letters of this module."""
    try:
        (_LEVELS + _PARTS).encode(encoding or "ascii")
    except (LookupError, UnicodeEncodeError):
        return False
    return True


def sparkline(values: Sequence[float | None], width: int, plain: bool = False) -> str:
    """
    Draw a series as one line. The line begins at 0 and ends at the greatest value.

    @param values: the newest is the last; C{None}: there is no value, which is a space.
    @param width: the most letters. If there are more values, the newest are drawn.
    @param plain: draw with ASCII.
    """
    levels = _ASCII_LEVELS if plain else _LEVELS
    shown = values[-width:] if width > 0 else ()
    most = max((value for value in shown if value is not None), default=0)
    line = ""
    for value in shown:
        if value is None:
            line += " "
        elif not most:
            line += levels[0]
        else:
            line += levels[min(int(value / most * len(levels)), len(levels) - 1)]
    return line


def bar(share: float, width: int, plain: bool = False) -> str:
    """
    Draw a bar. A share above 0 is never empty.

    @param share: from 0 to 1.
    @param width: the letters of a share of 1.
    @param plain: draw with ASCII.
    """
    if share <= 0 or width <= 0:
        return ""
    if plain:
        return "#" * max(1, round(share * width))
    whole, part = divmod(max(1, round(share * width * 8)), 8)
    return "█" * whole + (_PARTS[part] if part else "")
