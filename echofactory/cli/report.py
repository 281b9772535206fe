"""
The program C{python -m echofactory.report}: the results of runs, from their JSON.
"""

import os
import sys
from typing import ClassVar, NoReturn

from twisted.python import usage

from echofactory._version import __version__
from echofactory.cli.options import PICTURES, CommandOptions
from echofactory.cli.outputs import Pictures, jsonText, openOutput, refuseSameFile, writeOutput
from echofactory.cli.streams import prepareStreams
from echofactory.report.compare import Run, comparisonText
from echofactory.report.reading import MOST_BYTES, readResults
from echofactory.report.text import report
from echofactory.results.books import Results
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.merge import merged


class ReportOptions(CommandOptions):
    """
    The command line.

    @ivar runs: those that were named.
    """

    program = "echofactory.report"
    synopsis = "Usage: python -m echofactory.report [options] FILE..."
    longdesc = (
        "Show what python -m echofactory.client wrote with --json: one run as it reports it,"
        " or several beside each other, with how far each is from the first."
    )
    examples = """\
python -m echofactory.report before.json after.json
    both in one table
python -m echofactory.report before.json after.json --plot both.svg
    the same, and drawn
python -m echofactory.report --merge client1.json client2.json
    two clients that ran side by side, as one run
"""
    optParameters: ClassVar[list[list[object]]] = [
        *PICTURES,
        ["json", None, None, "With --merge, write the one run to this file; - is stdout."],
    ]
    optFlags: ClassVar[list[list[object]]] = [
        ["merge", None, "Take the runs, which went on side by side, as one."],
    ]

    def __init__(self) -> None:
        super().__init__()
        self.paths: tuple[str, ...] = ()
        self.runs: list[Run] = []

    def parseArgs(self, *paths: str) -> None:
        if not paths:
            raise usage.UsageError("give the JSON file of a run, or several; - is stdin")
        self.paths = paths

    def postOptions(self) -> None:
        if self["json"] and not self["merge"]:
            raise usage.UsageError("--json: it is what --merge writes")
        self.runs = [Run.named(path, self._read(path)) for path in self.paths]
        if self["merge"]:
            if len({os.path.realpath(path) for path in self.paths}) < len(self.paths):
                raise usage.UsageError("--merge: a run is given twice")
            try:
                whole = merged([run.results for run in self.runs])
                # Counts that are each within their bounds may exceed them together.
                fromJSON(toJSON(whole, __version__))
            except ValueError as error:
                raise usage.UsageError(f"--merge: {error}") from None
            self.runs = [Run(" + ".join(run.name for run in self.runs), whole)]

    def _read(self, path: str) -> Results:
        try:
            with open("/dev/stdin" if path == "-" else path, "rb") as file:
                return readResults(file.read(MOST_BYTES + 1))
        except OSError as error:
            raise usage.UsageError(f"{path!r}: {error.strerror}") from None
        except ValueError as error:
            raise usage.UsageError(f"{path!r}: {error}") from None


def main() -> NoReturn:
    """
    Do what the command line says.

    @raise SystemExit: always.
    """
    prepareStreams()
    options = ReportOptions()
    options.parseOptions()
    refuseSameFile(options)
    jsonFile = openOutput(options, "json")
    pictures = Pictures(options)
    runs = options.runs
    text = comparisonText(runs) if len(runs) > 1 else report(runs[0].results)
    told = sys.stderr if jsonFile is sys.stdout else sys.stdout
    status = writeOutput(options, "report", told, text)
    if jsonFile is not None:
        written = jsonText(runs[0].results)
        status = writeOutput(options, "--json", jsonFile, written) or status
    sys.exit(pictures.write(runs) or status)
