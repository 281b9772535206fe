"""
C{--expect} of the client and of the report: what is refused, what is judged, and the exit
status.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from datagrams import answering
from programs import Program, client, environment, multiecho
from schema import FACTS, validate

from echofactory.cli.client import main as clientMain
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.report import main
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.json import toJSON
from echofactory.results.latency import Latency

MS = 1_000_000
MET = "p0>=0s,p50<1h,p99.9<1h,min<=1h,mean<1h,max<=60m,connect:p99<1h,failed<=0,rate>0.001"
"""What every run without a failure meets, on the slowest machine too."""


def met(done: Program) -> dict[str, bool]:
    """Return whether each expectation was met, from the JSON on stdout."""
    written = validate(json.loads("\n".join(done.out)))
    return {each["text"]: each["met"] for each in written["expectations"]}


def test_all_are_met(port: str) -> None:
    """Exit status 0, a line for each, and the verdict says it."""
    done = client("127.0.0.1", port, "--expect", MET, "--expect", "retransmits<1000000")
    assert (done.process.returncode, done.err) == (0, [])
    lines = [line for line in done.out if "✓" in line]
    assert len(lines) == 10
    assert lines[0].startswith("expected       ✓ p0 >= 0 s: ")
    assert done.out[-1] == "verdict        ok: every byte came back; 10 expectations met"


def test_one_is_not_met(port: str) -> None:
    """Exit status 3, in the JSON too, although every byte came back."""
    done = client("127.0.0.1", port, "--expect", "p99<1us,p50<1h", "--json", "-")
    assert done.process.returncode == 3
    assert met(done) == {"p99<1us": False, "p50<1h": True}
    assert json.loads("\n".join(done.out))["verdict"] == "unmet"
    assert done.err[-1] == (
        "verdict        unmet: every byte came back; 1 of 2 expectations not met"
    )


def test_quiet(port: str) -> None:
    """What is not met still goes to stderr."""
    done = client("127.0.0.1", port, "--expect", "p99<1us,p50<1h", "--quiet")
    assert (done.process.returncode, done.out) == (3, [])
    (line,) = done.err
    assert line.startswith("echofactory.client: not met: p99 < 1 us: ")


def test_without_a_check_mark(port: str) -> None:
    """In an encoding that lacks the marks, there are words."""
    ascii = environment(PYTHONIOENCODING="ascii")
    done = client("127.0.0.1", port, "--expect", "p50<1h,p99<1us", env=ascii)
    assert done.process.returncode == 3
    assert any(line.startswith("expected       ok p50 < 1 h: ") for line in done.out)
    assert any(line.startswith("               not met p99 < 1 us: ") for line in done.out)


def test_a_scheduled_run(port: str) -> None:
    """It also has service times, send lag, unsent messages and a share of the rate."""
    expected = "service:p99<1h,service:max<1us,lag:p50<1h,unsent<=0,unsent<1%,rate>1%,rate<=1%"
    load = ["--size", "64", "--rate", "100", "--duration", "200ms"]
    done = client("127.0.0.1", port, *load, "--expect", expected, "--json", "-", "--quiet")
    assert done.process.returncode == 3
    assert [*met(done).values()] == [True, False, True, True, True, True, False]


def test_a_failure_comes_first() -> None:
    """Something failed: exit status 1, whatever was expected and met."""
    with multiecho("--fault", "reset=1", "127.0.0.1", "0") as (_, port):
        load = ["127.0.0.1", str(port), "4", "--size", "64k"]
        expected = ["failed<=100%,failed<4,failed<1%"]
        done = client(*load, "--expect", *expected, "--json", "-", "--quiet")
        assert done.process.returncode == 1
        assert met(done) == {"failed<=100%": True, "failed<4": False, "failed<1%": False}
        assert json.loads("\n".join(done.out))["verdict"] == "failed"
        assert client(*load, "--expect", "failed<=4", "--quiet").process.returncode == 1


def test_a_slow_server() -> None:
    """What it delays is found by the response time, and not by the connect time."""
    with multiecho("--fault", "delay=50ms", "127.0.0.1", "0") as (_, port):
        done = client(
            "127.0.0.1", str(port), "--expect", "min<45ms,connect:max<1h", "--json", "-"
        )
    assert done.process.returncode == 3
    assert met(done) == {"min<45ms": False, "connect:max<1h": True}


def test_nothing_is_there() -> None:
    """No reading meets nothing, and the reason is on stderr."""
    done = client("--connect", "unix:/nonexistent", "--quiet", "--expect", "p99<1h,rate>=0")
    assert done.process.returncode == 1
    assert done.err[1:] == ["echofactory.client: not met: p99 < 1 h: no message came back"]


def test_lost_and_reordered_datagrams() -> None:
    """One of three is lost, and one comes after a later one."""
    with answering([], [], [3, 2]) as (target, _):
        done = client(
            "--connect", target, "-n", "1", "--size", "64", "--count", "3", "--window", "3",
            "--reply-timeout", "2s", "--json", "-", "--quiet", "--expect",
            "lost<=1,lost<1,lost<34%,lost<33%,reordered<=1,reordered<1",
        )  # fmt: skip
    assert done.process.returncode == 1
    assert [*met(done).values()] == [True, False, True, False, True, False]


@pytest.mark.seconds
def test_a_search(port: str) -> None:
    """The best rate is judged."""
    search = ["--find-rate", "max<1us", "--duration", "100ms"]
    done = client("127.0.0.1", port, *search, "--expect", "rate>=50%,rate>2M", "--json", "-")
    # No rate keeps that goal.
    assert done.process.returncode == 1
    assert met(done)["rate>2M"] is False


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["foo<3"], "'foo<3' is not about a quantity of a run. The quantities are pN"),
        (["p99<5"], "'p99<5' is an expectation with a wrong bound: give one such as p99<5ms."),
        (["p99<5ms,failed<5ms"], "'failed<5ms' is an expectation with a wrong bound: give"),
        (["p99<5ms,"], "'' is not an expectation such as p99<5ms, failed<0.1% or rate>=990."),
        (["p99<+10%"], "'p99<+10%' compares with another run: it works in python -m echof"),
        (["lost<1"], "'lost<1' needs --connect udp:HOST:PORT"),
        (["reordered<1%"], "'reordered<1%' needs --connect udp:HOST:PORT"),
        (["rate>=99%"], "'rate>=99%' needs --rate or --find-rate"),
        (["service:p99<1s"], "'service:p99<1s' needs --rate or --find-rate"),
        (["lag:p99<1s"], "'lag:p99<1s' needs --rate or --find-rate"),
        (["unsent<=0"], "'unsent<=0' needs --rate or --find-rate"),
    ],
)  # fmt: skip
def test_what_makes_no_sense(
    refusal: Callable[..., str], arguments: list[str], said: str
) -> None:
    """One line before the run; exit status 2."""
    line = refusal(clientMain, "127.0.0.1", "7", "--expect", *arguments)
    assert line.startswith(f"echofactory.client: --expect: {said}")


@pytest.mark.parametrize(
    ("endpoint", "expected", "said"),
    [
        ("udp:127.0.0.1:7", "connect:p99<1s", "connections: UDP has no connect time"),
        ("UDP:127.0.0.1:7", "retransmits<1", "TCP"),
        ("unix:/x", "retransmits<1", "TCP"),
    ],
)
def test_what_an_endpoint_does_not_have(
    refusal: Callable[..., str], endpoint: str, expected: str, said: str
) -> None:
    """The same."""
    line = refusal(clientMain, "--connect", endpoint, "--expect", expected)
    assert line.startswith(f"echofactory.client: --expect: '{expected}' needs {said}")


def test_what_fits_the_options() -> None:
    """Neither a search nor UDP is refused."""
    for arguments in (
        ["127.0.0.1", "7", "--find-rate", "p99<5ms", "--expect", "rate>=99%, lag:p99<1s"],
        ["--connect", "udp:127.0.0.1:7", "--expect", "lost<1%,reordered<5"],
    ):
        options = ClientOptions()
        options.parseOptions(arguments)
        assert len(options.expectations) == 2
        assert ("--expect", arguments[-1]) in options.effective()


class Done(NamedTuple):
    """What came of the report in this process."""

    status: int
    out: list[str]


Reported = Callable[..., Done]


@pytest.fixture
def reported(
    outputs: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Reported:
    """Run the report to its end, in this process."""

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["report", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert err == ""
        assert isinstance(caught.value.code, int)
        return Done(caught.value.code, out.splitlines())

    return run


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Two runs: the second is 20 % slower, has half of the rate, and one failure."""
    paths = []
    for factor in (10, 12):
        results = Results(target="x", workload=FACTS, requested=100, completed=100)
        results.rateAsked, results.service = 1000.0, Latency()
        results.due = results.sent = results.verified = 100
        results.scheduledNs = 10 * (factor - 9) * 10 * MS
        results.rateAsked = results.due / (results.scheduledNs / 1e9)
        for _ in range(100):
            results.response.record(factor * MS)
        results.elapsedNs = 1000 * MS
        if factor == 12:
            results.completed = 99
            failure = ConnectionFailure(1, "x", FailureKind.RESET, "reset")
            results.connectionFailed(failure)
        paths.append(tmp_path / f"{factor}.json")
        paths[-1].write_text(json.dumps(validate(toJSON(results, "1"))))
    return paths


