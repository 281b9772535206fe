"""
What a report reads is not trusted: a file can neither harm the terminal, nor take more
memory and time than its bound, nor end in a traceback.
"""

import json
import sys
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from programs import running
from schema import FACTS, validate

from echofactory.cli.report import ReportOptions
from echofactory.report.compare import Run, comparisonText
from echofactory.report.page import page
from echofactory.report.plot import draw
from echofactory.report.reading import (
    MAX_FILE_SIZE,
    MAX_ITEMS,
    MAX_MEMBERS,
    MAX_STEPS,
    MAX_STRING_LENGTH,
    MAX_VALUES,
    readResults,
)
from echofactory.report.text import failureLines, report
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import (
    MAX_MERGED_INTERVALS,
    Interval,
    intervalsFromJSON,
    mergedIntervals,
)
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.latency import Latency
from echofactory.results.merge import merged

EVIL = "\x1b[2J\r\n\u202e\udcff"
SHOWN = r"\x1b[2J\r\n\u202e\udcff"
S = 1_000_000_000
SCHEMA = json.loads(files("echofactory").joinpath("results.schema.json").read_text())


def aRun() -> dict[str, Any]:
    """Return the JSON of a run with a rate, of which one connection failed."""
    results = Results(
        target="tcp:127.0.0.1:7",
        workload=FACTS,
        requested=2,
        rateAsked=100.0,
        service=Latency(),
    )
    for number in range(1, 11):
        results.response.record(200_000 * number)
        results.serviceTime.record(100_000 * number)
        results.sendLag.record(1000)
    results.connectionEstablished(2_000_000)
    results.connectionFailed(ConnectionFailure(2, "tcp", FailureKind.RESET, "reset"))
    results.kernel.add(1, 0, 2, 70)
    results.due = results.sent = results.verified = 10
    results.completed, results.open = 1, 0
    results.bytesSent = results.bytesReceived = 640
    results.firstAt, results.lastAt, results.scheduledNs = S, S + S // 10, S // 10
    for end in (1, 2):
        results.closeInterval(end * S)
    results.elapsedNs, results.intervalNs = 2 * S, S
    written: dict[str, Any] = validate(json.loads(json.dumps(toJSON(results, "1"))))
    return written


def aSearch(ending: str) -> dict[str, Any]:
    """Return the JSON of a search."""
    run = aRun()
    kept = {
        "asked": 100.0, "achieved": 100.0, "kept": True, "interrupted": False,
        "ended_early": False, "broken": [], "failures": {},
        "response_ns": run["response_ns"], "send_lag_ns": run["send_lag_ns"],
    }  # fmt: skip
    missed = kept | {"asked": 200.0, "kept": False, "broken": ["p99<5ms"]}
    return run | {
        "find_rate": {
            "goals": ["p99<5ms"], "found": 100.0, "ended_by": ending, "steps": [kept, missed]
        }
    }  # fmt: skip


def read(written: object) -> Results:
    return readResults(json.dumps(written).encode())


def changed(change: dict[str, Any], within: str | None = None) -> str:
    """Return the text of a run in which some fields have other values."""
    run = aRun()
    if within is None:
        return json.dumps(run | change)
    return json.dumps(run | {within: run[within] | change})


# What is shown


def evilRun() -> Results:
    """Return a run in which each string that is no keyword is evil."""
    run = aSearch("found")
    run["target"] = run["version"] = EVIL
    run["examples"]["reset"] |= {"peer": EVIL, "detail": EVIL}
    run["warnings"] = [EVIL]
    run["find_rate"]["goals"] = [EVIL]
    return read(run)


def test_strings_are_escaped() -> None:
    """Each that is shown, once."""
    results = evilRun()
    for line in (*report(results).split("\n"), *failureLines(results)):
        assert line.isprintable()
    text = report(results, width=1000)
    assert f"target         {SHOWN}\n" in text
    assert f"to {SHOWN}: {SHOWN}\n" in text
    assert f"warning        {SHOWN}\n" in text
    assert f"keep {SHOWN}" in text


def test_a_page_and_a_plot_of_evil_strings() -> None:
    """Neither has a character that turns the writing round, nor one that cannot be written."""
    drawn = BytesIO()
    draw([Run.named(EVIL, evilRun())] * 2, drawn, "svg")
    written = page([Run.named(EVIL, evilRun())], "1")
    for text in (drawn.getvalue().decode(), written):
        assert SHOWN in text
        assert all(line.isprintable() for line in text.split("\n"))


