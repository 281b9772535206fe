"""
The program C{python -m echofactory.report}: the results of runs, from their JSON.
"""

import os
import sys
from shutil import get_terminal_size
from typing import ClassVar, NoReturn

from twisted.python import usage

from echofactory._version import __version__
from echofactory.cli.commonoptions import CHART_OPTIONS
from echofactory.cli.expecting import EXPECT_OF_REPORT, readExpectations, refuseRelative
from echofactory.cli.options import CommandOptions, Flag, Option
from echofactory.cli.outputoptions import CSV, PERCENTILES
from echofactory.cli.outputs import (
    Charts,
    jsonText,
    openOutput,
    requireDistinctFiles,
    writeOutput,
)
from echofactory.cli.streams import prepareStreams
from echofactory.report.compare import Run, comparisonText
from echofactory.report.intervalcsv import intervalsCSV
from echofactory.report.layout import hasColour, widthOf
from echofactory.report.naming import namedByLabels
from echofactory.report.noise import withoutNoise
from echofactory.report.reading import MAX_FILE_SIZE, readResults
from echofactory.report.text import PERCENTS, report
from echofactory.results.books import Results
from echofactory.results.expectations import Expectation
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.judging import judge
from echofactory.results.merge import merged


class ReportOptions(CommandOptions):
    """
    The command line of C{python -m echofactory.report}.

    @ivar runs: the runs to show; with C{--merge}, one.
    @ivar percents: the percentiles to show; C{None}: those of every report.
    """

    program = "echofactory.report"
    synopsis = "Usage: python -m echofactory.report [options] FILE..."
    longdesc = (
        "Show the results that python -m echofactory.client wrote with --json or --json-lines."
        " Of one run: its report. Of several runs: a table, with the difference of each run"
        " from the first. FILE can be -, which is stdin. Exit status: 0 the report was written;"
        " 1 an output could not be written, or with --expect, a run failed; 2 bad usage; 3 an"
        " expectation (--expect) was not met."
    )
    examples = """\
python -m echofactory.report before.json after.json
    both runs in one table
python -m echofactory.report before.json after.json --plot both.svg
    the same, and a plot
python -m echofactory.report before.json after.json --expect 'p99<+10%,rate>-5%'
    the same, and exit status 3 if p99 has risen by 10 % or the rate has fallen by 5 %
python -m echofactory.report --merge client1.json client2.json
    two clients that ran at the same time, as one run
"""
    groups: ClassVar[dict[str, tuple[str, ...]]] = {
        "Input": ("merge",),
        "Pass or fail": ("expect",),
        "Output": ("json", "csv", "plot", "html", "percentiles"),
    }
    parameters: ClassVar[tuple[Option, ...]] = (
        *CHART_OPTIONS,
        CSV,
        PERCENTILES,
        EXPECT_OF_REPORT,
        Option(
            "json",
            "FILE",
            str,
            None,
            "With --merge: write the merged run to this file as JSON. - is stdout; the report"
            " then goes to stderr.",
            example="merged.json",
        ),
    )
    flags: ClassVar[tuple[Flag, ...]] = (
        Flag("merge", "Merge runs that went on at the same time into one run."),
    )

    def __init__(self) -> None:
        super().__init__()
        self.paths: tuple[str, ...] = ()
        self.runs: list[Run] = []

    def parseArgs(self, *paths: str) -> None:
        if not paths:
            raise usage.UsageError("give the JSON file of one run or more; - is stdin")
        self.paths = paths

    def postOptions(self) -> None:
        if self["json"] and not self["merge"]:
            raise usage.UsageError("--json: give --merge too")
        if self["csv"] and not self["merge"] and len(self.paths) > 1:
            raise usage.UsageError("--csv: give one run, or --merge")
        self.percents: tuple[float, ...] | None = self.value("percentiles")
        self.runs = [Run.named(path, self._read(path)) for path in self.paths]
        if self["merge"]:
            if len({os.path.realpath(path) for path in self.paths}) < len(self.paths):
                raise usage.UsageError("--merge: a file is given twice")
            try:
                whole = merged([run.results for run in self.runs])
                # The counts of each run are within their bounds; the sums may exceed them.
                fromJSON(toJSON(whole, __version__))
            except ValueError as error:
                raise usage.UsageError(f"--merge: {error}") from None
            self.runs = [Run(" + ".join(run.name for run in self.runs), whole)]
        self.runs = namedByLabels(self.runs)
        expectations = readExpectations(self)
        if len(self.runs) == 1:
            refuseRelative(expectations, "give a first run and others, without --merge")
        if expectations:
            self._judge(expectations)

    def _judge(self, expectations: tuple[Expectation, ...]) -> None:
        """Judge each run. A relative expectation is about every run but the first."""
        first = self.runs[0].results
        absolute = [each for each in expectations if not each.relative]
        for _, results in self.runs[1:]:
            judged = judge(results, expectations, first)
            results.expectations = withoutNoise(judged, results, first)
        first.expectations = judge(first, absolute)

    @property
    def unmet(self) -> bool:
        """Whether C{--expect} was given, and a run does not meet an expectation."""
        judged = (each for run in self.runs for each in run.results.expectations)
        return bool(self["expect"]) and not all(each.met for each in judged)

    def unaccepted(self) -> list[str]:
        """
        Return a line for each run that has failed or was interrupted, although the
        expectations do not say how much of it they accept; without C{--expect}, none.
        """
        if not self["expect"]:
            return []
        lines = []
        for name, results in self.runs:
            quantities = {each.expectation.quantity for each in results.expectations}
            if results.interrupted:
                lines.append(f"{name}: ✗ the run was interrupted")
            elif results.verdict == "failed" and not quantities & {"failed", "lost"}:
                lines.append(
                    f"{name}: ✗ the run failed, and no expectation is about failed or lost"
                )
        return lines

    def _read(self, path: str) -> Results:
        try:
            with open("/dev/stdin" if path == "-" else path, "rb") as file:
                return readResults(file.read(MAX_FILE_SIZE + 1))
        except OSError as error:
            raise usage.UsageError(f"{path!r}: {error.strerror}") from None
        except ValueError as error:
            raise usage.UsageError(f"{path!r}: {error}") from None


def main() -> NoReturn:
    """
    Run the program.

    @raise SystemExit: always.
    """
    prepareStreams()
    options = ReportOptions()
    options.parseOptions()
    requireDistinctFiles(options, options.paths)
    jsonFile = openOutput(options, "json")
    csvFile = openOutput(options, "csv")
    charts = Charts(options)
    runs, percents = options.runs, options.percents
    told = sys.stderr if sys.stdout in (jsonFile, csvFile) else sys.stdout
    if len(runs) > 1:
        width = get_terminal_size().columns if told.isatty() else None
        text = comparisonText(runs, percents or (), width)
    else:
        text = report(runs[0].results, percents or PERCENTS, widthOf(told), hasColour(told))
    unaccepted = options.unaccepted()
    text += "".join(f"{line}\n" for line in unaccepted)
    status = writeOutput(options, "report", told, text)
    if jsonFile is not None:
        written = jsonText(runs[0].results)
        status = writeOutput(options, "--json", jsonFile, written) or status
    if csvFile is not None:
        written = intervalsCSV(runs[0].results)
        status = writeOutput(options, "--csv", csvFile, written) or status
    judged = 1 if unaccepted else 3 if options.unmet else 0
    sys.exit(charts.write(runs) or status or judged)
