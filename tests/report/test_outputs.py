"""
The files of a run for other tools, and the names of runs.
"""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import pytest
from schema import FACTS, validate

from echofactory.cli.report import main
from echofactory.report.compare import Run, comparison
from echofactory.report.hgrm import percentileText
from echofactory.report.intervalcsv import intervalsCSV
from echofactory.report.jsonlines import JSONLines
from echofactory.report.naming import namedByLabels
from echofactory.report.text import percentileName, report
from echofactory.results.books import Results
from echofactory.results.intervals import Interval
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.merge import merged

pytestmark = pytest.mark.oldest

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def piece(number: int, p50Ns: int | None = 1000) -> Interval:
    return Interval(
        endNs=number * 500_000_000, lengthNs=500_000_000, open=1, messages=10, bytes=640,
        p50Ns=p50Ns, p99Ns=p50Ns, failures=0,
    )  # fmt: skip


def aRun(*readingsNs: int, title: str = "", **labels: str) -> Results:
    results = Results(
        target="tcp:a:7", workload=FACTS, requested=1, completed=1, started=START,
        elapsedNs=1_000_000_000, title=title, labels=labels,
    )  # fmt: skip
    for ns in readingsNs:
        results.response.record(ns)
    return results


def plotted(text: str) -> list[tuple[float, float]]:
    """Return what C{plotFiles.html} of HdrHistogram draws: y and x of each line."""
    drawn = []
    for line in text.split("\n"):
        values = line.split()
        if not line.startswith("#") and len(values) == 4:
            try:
                drawn.append((float(values[0]), float(values[3])))
            except ValueError:
                # The titles of the columns.
                continue
    return drawn


# The percentile distribution.


def test_the_levels_of_the_distribution() -> None:
    """They halve the rest in steps of five, as those of the Java library."""
    text = percentileText(aRun(*(ms * 1_000_000 for ms in range(1, 101))))
    rows = [line.split() for line in text.splitlines()[2:] if not line.startswith("#")]
    assert [float(row[1]) for row in rows[:12]] == [
        0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.775,
    ]  # fmt: skip
    assert [float(row[1]) for row in rows[-2:]] == [0.990625, 1.0]
    assert rows[-1][2] == "100"
    assert len(rows[-1]) == 3
    y, x = plotted(text)[5]
    assert y == pytest.approx(50.0, rel=1e-3)
    assert x == 2.0
    assert len(plotted(text)) == len(rows) - 1


def test_the_distribution_of_few_readings() -> None:
    """The slow one of 75 is the p99. The library's rank would round it away."""
    text = percentileText(aRun(*[1_000_000] * 74, 9_000_000))
    *_, (before, at), (slow, above) = plotted(text)
    # 74 of 75 readings are 1 of 75 below the whole.
    assert at <= 75 < above
    assert before == pytest.approx(1.0, rel=1e-3)
    assert slow == pytest.approx(9.0, rel=1e-3)


def test_the_footer_is_that_of_the_library() -> None:
    """Mean, deviation and maximum are in milliseconds."""
    results = aRun(*(us * 1000 for us in range(100, 2000, 7)))
    histogram = results.response.histogram()
    lines = percentileText(results).splitlines()[-3:]
    mean, deviation = histogram.get_mean_value() / 1e6, histogram.get_stddev() / 1e6
    assert lines == [
        f"#[Mean    = {mean:12.3f}, StdDeviation   = {deviation:12.3f}]",
        f"#[Max     = {histogram.get_max_value() / 1e6:12.3f}, Total count    = {272:12d}]",
        f"#[Buckets = {histogram.bucket_count:12d}, SubBuckets     = "
        f"{histogram.sub_bucket_count:12d}]",
    ]


def test_the_distribution_without_readings() -> None:
    """It has no line to draw."""
    text = percentileText(aRun())
    assert plotted(text) == []
    assert "Total count    =            0]" in text


# Lines.


def test_the_table() -> None:
    """It follows RFC 4180; what is not known is empty."""
    results = aRun()
    results.intervals = [piece(1), piece(2, None)]
    text = intervalsCSV(results)
    assert text.startswith(
        "t_s,length_s,open,messages,messages_per_s,bytes,p50_ns,p99_ns,failures\r\n"
    )
    assert text.endswith("\r\n")
    first, second = csv.DictReader(StringIO(text, newline=""))
    assert first["messages_per_s"] == "20.0"
    assert (second["t_s"], second["p50_ns"]) == ("1.0", "")


