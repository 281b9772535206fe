"""
The results for people: runs read back, merged, compared, drawn, and as a page.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from programs import CLIENT, LIMIT, Program, client, multiecho, running
from schema import FACTS, validate

from echofactory.cli.client import main as clientMain
from echofactory.cli.report import main
from echofactory.client.findrate import RateSearch, judged
from echofactory.report.compare import Run, comparisonText
from echofactory.report.page import page
from echofactory.report.plot import draw
from echofactory.results.books import Results
from echofactory.results.expectations import Expectation
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import Interval, mergedIntervals
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.latency import Latency
from echofactory.results.merge import merged
from echofactory.results.search import Ending, SearchOutcome

pytestmark = pytest.mark.oldest

PICTURE = ["--size", "64", "--rate", "500", "--duration", "200ms", "--interval", "50ms"]
"""The load of a run that is to be drawn."""
REPORT = (sys.executable, "-m", "echofactory.report")
START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
S = 1_000_000_000


def report(*arguments: object) -> Program:
    """Run the report to its end."""
    with running([*REPORT, *map(str, arguments)]) as program:
        program.finish()
    return program


class Done(NamedTuple):
    """What came of the report in this process."""

    status: int
    out: list[str]
    err: list[str]


@pytest.fixture
def reported(
    outputs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Done]:
    """Run the report to its end, in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        status = caught.value.code
        return Done(status, out.splitlines(), err.splitlines())

    return run


class Books:
    """The same events, in the books of two runs and in those of one."""

    def __init__(self) -> None:
        # The second begins a quarter of a second later.
        self.parts = [self._new(2, 0.0), self._new(2, 0.25)]
        self.whole = self._new(4, 0.0)

    def _new(self, requested: int, later: float) -> Results:
        return Results(
            target="tcp:127.0.0.1:7",
            workload=FACTS,
            requested=requested,
            started=START + timedelta(seconds=later),
            rateAsked=100.0 * requested,
            beganAt=int(7 * S + later * S),
            service=Latency(),
        )

    def tell(self, part: int, event: Callable[[Results], None]) -> None:
        """Something happens in one of the two runs, and so in the whole."""
        event(self.parts[part])
        event(self.whole)