@pytest.mark.parametrize(
    ("expected", "status"),
    [
        ("p99<1s", 0),
        ("p99<11ms", 3),
        ("failed<=1%", 0),
        ("failed<1%", 3),
        ("p99<+21%", 0),
        ("p99<+19%", 3),
        ("p99<=+21%,p50<=+19%", 3),
        ("rate>-70%", 0),
        ("rate>-60%", 3),
        ("lost<1", 3),
    ],
)
def test_stored_runs(reported: Reported, runs: list[Path], expected: str, status: int) -> None:
    """Each is judged; a bound with a sign is from the first."""
    done = reported(*runs, "--expect", f"{expected},failed<2")
    assert done.status == status
    assert any("✗" in line for line in done.out) == (status == 3)


def test_the_lines_of_stored_runs(reported: Reported, runs: list[Path]) -> None:
    """Each names the run. The first is not compared with itself."""
    done = reported(*runs, "--expect", "p99<+10%,max<11ms", "--expect", "failed<1%")
    assert done.status == 3
    assert done.out[-5:] == [
        f"{runs[0]}: ✓ max < 11 ms: 10.0 ms",
        f"{runs[0]}: ✓ failed < 1%: 0.0%",
        f"{runs[1]}: ✗ p99 < +10% (11.0 ms): 12.0 ms",
        f"{runs[1]}: ✗ max < 11 ms: 12.0 ms",
        f"{runs[1]}: ✗ failed < 1%: 1%",
    ]


