"""
What a run of the client writes, and serves, through its command line.
"""

import csv
import json
import os
import select
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from programs import CLIENT, LIMIT, client, running
from schema import validate
from statuses import get, metrics

from echofactory.cli.client import main
from echofactory.report.intervalcsv import intervalsCSV
from echofactory.results.json import SCHEMA, fromJSON

LOAD = ("--size", "64", "--rate", "400", "--duration", "300ms", "--interval", "100ms")
ENDLESS = ("--size", "64", "--rate", "100", "--duration", "1h", "--interval", "50ms")
NAMED = ("--title", "after\x1b", "--label", "host=a", "--label", "build=7")
SHOWN = {"title": "after\\x1b", "labels": {"host": "a", "build": "7"}}
"""What C{NAMED} is in the JSON."""


def withoutType(line: str) -> Any:
    """Return the results in the last line of C{--json-lines}, as C{--json} writes them."""
    results = json.loads(line)
    assert results.pop("type") == "results"
    return validate(results)


def test_json_lines(port: str, tmp_path: Path) -> None:
    """Each interval is one line, and the last line is what --json writes."""
    lines, whole = tmp_path / "run.jsonl", tmp_path / "run.json"
    done = client("127.0.0.1", port, *LOAD, "--json-lines", str(lines), "--json", str(whole))
    assert done.process.returncode == 0, done.err
    *intervals, last = lines.read_text().splitlines()
    results = json.loads(whole.read_text())
    assert withoutType(last) == results
    about = {"type": "interval", "schema": SCHEMA}
    assert [json.loads(line) for line in intervals] == [
        about | interval for interval in results["intervals"]
    ]
    assert len(intervals) >= 3


def test_the_report_reads_the_last_line(port: str, tmp_path: Path) -> None:
    """It is the results of a run, with one more field."""
    path = tmp_path / "run.jsonl"
    shown = client("127.0.0.1", port, *LOAD, "--json-lines", str(path)).out
    last = path.read_text().splitlines()[-1]
    read = subprocess.run(
        [CLIENT[0], "-m", "echofactory.report", "-"],
        input=last, capture_output=True, text=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    assert read.stdout.splitlines() == shown


def test_json_lines_as_they_happen(port: str) -> None:
    """A reader of stdout has an interval while the run goes on; the report is on stderr."""
    words = ["127.0.0.1", port, *ENDLESS, "--json-lines", "-"]
    with running([*CLIENT, *words]) as program:
        program.waitFor(r'^\{"type": "interval", .*"messages": [1-9]')
        program.end()
    assert withoutType(program.out[-1])["verdict"] == "interrupted"
    assert program.err[-1].startswith("verdict        interrupted")


def test_a_reader_of_json_lines_that_leaves(port: str, tmp_path: Path) -> None:
    """The run goes on to its end, and one line says that lines are missing."""
    path = tmp_path / "run.json"
    words = ["127.0.0.1", port, *LOAD, "--json-lines", "-", "--json", str(path), "--quiet"]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*CLIENT, *words], stdout=writing, stderr=subprocess.PIPE, text=True,
            timeout=LIMIT, check=False,
        )  # fmt: skip
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "echofactory.client: --json-lines: Broken pipe"
    assert "Exception" not in done.stderr
    assert validate(json.loads(path.read_text()))["messages"]["verified"] == 120