def message(at: float, responseNs: int) -> Callable[[Results], None]:
    def event(results: Results) -> None:
        results.sent += 1
        results.due += 1
        results.verified += 1
        results.bytesSent += 64
        results.bytesReceived += 64
        results.response.record(responseNs)
        results.serviceTime.record(responseNs // 2)
        results.sendLag.record(1000)
        results.firstAt = results.firstAt or int((7 + at) * S) - responseNs
        results.lastAt = int((7 + at) * S)

    return event


def both() -> Books:
    books = Books()
    for part in (0, 0, 1, 1):
        books.tell(part, lambda results: results.connectionEstablished(2_000_000))
        books.tell(part, lambda results: results.kernel.add(1, 0, 2, 70))
    for number in range(100):
        books.tell(number % 2, message(0.3 + number / 100, 200_000 + 7000 * number))
    failure = ConnectionFailure(2, "127.0.0.1:7", FailureKind.RESET, "reset")
    books.tell(1, lambda results: results.connectionFailed(failure))
    for results, completed in ((books.parts[0], 2), (books.parts[1], 1), (books.whole, 3)):
        results.completed, results.open = completed, 0
    for results, length in ((books.parts[0], 1.5), (books.parts[1], 1.25), (books.whole, 1.5)):
        results.elapsedNs = int(length * S)
        results.closeInterval(results.elapsedNs)
        assert results.rateAsked is not None
        results.scheduledNs = int(results.due / results.rateAsked * S)
    return books


def test_two_runs_merged_are_one() -> None:
    """Histograms, counts and books are those of one run that had all the events."""
    books = both()
    together = validate(toJSON(merged(books.parts), "1"))
    expected = validate(toJSON(books.whole, "1"))
    # The pieces that a run is kept in are another matter.
    for results in (expected, together):
        del results["intervals"], results["rate"]["min"], results["rate"]["max"]
    assert together == expected
    assert together["failures"] == {"reset": 1}
    assert together["histograms"]["response"] is not None


def test_a_later_start_is_no_lower_rate() -> None:
    """Two clients that kept their schedules kept them together, whenever each began."""
    books = both()
    books.parts[0].warnings, books.parts[1].warnings = ["one"], ["one", "other"]
    whole = merged(books.parts)
    assert (whole.achieved, whole.rateAsked) == (400.0, 400.0)
    assert whole.warnings == ["run 1: one", "run 2: one", "run 2: other"]


def test_runs_of_different_lengths_merged() -> None:
    """What was asked and what was achieved are over the same time."""
    books = both()
    long = books.parts[1]
    long.due = long.sent = long.verified = 150
    long.scheduledNs = int(0.75 * S)
    whole = merged(books.parts)
    assert whole.achieved == whole.rateAsked == pytest.approx(200 / 0.75)


def test_merged_from_their_json() -> None:
    """The same, of runs that were written and read back."""
    books = both()
    read = [fromJSON(json.loads(json.dumps(toJSON(each, "1")))) for each in books.parts]
    assert toJSON(merged(read), "1") == toJSON(merged(books.parts), "1")


def test_intervals_merged() -> None:
    """Each counts in the piece of the whole in which it ends."""
    books = Books()
    for results, lengths in zip(books.parts, ((1.0, 1.0, 0.5), (0.5, 0.5, 0.5)), strict=True):
        at = 0.0
        for length in lengths:
            at += length
            results.open = 2
            message(at, 1_000_000)(results)
            results.closeInterval(int(at * S))
        results.elapsedNs = int(at * S)
    whole = merged(books.parts).intervals
    # The second run's end at 0.75, 1.25 and 1.75 s, and then it has no connection.
    assert [interval.endNs / S for interval in whole] == [0.5, 1.0, 1.5, 2.0, 2.5]
    assert sum(interval.messages for interval in whole) == 6
    assert [interval.open for interval in whole] == [4, 4, 4, 2, 2]
    assert {interval.p50Ns for interval in whole} == {None}


@given(st.lists(st.integers(-100, 100), min_size=20, max_size=20), st.floats(0, 0.9))
def test_steady_runs_merged_are_steady(jitters: list[int], later: float) -> None:
    """However late a timer ends a piece: 1,000 messages/s and 1,000 are 2,000."""
    runs = []
    for begin, sign in ((0.0, 1), (later, -1)):
        ends = [0, *(S * n + sign * jitter * S // 1000 for n, jitter in enumerate(jitters, 1))]
        pieces = [
            Interval(endNs=end, lengthNs=end - before, open=1, messages=(end - before) // 10**6,
                     bytes=0, p50Ns=5, p99Ns=5, failures=0)
            for before, end in pairwise(ends)
        ]  # fmt: skip
        runs.append((int(begin * S), pieces))
    whole = mergedIntervals(runs)
    assert sum(piece.messages for piece in whole) == sum(
        piece.messages for _, pieces in runs for piece in pieces
    )
    for piece in whole[1:-2]:
        assert piece.perSecond == pytest.approx(2000, abs=5)
    assert mergedIntervals(runs[:1]) == runs[0][1]


SEARCH = SearchOutcome(goals=("p50<1ms",), found=5.0, ending=Ending.FOUND, steps=())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"workload": replace(FACTS, size=65)}, "the workloads differ"),
        ({"rateAsked": None}, "the workloads differ"),
        ({"search": SEARCH}, "search"),
        ({"started": START - timedelta(seconds=2)}, "at the same time"),
        ({"started": START + timedelta(days=300)}, "at the same time"),
    ],
)
def test_what_cannot_be_merged(change: dict[str, Any], said: str) -> None:
    """Runs that did not do the same, or not at the same time."""
    one, other = both().parts
    for name, value in change.items():
        setattr(other, name, value)
    with pytest.raises(ValueError, match=said):
        merged([one, other])


def test_a_comparison() -> None:
    """Each figure with its unit, and how far it is from the first run's."""
    one, other = both().parts
    other.response.record(900_000_000)
    text = comparisonText([Run("one", one), Run("other", other)])
    lines = {line[:22].strip(): line[22:].split() for line in text.splitlines()}
    assert lines[""] == ["one", "other"]
    assert lines["verdict"] == ["ok", "failed"]
    assert lines["failed"] == ["0", "1", "worse"]
    assert lines["messages asked"] == ["200/s", "200/s", "+0.0%"]
    assert lines["response time p50"] == ["536", "µs", "557", "µs", "+3.9%", "noise"]
    assert lines["response time max"][:4] == ["886", "µs", "900", "ms"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """What two clients wrote that ran side by side."""
    folder = tmp_path_factory.mktemp("runs")
    paths = [folder / "one.json", folder / "other.json"]
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (server, port),
        ExitStack() as stack,
    ):
        # Neither ends before the server goes on, which it does when both have begun.
        server.process.send_signal(signal.SIGSTOP)
        load = [*CLIENT, "127.0.0.1", str(port), "5", "--size", "64", "--rate", "400"]
        told = ["--duration", "500ms", "--interval", "100ms", "--trace", "connections"]
        running_ = [
            stack.enter_context(running([*load, *told, "--quiet", "--json", str(path)]))
            for path in paths
        ]
        for each in running_:
            each.waitFor("starting connection 5")
        server.process.send_signal(signal.SIGCONT)
        for each in running_:
            assert each.finish() == 0, each.err
    return paths