def test_workloads_that_differ() -> None:
    """Merging says in what."""
    run = aRun()
    run["workload"]["churn"] = True
    with pytest.raises(ValueError, match="the workloads differ: churn False and True"):
        merged([read(run), read(aRun())])


def test_what_is_written_again() -> None:
    """It follows the schema, and its strings are those that were shown."""
    run = aRun()
    run["target"] = run["examples"]["reset"]["detail"] = EVIL
    again = toJSON(merged([read(run), read(run)]), "1")
    Draft202012Validator(SCHEMA).validate(again)
    assert again["target"] == SHOWN
    assert toJSON(read(again), "1") == again


def test_no_evil_reaches_a_terminal(tmp_path: Path) -> None:
    """Nor do the names of files, whatever is asked for."""
    for name in ("a\x1b[2J.json", "b\r.json"):
        run = aRun()
        run["target"] = run["examples"]["reset"]["detail"] = EVIL
        (tmp_path / name).write_text(json.dumps(run))
    program = [sys.executable, "-m", "echofactory.report", *map(str, tmp_path.iterdir())]
    for options in ([], ["--merge"], ["--merge", "--json", "-"]):
        with running([*program, *options]) as done:
            assert done.finish() == 0, done.err
        for line in (*done.out, *done.err):
            assert line.isprintable()


# What is refused


