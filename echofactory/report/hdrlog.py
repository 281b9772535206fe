"""
The HdrHistogram log: a run's response times, one histogram for each interval, as
other tools of that family read it.
"""

from typing import IO

from hdrh.log import HistogramLogWriter

from echofactory.results.books import Results
from echofactory.results.latency import Latency


class HdrLog:
    """
    Writes one.

    @ivar error: why it could not be written; C{None} as long as it can.
    """

    def __init__(self, file: IO[str]) -> None:
        """
        @param file: the log; it is written from where it stands.
        """
        self.error: OSError | None = None
        self._file = file
        self._writer = HistogramLogWriter(file)
        # One for all: each is memory that only the collector of cycles gets back.
        self._histogram = Latency().histogram()
        self._begun = False

    def __call__(self, results: Results) -> None:
        """Write the last interval; what cannot be written is no reason to end a run."""
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
            self._writer.output_legend()
        interval = results.intervals[-1]
        histogram = self._histogram
        histogram.reset()
        results.recent.addTo(histogram)
        # The library's writer cuts the greatest reading to whole milliseconds.
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
