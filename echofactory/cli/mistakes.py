"""
Explains the options that C{getopt} refuses: what was probably meant, or what is missing.
"""

import difflib
from collections.abc import Sequence
from getopt import GetoptError
from typing import Protocol

_OTHER_NAMES = {
    "?": "help",
    "V": "version",
    "c": "connections",
    "concurrency": "connections",
    "d": "duration",
    "i": "interval",
    "k": "insecure",
    "l": "listen",
    "m": "message",
    "o": "json",
    "output": "json",
    "r": "rate",
    "s": "size",
    "time": "duration",
    "u": "udp",
    "v": "version",
    "verbose": "trace",
    "w": "window",
}
"""What other programs call an option, and what it is called here."""

_ARGUMENTS = ("p", "port", "host")
"""Options of other programs that are arguments here."""


class Declared(Protocol):
    """What is known of an option."""

    @property
    def name(self) -> str:
        """The long name."""

    @property
    def short(self) -> str | None:
        """The short name."""

    @property
    def words(self) -> str:
        """The option as it is written: C{-n, --connections N}."""

    @property
    def example(self) -> str:
        """A value; empty: there is none."""


def explained(error: GetoptError, declared: Sequence[Declared], hasPort: bool) -> str:
    """
    Return what is wrong with an option.

    @param declared: the options of the program.
    @param hasPort: whether the program has the arguments HOST and PORT.
    """
    given = error.opt
    named = [option for option in declared if given in (option.name, option.short)]
    if "not recognized" in error.msg or not given:
        # "--": an option without a name.
        dashes = "-" if error.msg.startswith(f"option -{given} ") else "--"
        meant = _meant(given, [option.name for option in declared], hasPort)
        return f"option {dashes}{given} not recognized{meant}"
    if "unique" in error.msg:
        begun = [f"--{each.name}" for each in declared if each.name.startswith(given)]
        return f"option --{given} can be {_joined(begun)}"
    (option,) = named
    if "requires" in error.msg:
        metavar = option.words.rpartition(" ")[2]
        example = f", such as --{option.name} {option.example}" if option.example else ""
        return f"--{option.name}: give its value, {metavar}{example}"
    return f"--{option.name}: this option has no value"


def _meant(given: str, names: Sequence[str], hasPort: bool) -> str:
    """Return a question about the option that was probably meant; empty: nobody knows."""
    if hasPort and given in _ARGUMENTS:
        return ": give HOST and PORT as arguments, such as 127.0.0.1 7007"
    if (known := _OTHER_NAMES.get(given)) in names:
        return f"; did you mean --{known}?"
    begun = [f"--{name}" for name in names if given and name.startswith(given)]
    if begun:
        return f"; did you mean {_joined(begun)}?"
    close = difflib.get_close_matches(given, names, n=1)
    return f"; did you mean --{close[0]}?" if close else ""


def _joined(words: Sequence[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last
