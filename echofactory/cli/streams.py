"""
The standard streams of a program, as a user may leave them: closed, on a full disk, or in
an encoding that lacks a letter.
"""

import os
import sys
from codecs import backslashreplace_errors, register_error
from contextlib import suppress
from io import TextIOWrapper
from typing import IO


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Handle an error of encoding: microseconds stay readable, all else is an escape."""
    if isinstance(error, UnicodeEncodeError) and error.object[error.start] == "µ":
        return "u", error.start + 1
    return backslashreplace_errors(error)


register_error("echofactory", _escaped)


def prepareStreams() -> None:
    """
    Open stdin, stdout and stderr if they are closed. A character that their encoding lacks
    is written as an escape, such as C{\\xfc}; C{µ} is written as C{u}.
    """
    # A closed one would otherwise be the number of the next file or socket.
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


def tell(line: str, stream: IO[str]) -> None:
    """Write a line. If nobody can read it, the program goes on all the same."""
    with suppress(OSError, ValueError):
        print(line, file=stream, flush=True)


def complain(line: str) -> None:
    """Write a line to stderr, as L{tell} does."""
    tell(line, sys.stderr)