def test_one_stored_run(reported: Reported, runs: list[Path]) -> None:
    """Its report has the lines."""
    assert reported(runs[0], "--expect", "p99<11ms").status == 0
    done = reported(runs[0], "--expect", "p99<9ms")
    assert done.status == 3
    assert "expected       ✗ p99 < 9 ms: 10.0 ms" in done.out
    assert reported(runs[1], "--expect", "p99<20ms,failed<2").status == 0


@pytest.mark.parametrize("words", ["p99<20ms", "p99<1ms"])
@pytest.mark.parametrize("merge", [[], ["--merge"]])
def test_a_failed_run_passes_no_gate(
    reported: Reported, runs: list[Path], words: str, merge: list[str]
) -> None:
    """Exit status 1, before an unmet expectation; without --expect, 0."""
    done = reported(*merge, *runs, "--expect", words)
    assert done.status == 1
    name = f"{runs[0]} + {runs[1]}" if merge else runs[1]
    said = f"{name}: ✗ the run failed, and no expectation is about failed or lost"
    assert said in done.out
    assert reported(*merge, *runs).status == 0


def test_an_interrupted_run_passes_no_gate(reported: Reported, runs: list[Path]) -> None:
    """Its figures are of a part, whatever failures are accepted."""
    written = json.loads(runs[0].read_text()) | {"verdict": "interrupted"}
    runs[0].write_text(json.dumps(written))
    done = reported(runs[0], "--expect", "p99<1s,failed<2")
    assert done.status == 1
    assert f"{runs[0]}: ✗ the run was interrupted" in done.out


