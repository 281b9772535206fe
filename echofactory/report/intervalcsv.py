"""
The intervals of a run as a table in CSV (RFC 4180).
"""

import csv
from io import StringIO

from echofactory.results.books import Results
from echofactory.results.intervals import Interval

_COLUMNS = (
    *("t_s", "length_s", "open", "messages", "messages_per_s", "bytes"),
    *("p50_ns", "p99_ns", "failures"),
)
"""The columns. Those of the JSON's intervals have the same names there."""


def _row(interval: Interval) -> dict[str, object]:
    return interval.asJSON() | {
        "length_s": interval.lengthNs / 1e9,
        "messages_per_s": round(interval.perSecond, 3),
    }


def intervalsCSV(results: Results) -> str:
    """
    Return a line with the names of the columns, and a line for each interval. A figure that is
    not known is an empty field. Lines end with CR and LF.
    """
    text = StringIO(newline="")
    table = csv.DictWriter(text, _COLUMNS, extrasaction="ignore")
    table.writeheader()
    table.writerows(map(_row, results.intervals))
    return text.getvalue()