def test_one_run_is_reported_as_the_client_did(port: str, tmp_path: Path) -> None:
    """From its JSON, to the letter."""
    path = tmp_path / "run.json"
    told = client("127.0.0.1", port, "2", "--json", str(path))
    again = report(path)
    assert again.process.returncode == 0
    assert again.out == told.out
    assert again.err == []


def test_runs_compared(reported: Callable[..., Done], written: list[Path]) -> None:
    """Several files, one table."""
    done = reported(*written)
    assert done.status == 0, done.err
    assert done.out[0].split() == [str(path) for path in written]
    assert re.match(r"messages verified +200 +200 +\+0\.0%$", done.out[4]), done.out


def test_runs_taken_as_one(reported: Callable[..., Done], written: list[Path]) -> None:
    """C{--merge} adds them up, in the report and in the JSON."""
    done = reported("--merge", *written, "--json", "-")
    assert done.status == 0, done.err
    results = validate(json.loads("\n".join(done.out)))
    assert results["messages"]["verified"] == results["response_ns"]["count"] == 400
    assert results["rate"]["asked"] == 800
    assert results["connections"]["requested"] == 10
    assert sum(interval["messages"] for interval in results["intervals"]) == 400
    assert any(re.match(r"messages +400 sent, 400 verified", line) for line in done.err)


@pytest.mark.parametrize(
    ("suffix", "magic"), [("png", b"\x89PNG\r\n"), ("svg", b"<?xml"), ("pdf", b"%PDF-")]
)
def test_plots(suffix: str, magic: bytes) -> None:
    """The suffix names the format; the same results make the same file."""
    runs = [Run(str(number), results) for number, results in enumerate(both().parts)]
    files = [BytesIO(), BytesIO()]
    for file in files:
        draw(runs, file, suffix)
    assert files[0].getvalue().startswith(magic)
    assert files[0].getvalue() == files[1].getvalue()


def test_what_is_drawn(
    reported: Callable[..., Done], written: list[Path], tmp_path: Path
) -> None:
    """Latency by percentile and the run over time, with their units, of each run."""
    path = tmp_path / "both.svg"
    assert reported(*written, "--plot", path).status == 0
    drawn = path.read_text()
    parts = ["Latency by percentile", "p99", " ms", "Messages verified per second",
             "seconds from the beginning", "one.json: response time",
             "other.json: p99"]  # fmt: skip
    for part in parts:
        assert part in drawn, part


class _Page(HTMLParser):
    """Collects a page's text, and what it would fetch; its own script aside, what it runs."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = ""
        self.active: list[str] = []
        self.feed(text)
        # The data of the charts, and the one script.
        assert self.active.count("script") == 2
        self.active = [each for each in self.active if each != "script"]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "link", "img", "iframe", "object", "base"):
            self.active.append(tag)
        for name, value in attrs:
            reference = name in ("src", "href", "xlink:href", "action")
            if name.startswith("on") or (reference and not (value or "").startswith("#")):
                self.active.append(f"{tag} {name}={value}")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_of_a_run(port: str, tmp_path: Path) -> None:
    """It has the figures, the plots and the options, and needs nothing else."""
    path, plot = tmp_path / "run.html", tmp_path / "run.svg"
    done = client("127.0.0.1", port, "3", *PICTURE, "--html", str(path), "--plot", str(plot))
    assert done.process.returncode == 0, done.err
    shown = _Page(path.read_text())
    assert shown.active == []
    for part in ("every byte came back", "Latency by percentile", "send lag", "--reply-timeout",
                 "10s", f"127.0.0.1 {port} 3 --size 64 --rate 500"):  # fmt: skip
        assert part in shown.text, part
    assert "Latency by percentile" in plot.read_text()


def test_the_page_of_several(
    reported: Callable[..., Done], written: list[Path], tmp_path: Path
) -> None:
    """It has the table that compares them."""
    path = tmp_path / "both.html"
    assert reported(*written, "--html", path).status == 0
    shown = _Page(path.read_text())
    assert shown.active == []
    for part in (str(written[1]), "response time p99.9", "+0.0%"):
        assert part in shown.text, part


def test_what_peers_say_is_no_markup() -> None:
    """Neither a target nor a failure's text reaches the page unescaped."""
    evil = "<script>alert(1)</script>"
    results = Results(target=f"unix:/{evil}", workload=FACTS, requested=1)
    results.connectionFailed(ConnectionFailure(1, evil, FailureKind.RESET, evil))
    shown = _Page(page([Run(evil, results)], "1", f"python {evil}", [("--x", evil)]))
    assert shown.active == []
    assert shown.text.count(evil) >= 5