@pytest.fixture
def refusal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Returns the line with which a file of some content is refused."""

    def refused(content: str | bytes, *options: str) -> str:
        path = tmp_path / "run.json"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(SystemExit) as ended:
            ReportOptions().parseOptions([str(path), *options])
        assert ended.value.code == 2
        (line,) = capsys.readouterr().err.splitlines()
        said = line.removesuffix(" (see --help)").removeprefix(
            f"echofactory.report: {str(path)!r}: "
        )
        assert said != line
        return said

    return refused


WRONG = "not the results of a run: "
LATE = "9999-12-31T23:59:59-23:59"
SEARCH = aSearch("found")["find_rate"]
STEP = SEARCH["steps"][0]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\xff", "not JSON: byte 1 is not UTF-8"),
        (b"{,", "not JSON, from line 1, column 2"),
        (b" \n", "empty: no results were written"),
        ('{"a": 1e999}', "1e999 is not a finite number"),
        ('{"a": -Infinity}', "-Infinity is not a finite number"),
        ('{"a": NaN}', "NaN is not a finite number"),
        (f'{{"a": {"1" * 5000}}}', "a number of 5,000 digits"),
        ('{"\\u001b": 1, "\\u001b": 2}', r"'\x1b' is given twice in one object"),
        (json.dumps({"steps": [0] * (MAX_STEPS + 1)}), "steps: more than 200 items"),
        (json.dumps(dict.fromkeys(range(MAX_MEMBERS + 1))), "an object of more than 100 memb"),
        ("[" * 100_000, "nested too deeply"),
        (changed({"count": [[]]}, "workload"), f"{WRONG}$.workload.count: [[]] is not valid"),
        (changed({"started": LATE}), f"{WRONG}$.started: date value out of range"),
        (changed({"started": EVIL}), f"{WRONG}$.started: Invalid isoformat string: '"),
        (changed({"asked": 5e-324}, "rate"), f"{WRONG}$.messages.due: more than 1e9 s at"),
        (changed({"a": 1}, "failures"), f"{WRONG}$.failures: 'a' is not one of"),
        (changed({"a": {}}, "examples"), f"{WRONG}$.examples"),
        (changed({"response": "HIST"}, "histograms"), f"{WRONG}$.histograms.response: not an"),
        (changed({"intervals": [{}]}), f"{WRONG}$.intervals[0]: not the fields bytes, "),
        (changed({"intervals": 5}), f"{WRONG}$.intervals: 5 is not of type 'array'"),
        (
            changed({"find_rate": SEARCH | {"found": None}}),
            f"{WRONG}$.find_rate.found: null, although ended_by is found",
        ),
        (
            changed({"find_rate": SEARCH | {"ended_by": "client", "steps": [STEP]}}),
            f"{WRONG}$.find_rate.steps: every step is kept, although ended_by is client",
        ),
        (
            changed({"find_rate": SEARCH | {"steps": []}}),
            f"{WRONG}$.find_rate.steps: [] ",
        ),
        (
            changed({"find_rate": SEARCH | {"steps": [STEP | {"failures": [1]}]}}),
            f"{WRONG}$.find_rate.steps[0].failures: [1] is not of type 'object'",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(refusal: Callable[..., str], content: str | bytes, said: str) -> None:
    """One line that names the file and what is wrong."""
    line = refusal(content)
    assert line.startswith(said)
    assert line.isprintable()
    assert len(line) <= 300


@pytest.mark.parametrize(
    ("content", "times", "said"),
    [
        (b" ", MAX_FILE_SIZE + 1, "larger than 64 MiB"),
        (b"0,", MAX_VALUES + 1, "more than 4,000,000 values"),
        (b'{"target": "%s"}', MAX_STRING_LENGTH + 1, "a string of 1,048,577 characters"),
        (b'{"warnings": [%s0]}', MAX_ITEMS, "warnings: more than 10,000 items"),
    ],
)
def test_what_is_too_large(
    refusal: Callable[..., str], content: bytes, times: int, said: str
) -> None:
    """It is refused before it is taken apart."""
    if b"%s" in content:
        content = content % ((b"0," if b"[" in content else b"x") * times)
    else:
        content *= times
    assert refusal(content) == said


def test_runs_that_are_too_much_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is within the bounds of the schema, and their sum is not."""
    paths = [tmp_path / "one.json", tmp_path / "other.json"]
    for path in paths:
        path.write_text(changed({"received": 6 * 10**17}, "bytes"))
    with pytest.raises(SystemExit) as ended:
        ReportOptions().parseOptions(["--merge", *map(str, paths)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"echofactory.report: --merge: {WRONG}$.bytes.received: 12000000000")


# What it costs


def callsOf(function: Callable[[], object]) -> int:
    """Return how many calls of Python's own a function makes."""
    count = 0

    def profile(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


def test_intervals_are_read_in_linear_time() -> None:
    """In few calls for each; the general check of the schema takes 800."""
    calls = []
    for count in (100, 1100):
        run = aRun()
        run["intervals"] = [run["intervals"][0] | {"t_s": n + 1} for n in range(count)]
        calls.append(callsOf(partial(read, run)))
    few, many = calls
    assert (many - few) / 1000 < 150


def piecesOf(count: int, length: int, open_: int = 1) -> list[Interval]:
    return [
        Interval(endNs=length * (n + 1), lengthNs=length, open=open_, messages=10, bytes=0,
                 p50Ns=5, p99Ns=5, failures=0)
        for n in range(count)
    ]  # fmt: skip


def test_intervals_are_merged_in_linear_time() -> None:
    """Twice as many take twice as many calls."""
    few, many = (
        callsOf(partial(mergedIntervals, [(0, piecesOf(count, S))] * 2))
        for count in (500, 1000)
    )
    assert many < 2.1 * few


def test_intervals_of_a_nanosecond_are_not_merged_for_ever() -> None:
    """The number of pieces has a bound, however long one of the runs is."""
    short, long = piecesOf(50, 1), piecesOf(3, 10**17)
    whole = mergedIntervals([(0, short), (0, long)])
    assert len(whole) <= MAX_MERGED_INTERVALS
    assert whole[-1].endNs == 3 * 10**17
    assert sum(piece.messages for piece in whole) == 530


def test_open_connections_of_runs_one_after_the_other() -> None:
    """A run has none before it begins, and none after it ends."""
    runs = [(0, piecesOf(5, S, 5)), (10 * S, piecesOf(5, S, 7))]
    open_ = [piece.open for piece in mergedIntervals(runs)]
    assert open_ == [5] * 5 + [0] * 5 + [7] * 5


VALUE = st.one_of(
    # JSON has no NaN: reading it refuses that before.
    st.none(), st.booleans(), st.text(max_size=3), st.integers(-2, 10**20),
    st.floats(allow_nan=False),
    st.sampled_from([0, 5.0, 5.5, 10**18, 10**18 + 1, 10**9, 1e9 + 1, [], {}]),
)  # fmt: skip


ITEM = aRun()["intervals"][0]
OF_INTERVALS = Draft202012Validator(
    {
        "properties": {"intervals": SCHEMA["properties"]["intervals"]},
        "$defs": SCHEMA["$defs"],
    }
)


@settings(deadline=None)
@given(st.sampled_from([*ITEM, "else"]), VALUE, st.booleans())
def test_intervals_are_checked_by_the_rules_of_the_schema(
    name: str, value: object, left: bool
) -> None:
    """What the schema refuses is refused, and nothing else."""
    item = ITEM | {name: value}
    if left:
        del item[name]
    follows = OF_INTERVALS.is_valid({"intervals": [item]})
    try:
        intervalsFromJSON([item])
    except ValueError:
        assert not follows
    else:
        assert follows


# Whatever it is


def placesOf(value: Any, place: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return where each value within a value is."""
    members: Any = ()
    if isinstance(value, dict):
        members = value.items()
    elif isinstance(value, list):
        members = enumerate(value)
    return [place, *(each for key, item in members for each in placesOf(item, (*place, key)))]


DOCUMENTS = [
    aRun(),
    aRun() | {"datagrams": {"lost": 1, "repeated": 2, "reordered": 3}, "tcp": None},
    aRun() | {"schema": "echofactory.results/1"},
    aRun() | {"schema": "echofactory.results/2"},
    *map(aSearch, ("found", "first", "client", "interrupted")),
]
VALUES = st.one_of(
    VALUE,
    st.sampled_from(
        [
            EVIL, "1", 5e-324, 1e300, 1e-9, 10**12, "2026-01-02T03:04:05", {"reset": 1},
            "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59+00:00", [EVIL], {EVIL: 1},
            "found", "client", "interrupted", "failed",
            *(Latency.fromCounts(counts).encoded() for counts in ({3: 10**18}, {24204: 1})),
        ]
    ),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Return the JSON of a run, in which some values are others, or are not there."""
    document = deepcopy(draw(st.sampled_from(DOCUMENTS)))
    for _ in range(draw(st.integers(1, 3))):
        *way, last = draw(st.sampled_from(placesOf(document)[1:]))
        within: Any = document
        for key in way:
            within = within[key]
        if draw(st.booleans()):
            # A copy: a later step may change what it holds, and the next run draws it again.
            within[last] = deepcopy(draw(VALUES))
        else:
            del within[last]
        if not document:
            break
    return json.dumps(document).encode()


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """Return the JSON of a run, of which some bytes are others, or are not there."""
    content = bytearray(json.dumps(draw(st.sampled_from(DOCUMENTS))).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        content[at : at + draw(st.integers(0, 30))] = draw(st.binary(max_size=5))
    return bytes(content)


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(mutated(), broken()))
def test_whatever_a_file_has(content: bytes) -> None:
    """It is refused in one line, or shown, compared and merged: no other failure."""
    try:
        results = readResults(content)
    except ValueError:
        return
    assert all(line.isprintable() for line in report(results).split("\n"))
    other = read(aRun())
    comparisonText([Run("one", results), Run("other", other)])
    try:
        whole = merged([results, other])
        fromJSON(toJSON(whole, "1"))
    except ValueError:
        pass
    else:
        Draft202012Validator(SCHEMA).validate(toJSON(whole, "1"))
        report(whole)


NUMBER = st.sampled_from([0, 1, 5e-324, 0.5, 1e9, 10**12, 10**18])


@settings(deadline=None, max_examples=6)
@given(NUMBER, NUMBER, st.lists(NUMBER, max_size=5), st.sampled_from([None, 0, 1e19, 5e-324]))
def test_whatever_is_drawn(
    elapsed: float, count: int, ends: list[float], reading: float | None
) -> None:
    """Figures at the ends of their ranges make no failure of a page and its plots."""
    run = aSearch("found")
    run["elapsed_s"] = min(elapsed, 1e9)
    run["intervals"] = [
        run["intervals"][0]
        | {"t_s": min(end, 1e9), "messages": int(count), "p50_ns": reading, "failures": 1}
        for end in sorted(ends)
    ]
    for step in run["find_rate"]["steps"]:
        step["asked"] = max(5e-324, min(elapsed, 1e12))
        step["response_ns"] |= {"p50": reading, "p99": reading}
    assert page([Run("one", read(run))], "1").endswith("</html>\n")