def test_a_reader_of_json_lines_that_stops_to_read(port: str) -> None:
    """The run ends at its time, and no line is lost when the reader goes on."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    while select.select([], [writing], [], 0)[1]:
        os.write(writing, b"\n" * 4096)
    os.set_blocking(writing, True)
    words = ["127.0.0.1", port, *LOAD, "--json-lines", "-"]
    process = subprocess.Popen(
        [*CLIENT, *words], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert process.stderr is not None
    limit = threading.Timer(LIMIT, process.kill)
    limit.daemon = True
    limit.start()
    with process, open(reading, encoding="ascii") as lines:
        # The report follows the run. Only then does the program wait for the reader.
        assert any(line.startswith("verdict        ok") for line in process.stderr)
        *intervals, last = filter(None, lines.read().splitlines())
        assert process.wait(LIMIT) == 0
    limit.cancel()
    assert len(intervals) == len(withoutType(last)["intervals"])


def test_two_outputs_on_stdout(refusal: Callable[..., str], port: str) -> None:
    """Their lines would be mixed."""
    line = refusal(main, "127.0.0.1", port, "--json", "-", "--csv", "-")
    assert line == "echofactory.client: --csv: '-' is also the file of --json"


def test_csv(port: str, tmp_path: Path) -> None:
    """Each interval is a line. The report writes the same from the JSON."""
    table, whole = tmp_path / "run.csv", tmp_path / "run.json"
    done = client("127.0.0.1", port, *LOAD, "--csv", str(table), "--json", str(whole))
    assert done.process.returncode == 0, done.err
    results = json.loads(whole.read_text())
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["messages"]) for row in rows] == [
        interval["messages"] for interval in results["intervals"]
    ]
    assert table.read_bytes().decode() == intervalsCSV(fromJSON(results))


def test_the_title_and_the_labels_are_in_every_output(port: str, tmp_path: Path) -> None:
    """In the report, in the JSON, and as comments in the files of histograms."""
    paths = {name: tmp_path / f"run.{name}" for name in ("json", "jsonl", "hlog", "hgrm")}
    done = client(
        "127.0.0.1", port, *LOAD, *NAMED, "--json", str(paths["json"]),
        "--json-lines", str(paths["jsonl"]), "--hdr", str(paths["hlog"]),
        "--hdr", str(paths["hgrm"]),
    )  # fmt: skip
    assert done.process.returncode == 0, done.err
    assert done.out[:2] == [
        r"title          after\x1b",
        "labels         host=a, build=7",
    ]
    written = validate(json.loads(paths["json"].read_text()))
    assert {name: written[name] for name in SHOWN} == SHOWN
    assert withoutType(paths["jsonl"].read_text().splitlines()[-1]) == written
    for name in ("hlog", "hgrm"):
        comments = [
            line for line in paths[name].read_text().splitlines() if line.startswith("#[")
        ]
        assert r"#[Title: after\x1b]" in comments
        assert "#[Labels: host=a, build=7]" in comments


def test_a_search_as_json_lines(port: str, tmp_path: Path) -> None:
    """Each rate that was tried is a line, and the last line has all of them."""
    lines, text = tmp_path / "run.jsonl", tmp_path / "run.hgrm"
    done = client(
        "127.0.0.1", port, "--find-rate", "p50<1us", "--duration", "100ms", *NAMED,
        "--json-lines", str(lines), "--hdr", str(text), "--quiet",
    )  # fmt: skip
    assert done.process.returncode == 1
    *steps, last = map(json.loads, lines.read_text().splitlines())
    about = {"type": "step", "schema": SCHEMA}
    assert steps == [about | step for step in last["find_rate"]["steps"]]
    assert last["labels"] == SHOWN["labels"]
    assert f"Total count    = {last['response_ns']['count']:12d}" in text.read_text()


def test_the_percentiles_of_the_report(port: str) -> None:
    """Those that were chosen, in order, between the lowest and the highest reading."""
    done = client("127.0.0.1", port, *LOAD, "--percentiles", "99.999,50,75,99")
    rows = done.out[done.out.index("") + 1 : -2]
    assert [row.split()[0] for row in rows] == [
        "latency", "min", "p50", "p75", "p99", "p99.999", "max", "mean",
    ]  # fmt: skip
    assert len(set(map(len, rows))) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--percentiles", "50,100"], "'50,100' is not percentiles of more than 0"),
        (["--percentiles", "0"], "--percentiles: '0' is not percentiles of more than 0"),
        (["--percentiles", "50,,99"], "--percentiles: '50,,99' is not percentiles of"),
        (["--percentiles", ",".join(map(str, range(1, 22)))], "more than 20 percentiles"),
        (["--title", ""], "--title: '' is not a title of 1 to 256 characters"),
        (["--title", "\x1b" * 65], "is not a title of 1 to 256 characters"),
        (["--label", "host"], "--label: 'host' is not KEY=VALUE, such as host=a"),
        (["--label", "=a"], "--label: '=a' is not KEY=VALUE"),
        (["--label", f"{'k' * 65}=a"], "is too long: the key can have 64 characters"),
        (["--label", f"k={'a' * 257}"], "is too long: the key can have 64 characters"),
        (["--label", "k=a", "--label", "k=b"], "--label: 'k' is given twice"),
        ([f"--label={n}=a" for n in range(21)], "--label: 21 labels are more than 20"),
        (["--hdr", "-"], "--hdr: '-' is not a file"),
        (["--hdr", "a.hgrm", "--hdr", "./a.hgrm"], "'./a.hgrm' is also the file of --hdr"),
        (["--status", "nonsense:1"], "--status: nonsense:1"),
    ],
)  # fmt: skip
def test_values_that_are_refused(
    refusal: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    said: str,
) -> None:
    """In one line."""
    monkeypatch.chdir(tmp_path)
    line = refusal(main, "127.0.0.1", "7", *words)
    assert line.startswith("echofactory.client: ")
    assert said in line


def test_the_status_of_a_run(port: str) -> None:
    """It is served while the run goes on, and its port is closed after the run."""
    words = ["127.0.0.1", port, "3", *ENDLESS, *NAMED, "--status", "0"]
    with running([*CLIENT, *words, "--progress", "always"]) as program:
        status = int(program.waitFor(r"^status page on 127\.0\.0\.1:(\d+)$")[1])
        program.waitFor("3 open", program.err)
        assert get(status, "/healthz").body == "ok\n"
        found = metrics(status)
        assert found["probe_connections_wanted"] == 3
        assert found["probe_connections_up"] == 3
        target = f"tcp:127.0.0.1:{port}"
        (info,) = (name for name in found if name.startswith("run_info"))
        assert f'target="{target}"' in info
        facts = json.loads(get(status, "/status.json").body)["facts"]
        assert facts["target"] == target
        assert {name: facts[name] for name in SHOWN} == SHOWN
        view = json.loads(get(status, "/view.json").body)
        assert view["title"] == rf"after\x1b: {target}"
        assert (view["state"], view["condition"]) == ("3 of 3 open", "well")
        program.end()
    with pytest.raises(ConnectionRefusedError):
        get(status, "/healthz")
    assert program.out[-1].startswith("verdict        interrupted")


def test_a_status_port_that_is_in_use(port: str, tmp_path: Path) -> None:
    """It is one line, and the outputs keep their content."""
    path = tmp_path / "run.json"
    path.write_text("earlier")
    done = client("127.0.0.1", port, "--status", port, "--json", str(path))
    assert done.process.returncode == 1
    (line,) = done.err
    assert line.startswith("echofactory.client: --status: cannot listen on tcp:")
    assert "Address already in use" in line
    assert done.out == []
    assert path.read_text() == "earlier"