def test_the_page_of_a_search() -> None:
    """It draws what was reached at each rate."""
    results = both().whole
    goals = (Expectation("p50<1us"),)
    search = RateSearch(500.0, 1.0)
    search.note(judged(500.0, results, goals))
    search.ending = Ending.LOWEST
    results.search = search.outcome(goals)
    shown = _Page(page([Run("x", results)], "1", "python", []))
    assert "Response time at each rate tried" in shown.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the JSON file of one run or more"),
        (["/nowhere.json"], "'/nowhere.json': No such file or directory"),
        (["{empty}"], "'{empty}': empty: no results were written"),
        (["{other}"], "'{other}': not the results of a run (echofactory.results/3)"),
        (["{lacking}"], "'{lacking}': not the results of a run: $: 'version' is a required"),
        (["{nan}"], "'{nan}': NaN is not a finite number"),
        (["{endless}"], "'{endless}': 1e999 is not a finite number"),
        (["{text}"], "'{text}': not the results of a run: $.rate.asked: 'abc' is not of type"),
        (["{none}"], "'{none}': not the results of a run: $.rate.asked: 0 is less than or"),
        (["{naive}"], "'{naive}': not the results of a run: $.started: the time has no"),
        (["{order}"], "'{order}': not the results of a run: $.intervals[1]: it ends before"),
        (["{search}"], "'{search}': not the results of a run: $.find_rate: 'goals' is a"),
        (["{nested}"], "'{nested}': nested too deeply"),
        (["{broken}"], "'{broken}': not the results of a run: $.histograms.response: not an"),
        (["{counts}"], "'{counts}': not the results of a run: $.histograms.response: the"),
        (["{run}", "--json", "x"], "--json: give --merge too"),
        (["{run}", "--plot", "x.gif"], "--plot: 'x.gif' does not end in .png, .svg or .pdf"),
        (["{run}", "--plot", "-"], "--plot: '-' is not a file"),
        (["{run}", "--html", "/no/x.html"], "--html: '/no/x.html': No such file or directory"),
        (["{run}", "{churn}", "--merge"], "--merge: the workloads differ: churn "),
        (
            ["{run}", "--merge", "--plot", "x.svg", "--html", "./x.svg"],
            "--html: './x.svg' is also the file of --plot",
        ),
        (["{run}", "{run}", "--merge"], "--merge: a file is given twice"),
        (["{run}", "--html", "{run}"], "--html: '{run}' is also an input"),
        (["{run}", "--plots", "x"], "option --plots not recognized"),
    ],
)
def test_what_makes_no_sense(
    refusal: Callable[..., str], tmp_path: Path, arguments: list[str], said: str
) -> None:
    """One line that says what is wrong; exit 2."""
    run: dict[str, Any] = toJSON(both().parts[0], "1")
    contents = {
        "empty": "",
        "other": "[5]",
        "lacking": json.dumps({"schema": "echofactory.results/3"}),
        "nan": json.dumps(run | {"elapsed_s": float("nan")}),
        "endless": json.dumps(run | {"elapsed_s": 5}).replace('_s": 5,', '_s": 1e999,'),
        "text": json.dumps(run | {"rate": run["rate"] | {"asked": "abc"}}),
        "none": json.dumps(run | {"rate": run["rate"] | {"asked": 0}}),
        "naive": json.dumps(run | {"started": "2026-01-02T03:04:05"}),
        "order": json.dumps(
            run | {"intervals": [run["intervals"][0] | {"t_s": t} for t in (2, 1)]}
        ),
        "search": json.dumps(run | {"find_rate": {}}),
        "nested": "[" * 100_000,
        "counts": json.dumps(
            run | {"histograms": run["histograms"] | {"response": run["histograms"]["connect"]}}
        ),
        "broken": json.dumps(run | {"histograms": run["histograms"] | {"response": "HIST"}}),
        "run": json.dumps(run),
        "churn": json.dumps(run | {"workload": run["workload"] | {"churn": True}}),
    }
    paths = {name: str(tmp_path / f"{name}.json") for name in contents}
    for name, content in contents.items():
        Path(paths[name]).write_text(content)
    line = refusal(main, *(argument.format(**paths) for argument in arguments))
    assert line.startswith(f"echofactory.report: {said.format(**paths)}")


