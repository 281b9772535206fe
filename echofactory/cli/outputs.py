"""
The files that a command line names: opened before there is anything to write, so
that a bad path costs no run, and written to their end or complained about.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from io import BytesIO
from stat import S_ISREG
from typing import IO, Any

from echofactory._version import __version__
from echofactory.cli.options import CommandOptions
from echofactory.cli.streams import complain
from echofactory.report.compare import Run
from echofactory.report.page import page
from echofactory.report.plot import SUFFIXES, draw, missing
from echofactory.results.books import Results
from echofactory.results.json import toJSON


def refuseSameFile(options: CommandOptions) -> None:
    """
    One output would be lost to another in the same file.

    @raise SystemExit: with status 2 and one line, if two options name one.
    """
    named: dict[str, str] = {}
    for name in ("json", "hdr", "plot", "html"):
        path = options.get(name)
        if path is None or path == "-":
            continue
        other = named.setdefault(os.path.realpath(path), name)
        if other != name:
            options.refuse(name, f"{path!r} is the file of --{other} too")


def openOutput(options: CommandOptions, name: str, binary: bool = False) -> IO[Any] | None:
    """
    Open the file that an option names; C{-} is stdout. What it holds stays there, lest a
    mistake in another option cost it, until the run begins (L{claim}).

    @return: C{None} if the option was not given.
    @raise SystemExit: with status 2 and one line, if it cannot be opened.
    """
    path = options[name]
    if path is None:
        return None
    if path == "-":
        return sys.stdout
    kind = ("ab",) if binary else ("a", -1, "utf-8", "backslashreplace")
    try:
        file: IO[Any] = open(path, *kind)  # noqa: SIM115
    except OSError as error:
        options.refuse(name, f"{path!r}: {error.strerror}")
    return file


def claim(options: CommandOptions, name: str, file: IO[Any] | None) -> None:
    """
    Empty an output because a run begins. The file is this process's alone as long as it
    is open.

    @raise SystemExit: with status 2 and one line, if another run is writing it.
    """
    if file is None:
        return
    if S_ISREG(os.fstat(file.fileno()).st_mode) and file not in (sys.stdout, sys.stderr):
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            options.refuse(name, f"{options[name]!r}: another run is writing this file")
        except OSError:
            # A file system without locks.
            pass
    emptied(file)


def emptied(file: IO[Any]) -> IO[Any]:
    """Return the file, without what it held; what is no file of ours stays as it is."""
    if file not in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.truncate(0)
    return file


def writeOutput(options: CommandOptions, name: str, file: IO[Any], content: str | bytes) -> int:
    """Write an output to its end; return 1, and say so, if it cannot be, and 0 otherwise."""
    try:
        emptied(file).write(content)
        file.flush()
    except OSError as error:
        complain(f"{options.program}: {name}: {error.strerror}")
        # What is left in the buffer shall not fail again as the process ends.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
        return 1
    return 0


def jsonText(results: Results) -> str:
    """Return what C{--json} writes."""
    return json.dumps(toJSON(results, __version__), indent=2) + "\n"


class Pictures:
    """What C{--plot} and C{--html} ask for."""

    def __init__(self, options: CommandOptions) -> None:
        """
        @raise SystemExit: with status 2 and one line, if there is a mistake in them.
        """
        self._options = options
        self._suffix = ""
        for name in ("plot", "html"):
            path = options[name]
            if path is None:
                continue
            if path == "-":
                options.refuse(name, "'-' is not a file")
            if name == "plot":
                self._suffix = path.rpartition(".")[2].lower()
                if self._suffix not in SUFFIXES:
                    options.refuse(name, f"{path!r} does not end in .png, .svg or .pdf")
            if lacking := missing():
                options.refuse(name, lacking)
        self._plot = openOutput(options, "plot", binary=True)
        self._html = openOutput(options, "html")

    def begin(self) -> None:
        """What the files held is no longer true."""
        claim(self._options, "plot", self._plot)
        claim(self._options, "html", self._html)

    def write(
        self, runs: Sequence[Run], command: str = "", used: Sequence[tuple[str, str]] = ()
    ) -> int:
        """
        Write them.

        @param command: the command line of the run, if it is known.
        @param used: its options.
        @return: 1 if one could not be written, 0 otherwise.
        """
        status = 0
        if self._plot is not None:
            drawn = BytesIO()
            draw(runs, drawn, self._suffix)
            status = writeOutput(self._options, "--plot", self._plot, drawn.getvalue())
        if self._html is not None:
            text = page(runs, __version__, command, used)
            status = writeOutput(self._options, "--html", self._html, text) or status
        return status
