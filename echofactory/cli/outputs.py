"""
The output files of a command line. They are opened before the run, so that a wrong path is
refused before it costs a run. They keep their content until the run begins.
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
from echofactory.cli.streams import printError
from echofactory.report.compare import Run
from echofactory.report.page import page
from echofactory.report.plot import SUFFIXES, draw, missing
from echofactory.results.books import Results
from echofactory.results.json import toJSON


def requireDistinctFiles(options: CommandOptions, inputs: Sequence[str] = ()) -> None:
    """
    Check that each output has its own file.

    @param inputs: the files that are read.
    @raise SystemExit: with status 2 and one line, if two options name the same file, or if
        an output is one of the inputs.
    """
    named: dict[str, str] = {}
    read = {os.path.realpath(path) for path in inputs if path != "-"}
    given = [
        (name, path)
        for name in ("json", "json-lines", "csv", "hdr", "plot", "html")
        for path in _paths(options, name)
    ]
    for name, path in given:
        place = path if path == "-" else os.path.realpath(path)
        if place in read:
            options.refuse(name, f"{path!r} is also an input")
        if place in named:
            options.refuse(name, f"{path!r} is also the file of --{named[place]}")
        named[place] = name


def _paths(options: CommandOptions, name: str) -> list[str]:
    """Return the files that an option names, if the program has the option."""
    path = options.get(name)
    return path if isinstance(path, list) else [path] if path is not None else []


def openOutput(options: CommandOptions, name: str, binary: bool = False) -> IO[Any] | None:
    """
    Open the file that an option names; C{-} is stdout. The file keeps its content until
    the run begins (L{lockAndEmpty}), because another option may still be refused.

    @return: C{None} if the option was not given.
    @raise SystemExit: with status 2 and one line, if it cannot be opened.
    """
    opened = openOutputs(options, name, binary)
    return opened[0] if opened else None


def openOutputs(options: CommandOptions, name: str, binary: bool = False) -> list[IO[Any]]:
    """Open the files of an option that can be repeated, as L{openOutput} does."""
    return [_opened(options, name, path, binary) for path in _paths(options, name)]


def _opened(options: CommandOptions, name: str, path: str, binary: bool) -> IO[Any]:
    if path == "-":
        return sys.stdout
    kind = ("ab",) if binary else ("a", -1, "utf-8", "backslashreplace")
    try:
        file: IO[Any] = open(path, *kind)  # noqa: SIM115
    except OSError as error:
        options.refuse(name, f"{path!r}: {error.strerror}")
    return file


def lockAndEmpty(options: CommandOptions, name: str, file: IO[Any] | None) -> None:
    """
    Lock and empty an output, because a run begins. The lock lasts as long as the file is
    open.

    @param file: the output; C{None}: nothing is done.
    @raise SystemExit: with status 2 and one line, if another run has locked the file.
    """
    if file is None:
        return
    if S_ISREG(os.fstat(file.fileno()).st_mode) and file not in (sys.stdout, sys.stderr):
        try:
            flock(file, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            options.refuse(name, f"{file.name!r}: another run is writing this file")
        except OSError:
            # A file system without locks.
            pass
    _empty(file)


def _empty(file: IO[Any]) -> None:
    """Empty a file, except a standard stream."""
    if file not in (sys.stdout, sys.stderr):
        with suppress(OSError):
            file.truncate(0)


def writeOutput(options: CommandOptions, name: str, file: IO[Any], content: str | bytes) -> int:
    """
    Write an output.

    @param name: the option, or what else the line on stderr calls the output.
    @return: 0; or 1, after a line on stderr, if the output cannot be written.
    """
    try:
        _empty(file)
        file.write(content)
        file.flush()
    except OSError as error:
        return abandon(options, name, file, error)
    return 0


def abandon(options: CommandOptions, name: str, file: IO[Any], error: OSError) -> int:
    """
    Say that an output cannot be written, and write nothing more to it.

    @param name: as in L{writeOutput}.
    @return: 1.
    """
    printError(f"{options.program}: {name}: {error.strerror}")
    # Otherwise the rest in the buffer fails again when the process ends.
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), file.fileno())
    return 1


def jsonText(results: Results) -> str:
    """Return what C{--json} writes."""
    return json.dumps(toJSON(results, __version__), indent=2) + "\n"


class Charts:
    """The outputs of C{--plot} and C{--html}."""

    def __init__(self, options: CommandOptions) -> None:
        """
        @raise SystemExit: with status 2 and one line, if one of the two options has a wrong
            value, or matplotlib is missing.
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
        """Lock and empty the files, because a run begins."""
        lockAndEmpty(self._options, "plot", self._plot)
        lockAndEmpty(self._options, "html", self._html)

    def write(
        self, runs: Sequence[Run], command: str = "", used: Sequence[tuple[str, str]] = ()
    ) -> int:
        """
        Write the files.

        @param command: the command line of the run, if it is known.
        @param used: the options of the run and their values.
        @return: 1 if a file could not be written, 0 otherwise.
        """
        status = 0
        if self._plot is not None:
            drawn = BytesIO()
            draw(runs, drawn, self._suffix, command)
            status = writeOutput(self._options, "--plot", self._plot, drawn.getvalue())
        if self._html is not None:
            text = page(runs, __version__, command, used)
            status = writeOutput(self._options, "--html", self._html, text) or status
        return status
