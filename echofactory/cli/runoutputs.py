"""
The outputs of one run of the client: opened before the run, told of its intervals, and written
at its end.
"""

import sys
from collections.abc import Callable
from typing import IO, Any

from echofactory._version import __version__
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.outputs import (
    Charts,
    abandon,
    jsonText,
    lockAndEmpty,
    openOutput,
    openOutputs,
    requireDistinctFiles,
    writeOutput,
)
from echofactory.report.compare import Run
from echofactory.report.hdrlog import HdrLog
from echofactory.report.hgrm import percentileText
from echofactory.report.intervalcsv import intervalsCSV
from echofactory.report.jsonlines import JSONLines
from echofactory.results.books import Results
from echofactory.results.search import SearchStep


class RunOutputs:
    """
    The outputs.

    @ivar text: where the report goes: stdout; stderr, if stdout is another output.
    @ivar watchers: called with the results at the end of each interval.
    """

    def __init__(self, options: ClientOptions) -> None:
        """
        Open the files.

        @raise SystemExit: with status 2 and one line, if an option is wrong.
        """
        self._options = options
        messages = options["message-file"]
        requireDistinctFiles(options, [] if messages is None else [messages])
        self._json = openOutput(options, "json")
        self._lines = openOutput(options, "json-lines")
        self._csv = openOutput(options, "csv")
        self._hdr = openOutputs(options, "hdr")
        self._charts = Charts(options)
        self._jsonLines = JSONLines(self._lines) if self._lines is not None else None
        self._logs = [(HdrLog(file), file) for file in self._hdr if not _isText(file)]
        taken = sys.stdout in (self._json, self._lines, self._csv)
        self.text = sys.stderr if taken else sys.stdout
        self.watchers: list[Callable[[Results], None]] = [log for log, _ in self._logs]
        if self._jsonLines is not None:
            self.watchers.append(self._jsonLines)

    def begin(self) -> None:
        """
        Lock and empty the files, because a run begins.

        @raise SystemExit: with status 2 and one line, if another run has locked one of them.
        """
        # If this process is killed, the files must not hold the results of an earlier run.
        lockAndEmpty(self._options, "json", self._json)
        lockAndEmpty(self._options, "json-lines", self._lines)
        lockAndEmpty(self._options, "csv", self._csv)
        for file in self._hdr:
            lockAndEmpty(self._options, "hdr", file)
        self._charts.begin()

    def step(self, step: SearchStep) -> None:
        """Write a step of a search."""
        if self._jsonLines is not None:
            self._jsonLines.step(step)

    def write(self, results: Results, command: str) -> int:
        """
        Write everything but the report, because the run has ended.

        @param command: the command line of the run.
        @return: 1 if an output could not be written, 0 otherwise.
        """
        options, status = self._options, 0
        if self._json is not None:
            status |= writeOutput(options, "--json", self._json, jsonText(results))
        if self._lines is not None and self._jsonLines is not None:
            self._jsonLines.end(results, __version__)
            if self._jsonLines.error is not None:
                status |= abandon(options, "--json-lines", self._lines, self._jsonLines.error)
        if self._csv is not None:
            status |= writeOutput(options, "--csv", self._csv, intervalsCSV(results))
        for log, file in self._logs:
            if log.error is not None:
                status |= abandon(options, "--hdr", file, log.error)
        for file in filter(_isText, self._hdr):
            status |= writeOutput(options, "--hdr", file, percentileText(results))
        runs = [Run(results.target, results)]
        return status | self._charts.write(runs, command, options.effective())


def _isText(file: IO[Any]) -> bool:
    """Tell whether the suffix of a C{--hdr} file is that of a percentile distribution."""
    return file.name.endswith(".hgrm")