def test_bad_usage_of_the_process() -> None:
    """The same."""
    done = report("/nowhere.json")
    assert (done.process.returncode, done.out) == (2, [])
    said = "echofactory.report: '/nowhere.json': No such file or directory (see --help)"
    assert done.err == [said]


@pytest.mark.parametrize("mistake", [["--plot", "x.gif"], ["--html", "/nowhere/x.html"]])
def test_a_mistake_costs_no_file(
    refusal: Callable[..., str],
    reported: Callable[..., Done],
    written: list[Path],
    tmp_path: Path,
    mistake: list[str],
) -> None:
    """What another option names is still what it was; and what is written replaces it."""
    kept = tmp_path / "kept.json"
    kept.write_text("x" * 100_000)
    refusal(main, "--merge", *map(str, written), "--json", str(kept), *mistake)
    assert kept.read_text() == "x" * 100_000
    refusal(clientMain, "127.0.0.1", "7", "--json", str(kept), *mistake)
    assert kept.read_text() == "x" * 100_000
    assert reported("--merge", *written, "--json", kept).status == 0
    validate(json.loads(kept.read_text()))


def test_what_is_said_is_added_to_a_log(written: list[Path], tmp_path: Path) -> None:
    """stdout, if it is a file, is not the program's to empty."""
    log = tmp_path / "log"
    log.write_text("before\n")
    with log.open("a") as out:
        subprocess.run([*REPORT, str(written[0])], stdout=out, check=True, timeout=LIMIT)
    assert log.read_text().startswith("before\ntarget ")


def test_names_are_no_markup(
    reported: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
    written: list[Path],
    tmp_path: Path,
) -> None:
    """Neither matplotlib's nor XML's, nor what a font has no letters for."""
    names = [
        "_one.json",
        "a$\\x$.json",
        "p$1_$.json",
        "\x01.json",
        "漢字.json",
        "<b>&amp;.json",
        os.fsdecode(b"\xff.json"),
    ]
    for name in names:
        (tmp_path / name).write_text(written[0].read_text())
    page, drawn = tmp_path / "all.html", tmp_path / "all.svg"
    monkeypatch.chdir(tmp_path)
    done = reported(*names, "--html", page, "--plot", drawn)
    assert (done.status, done.err) == (0, [])
    assert ElementTree.parse(drawn).getroot().tag.endswith("svg")
    assert _Page(page.read_text()).active == []
    for name in ("./_one.json: p50", "p$1_$.json: p50", "&lt;b&gt;&amp;amp;.json: p50"):
        assert name in drawn.read_text(), name


def test_bytes_that_are_no_text(port: str, tmp_path: Path) -> None:
    """A message may be any bytes; the page shows them escaped."""
    path = tmp_path / "run.html"
    done = client("127.0.0.1", port, "--message", os.fsdecode(b"\xff<i>"), "--html", str(path))
    assert (done.process.returncode, done.err) == (0, [])
    assert "b'\\xff<i>'" in _Page(path.read_text()).text


def test_failures_at_the_end_are_drawn() -> None:
    """When all connections die together, that is the run's last piece."""
    results = both().parts[0]
    failure = ConnectionFailure(1, "x", FailureKind.RESET, "reset")
    results.connectionFailed(failure)
    results.elapsedNs += 1000
    results.closeInterval(results.elapsedNs)
    drawn = BytesIO()
    draw([Run("x", results)], drawn, "svg")
    assert b"connections failed" in drawn.getvalue()


@pytest.mark.parametrize("option", ["--plot", "--html"])
def test_a_picture_that_cannot_be_written(
    reported: Callable[..., Done], written: list[Path], tmp_path: Path, option: str
) -> None:
    """It is said in one line, after the report; exit 1."""
    full = tmp_path / "full.svg"
    full.symlink_to("/dev/full")
    done = reported(written[0], option, full)
    assert done.status == 1
    assert done.err == [f"echofactory.report: {option}: No space left on device"]
    assert done.out[-1] == "verdict        ok: every byte came back"


def test_a_plot_without_matplotlib(
    refusal: Callable[..., str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is said before the run what to install."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = refusal(clientMain, "127.0.0.1", "7", "--plot", str(tmp_path / "x.png"))
    assert line == (
        "echofactory.client: --plot: matplotlib draws the plots"
        " and is not installed: pip install matplotlib"
    )


def test_a_page_without_matplotlib(
    reported: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
    written: list[Path],
    tmp_path: Path,
) -> None:
    """It does not need it."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    path = tmp_path / "run.html"
    assert reported(written[0], "--html", path).status == 0
    assert "Latency by percentile" in path.read_text()
