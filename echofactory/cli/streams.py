"""
The standard streams of a program. They may be closed, on a full disk, or in an encoding that
does not have every character.
"""

import os
import sys
from codecs import backslashreplace_errors, register_error
from contextlib import suppress
from io import TextIOWrapper
from typing import IO

_WORDS = {"µ": "u", "✓": "ok", "✗": "not met"}
"""What is written for a character that an encoding does not have."""


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle an encoding error: some characters have words, every other becomes an escape."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] in _WORDS:
        return _WORDS[error.object[error.start]], error.start + 1
    return backslashreplace_errors(error)


register_error("echofactory", _escaped)


def prepareStreams() -> None:
    """
    Open stdin, stdout and stderr if they are closed. A character that is not in their
    encoding is written as an escape, such as C{\\xfc}, or as a word: C{µ} as C{u}.
    """
    # Otherwise the next file or socket gets the number of a closed stream.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False, encoding="utf-8")  # noqa: SIM115
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(number, "w", closefd=False, encoding="utf-8")  # noqa: SIM115
            setattr(sys, name, stream)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="echofactory")


def printLine(line: str, stream: IO[str]) -> None:
    """Write a line. If it cannot be written, the program goes on."""
    with suppress(OSError, ValueError):
        print(line, file=stream, flush=True)


def printError(line: str) -> None:
    """Write a line to stderr, as L{printLine} does."""
    printLine(line, sys.stderr)