def test_lines_that_wait_for_room(tmp_path: Path) -> None:
    """While a pipe is full, a line waits. It is written before the next one."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    filled = b"\n" * os.fpathconf(writing, "PC_PIPE_BUF")
    os.set_blocking(writing, False)
    written = 0
    with open(writing, "w") as file:
        lines = JSONLines(file)
        try:
            while True:
                written += os.write(writing, filled)
        except BlockingIOError:
            pass
        results = aRun()
        results.intervals = [piece(1)]
        lines(results)
        while written:
            written -= len(os.read(reading, written))
        results.intervals.append(piece(2))
        lines(results)
    with open(reading) as left:
        assert [json.loads(line)["t_s"] for line in left] == [0.5, 1.0]
    assert lines.error is None


# Titles and labels.


def test_results_of_version_2_have_no_labels() -> None:
    """They are read as results without a title."""
    written = toJSON(aRun(), "0")
    del written["title"], written["labels"]
    read = fromJSON(written | {"schema": "echofactory.results/2"})
    assert (read.title, read.labels) == ("", {})


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "x" * 257},
        {"labels": {"k" * 65: "v"}},
        {"labels": {"": "v"}},
        {"labels": {"k": "v" * 257}},
        {"labels": {f"k{number}": "v" for number in range(21)}},
        {"labels": {"k": 1}},
        {"type": "interval"},
    ],
)
def test_titles_and_labels_that_are_refused(wrong: dict[str, object]) -> None:
    """They are bounded in a file too."""
    with pytest.raises(ValueError, match="not the results of a run"):
        fromJSON(toJSON(aRun(), "0") | wrong)


def test_merged_runs() -> None:
    """The whole has the labels of its runs."""
    other = replace(aRun(title="two", host="b"), started=START + timedelta(milliseconds=1))
    whole = merged([aRun(title="one", host="a", build="7"), other])
    assert whole.title == "one, two"
    assert whole.labels == {"host": "a, b", "build": "7"}
    validate(toJSON(whole, "0"))


def names(*runs: Results) -> list[str]:
    files = [Run(f"{number}.json", run) for number, run in enumerate(runs)]
    return [run.name for run in namedByLabels(files)]


def test_names_of_runs() -> None:
    """Labels that tell all runs apart, then titles, then files."""
    assert names(aRun(host="a", build="7"), aRun(host="b", build="7")) == ["host=a", "host=b"]
    assert names(aRun(title="x", host="a"), aRun(title="y", host="a")) == ["x", "y"]
    assert names(aRun(title="x", host="a"), aRun(title="y")) == ["x", "y"]
    assert names(aRun(title="x"), aRun(title="x")) == ["0.json", "1.json"]
    three = [aRun(host="a"), aRun(host="b"), aRun(host="a")]
    assert names(*three) == ["0.json", "1.json", "2.json"]
    assert names(aRun(title="x", host="a")) == ["0.json"]
    # matplotlib would leave this name out of the legend.
    assert names(aRun(_k="a"), aRun(_k="b")) == ["./_k=a", "./_k=b"]


# Percentiles.


def test_names_of_percentiles() -> None:
    """With all decimals that the command line takes."""
    assert [*map(percentileName, (50.0, 99.9, 99.99999, 0.5))] == [
        "p50", "p99.9", "p99.99999", "p0.5",
    ]  # fmt: skip


def test_percentiles_of_a_report() -> None:
    """They are calculated from the histogram, and the columns stay aligned."""
    results = aRun(*(us * 1000 for us in range(101, 2001)))
    text = report(results, (25.0, 99.9999999)).splitlines()
    rows = text[text.index("") + 1 : -2]
    assert [row.split()[0] for row in rows] == [
        "latency", "min", "p25", "p99.9999999", "max", "mean",
    ]  # fmt: skip
    assert [row.split()[1:] for row in rows[1:4]] == [
        ["101", "µs"],
        ["575", "µs"],
        ["2.00", "ms"],
    ]
    assert len(set(map(len, rows))) == 1


def test_percentiles_of_a_comparison() -> None:
    """The chosen rows take the place of those of the response time."""
    runs = [Run(name, aRun(*(us * 1000 for us in range(1, 101)))) for name in "ab"]
    titles = [row[0] for row in comparison(runs, (25.0, 75.0))]
    assert [title for title in titles if title.startswith("response time")] == [
        "response time p25", "response time p75", "response time max",
    ]  # fmt: skip
    chosen = {"response time p25", "response time p75"}
    whole = [row[0] for row in comparison(runs)]
    assert [title for title in titles if title not in chosen] == [
        title for title in whole if not title.startswith("response time p")
    ]


@pytest.fixture
def saved(tmp_path: Path) -> list[str]:
    """The files of two runs with different labels."""
    paths = []
    for host in "ab":
        results = aRun(1_000_000, host=host)
        results.intervals = [piece(1)]
        paths.append(tmp_path / f"{host}.json")
        paths[-1].write_text(json.dumps(toJSON(results, "0")))
    return [str(path) for path in paths]


Reported = Callable[..., list[str]]


@pytest.fixture
def reported(
    outputs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Reported:
    """Run the report in this process; return its lines on stdout."""

    def run(*words: str) -> list[str]:
        monkeypatch.setattr("sys.argv", ["report", *words])
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        return capsys.readouterr().out.splitlines()

    return run


def test_the_report_compares_by_label(reported: Reported, saved: list[str]) -> None:
    """The labels are the names of the columns, with the chosen percentiles."""
    lines = reported(*saved, "--percentiles", "33")
    assert lines[0].split() == ["host=a", "host=b"]
    assert any(line.startswith("response time p33 ") for line in lines)


def test_the_report_writes_a_table(
    reported: Reported, refusal: Callable[..., str], saved: list[str], tmp_path: Path
) -> None:
    """Of one run, or of a merged one."""
    path = tmp_path / "run.csv"
    lines = reported(saved[0], "--csv", str(path), "--percentiles", "33")
    assert [line.split()[0] for line in lines[lines.index("") + 2 : -2]] == [
        "min", "p33", "max", "mean",
    ]  # fmt: skip
    assert path.read_text().splitlines()[1] == "0.5,0.5,1,10,20.0,640,1000,1000,0"
    reported("--merge", *saved, "--csv", str(path))
    assert path.read_text().splitlines()[1].startswith("0.5,0.5,2,20,40.0,1280,,,0")
    line = refusal(main, *saved, "--csv", str(path))
    assert line == "echofactory.report: --csv: give one run, or --merge"