def test_a_regression_within_noise(reported: Reported, tmp_path: Path) -> None:
    """What the table calls noise meets a relative expectation, and the line says so."""
    paths = []
    for number, ms in enumerate(((10, 12, 14, 16), (12, 14, 16, 18), (30, 31, 32, 33))):
        results = Results(
            target="x", workload=FACTS, requested=1, completed=1, intervalNs=1000 * MS
        )
        results.firstAt = 1
        for at, each in enumerate(ms, 1):
            for _ in range(100):
                results.response.record(each * MS)
            results.verified += 100
            results.sent += 100
            results.bytesReceived += 6400
            results.lastAt = results.lastSentAt = 1000 * MS * at
            results.closeInterval(1000 * MS * at)
        results.elapsedNs = 4000 * MS
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(json.dumps(validate(toJSON(results, "1"))))
    first, near, far = paths
    done = reported(first, near, "--expect", "p99<+10%")
    assert done.status == 0
    assert f"{near}: ✓ p99 < +10% (17.6 ms): 18.0 ms, within noise" in done.out
    assert reported(first, near, "--expect", "max<+10%").status == 3
    assert reported(first, near, "--expect", "p99<17ms").status == 3
    done = reported(first, far, "--expect", "p99<+10%")
    assert done.status == 3
    assert f"{far}: ✗ p99 < +10% (17.6 ms): 33.0 ms" in done.out


def test_the_file_of_json_lines(
    reported: Reported, port: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    """Its last line is the results, as those of --json. A run that goes on has none."""
    lines, whole = tmp_path / "run.jsonl", tmp_path / "run.json"
    load = ["--size", "64", "--count", "3", "--interval", "10ms"]
    done = client("127.0.0.1", port, *load, "--json-lines", str(lines), "--json", str(whole))
    assert done.process.returncode == 0
    assert reported(lines).out == reported(whole).out
    text = lines.read_text()
    lines.write_text(text.rpartition('{"type": "results"')[0] or '{"type": "interval"}\n')
    line = refusal(main, str(lines))
    assert line.endswith("the last line has no results: the run has not ended")
    lines.write_text(text[:-10])
    assert "not JSON" in refusal(main, str(lines))


def test_a_merged_run(reported: Reported, runs: list[Path], tmp_path: Path) -> None:
    """It is judged as one, and its JSON has the expectations."""
    whole = tmp_path / "whole.json"
    done = reported("--merge", *runs, "--json", whole, "--expect", "p50<11ms,p51<11ms,failed<2")
    assert done.status == 3
    written = validate(json.loads(whole.read_text()))
    assert [each["met"] for each in written["expectations"]] == [True, False, True]


def test_what_a_run_was_judged_by_is_kept(
    reported: Reported, port: str, tmp_path: Path
) -> None:
    """The report shows it again; what is given to the report takes its place."""
    path = tmp_path / "run.json"
    expected = ["--expect", "p99<1us"]
    done = client("127.0.0.1", port, *expected, "--json", str(path))
    assert done.process.returncode == 3
    again = reported(path)
    assert (again.status, again.out) == (0, done.out)
    other = reported(path, "--expect", "p99<1h")
    assert other.status == 0
    assert not any("p99 < 1 us" in line for line in other.out)


@pytest.mark.parametrize("merge", [False, True])
def test_nothing_to_compare_with(
    refusal: Callable[..., str], runs: list[Path], merge: bool
) -> None:
    """One line; exit status 2."""
    words = ["--merge", *runs] if merge else runs[:1]
    line = refusal(main, *map(str, words), "--expect", "p99<+10%")
    assert line.startswith(
        "echofactory.report: --expect: 'p99<+10%' compares with another run: give a first run"
        " and others, without --merge"
    )
