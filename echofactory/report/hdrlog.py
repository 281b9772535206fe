"""
The HdrHistogram log: the response times of a run, one histogram for each interval, in the
format that other HdrHistogram tools read.
"""

from typing import IO

from hdrh.log import HistogramLogWriter

from echofactory.results.books import Results
from echofactory.results.labels import labelsText
from echofactory.results.latency import Latency


class HdrLog:
    """
    Writes the log.

    @ivar error: the first error of a write; C{None}: there was none.
    """

    def __init__(self, file: IO[str]) -> None:
        """
        @param file: the log, at the position to write from.
        """
        self.error: OSError | None = None
        self._file = file
        self._writer = HistogramLogWriter(file)
        # One histogram for all intervals: only the garbage collector frees a histogram.
        self._histogram = Latency().histogram()
        self._begun = False

    def __call__(self, results: Results) -> None:
        """Write the last interval. After an error, write nothing; the run goes on."""
        if self.error is None:
            try:
                self._write(results)
            except OSError as error:
                self.error = error

    def _write(self, results: Results) -> None:
        if not self._begun:
            self._begun = True
            self._writer.output_log_format_version()
            self._writer.output_comment(
                f"[StartTime: {results.started.timestamp():.3f} "
                f"(seconds since epoch), {results.started}]"
            )
            if results.title:
                self._writer.output_comment(f"[Title: {results.title}]")
            if results.labels:
                self._writer.output_comment(f"[Labels: {labelsText(results.labels)}]")
            self._writer.output_legend()
        interval = results.intervals[-1]
        histogram = self._histogram
        histogram.reset()
        results.recent.addTo(histogram)
        # The writer of the library cuts the maximum to whole milliseconds.
        fields = (
            (interval.endNs - interval.lengthNs) / 1e9,
            interval.lengthNs / 1e9,
            (results.recent.asJSON()["max"] or 0) / 1e6,
        )
        self._file.write(
            ",".join([*(f"{field:.6f}" for field in fields), histogram.encode().decode()])
            + "\n"
        )
        self._file.flush()
