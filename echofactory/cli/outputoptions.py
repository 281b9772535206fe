"""
The options about outputs: what the client writes, and what the report writes too.
"""

import re

from twisted.python import usage

from echofactory.cli.commonoptions import CHART_OPTIONS
from echofactory.cli.options import CommandOptions, Option
from echofactory.cli.parsers import parseInterval, parseProgress
from echofactory.results.labels import MAX_KEY_LENGTH, MAX_LABELS, MAX_TEXT_LENGTH
from echofactory.values.printable import printable

MAX_PERCENTILES = 20
"""Maximum number of percentiles of a report."""

_PERCENTILE = re.compile(r"\d{1,2}(\.\d{1,7})?", re.ASCII)


def parsePercentiles(text: str) -> tuple[float, ...]:
    """Read percentiles such as C{50,99,99.999}; return them in order, each once."""
    parts = text.split(",")
    percents = {float(part) for part in parts if _PERCENTILE.fullmatch(part)}
    if not all(map(_PERCENTILE.fullmatch, parts)) or 0 in percents:
        raise ValueError(
            "not percentiles of more than 0 and less than 100, with up to 7 decimals, such as"
            " 50,99,99.999"
        )
    if len(percents) > MAX_PERCENTILES:
        raise ValueError(f"more than {MAX_PERCENTILES} percentiles")
    return tuple(sorted(percents))


def parseTitle(text: str) -> str:
    """Read a title; return it with an escape for each character that does not print."""
    title = printable(text)
    if not title or len(title) > MAX_TEXT_LENGTH:
        raise ValueError(f"not a title of 1 to {MAX_TEXT_LENGTH} characters")
    return title


def parseLabel(text: str) -> tuple[str, str]:
    """Read a label such as C{host=a}; return its key and its value, escaped as a title."""
    key, equals, value = (printable(part.strip()) for part in text.partition("="))
    if not equals or not key:
        raise ValueError("not KEY=VALUE, such as host=a")
    if len(key) > MAX_KEY_LENGTH or len(value) > MAX_TEXT_LENGTH:
        raise ValueError(
            f"too long: the key can have {MAX_KEY_LENGTH} characters, and the value"
            f" {MAX_TEXT_LENGTH}"
        )
    return key, value


def readLabels(options: CommandOptions) -> dict[str, str]:
    """
    Return the labels of a command line.

    @raise usage.UsageError: if a key is given twice, or there are too many labels.
    """
    labels: dict[str, str] = {}
    for key, value in options.value("label"):
        if key in labels:
            raise usage.UsageError(f"--label: {key!r} is given twice")
        labels[key] = value
    if len(labels) > MAX_LABELS:
        raise usage.UsageError(f"--label: {len(labels)} labels are more than {MAX_LABELS}")
    return labels


CSV = Option(
    "csv",
    "FILE",
    str,
    None,
    "Write the intervals to this file as CSV, with one line per interval. - is stdout; the"
    " report then goes to stderr.",
    example="run.csv",
)

PERCENTILES = Option(
    "percentiles",
    "LIST",
    parsePercentiles,
    None,
    "Percentiles of the report, more than 0 and less than 100, with up to 7 decimals. The"
    " outputs with complete histograms do not change.",
    defaultHelp="50,90,95,99,99.9,99.99",
    example="50,75,99,99.999",
)

RUN_OUTPUTS = (
    Option(
        "json",
        "FILE",
        str,
        None,
        "Write the results to this file as JSON. - is stdout; the report then goes to stderr.",
        example="run.json",
    ),
    Option(
        "json-lines",
        "FILE",
        str,
        None,
        "Write one JSON object per line to this file: one for each interval when it ends,"
        " and the results at the end. With --find-rate: one for each rate that was tried,"
        " and the results. - is stdout; the report then goes to stderr.",
        example="run.jsonl",
    ),
    CSV,
    Option(
        "hdr",
        "FILE",
        str,
        None,
        "Write the response times to this file as an HdrHistogram log with one histogram per"
        " interval. If the suffix is .hgrm, write the percentile distribution of the whole run"
        " as text, for HdrHistogram's plotter. Can be repeated.",
        example="run.hlog",
        repeated=True,
    ),
    *CHART_OPTIONS,
    Option(
        "title",
        "TEXT",
        parseTitle,
        None,
        "Title of the run, which its outputs show. Up to 256 characters.",
        example="'after the change'",
    ),
    Option(
        "label",
        "KEY=VALUE",
        parseLabel,
        None,
        "Label of the run, which its outputs show. Can be repeated, up to 20 times with"
        " different keys. Labels that differ name the columns of a comparison.",
        example="host=a",
        repeated=True,
    ),
    PERCENTILES,
    Option(
        "progress",
        "auto|always|never",
        parseProgress,
        "auto",
        "Progress on stderr during the run. auto: a live view if stderr is a terminal."
        " always: without a terminal, one line per interval.",
        example="always",
    ),
    Option(
        "interval",
        "DURATION",
        parseInterval,
        "1s",
        "Length of an interval. Progress, JSON, log and plots show figures per interval.",
        example="250ms",
    ),
)
