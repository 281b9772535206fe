"""
The client's signals: what was done is reported, whatever ends it.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from programs import CLIENT, multiecho, running
from schema import validate

_LOAD = ("--size", "64", "--duration", "1h", "--progress", "always", "--interval", "200ms")
_SOME = r"messages/s .* p50 +\d"


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
)
def test_a_signal_ends_the_run_with_its_report(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    """The status is the signal's, and a second one does not cost the JSON."""
    path = tmp_path / "run.json"
    path.write_text("of another run")
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (_, port),
        running([*CLIENT, "127.0.0.1", str(port), *_LOAD, "--json", str(path)]) as program,
    ):
        program.waitFor(_SOME, program.err)
        # Nothing of an earlier run is left, whatever ends this one.
        assert path.read_text() == ""
        program.process.send_signal(number)
        program.process.send_signal(number)
        assert program.finish() == status
    assert program.out[-1] == "verdict        interrupted: 2 connections not done"
    assert validate(json.loads(path.read_text()))["verdict"] == "interrupted"


def test_a_report_while_the_run_goes_on() -> None:
    """SIGUSR1 asks for it; the run goes on to its end."""
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (_, port),
        running([*CLIENT, "127.0.0.1", str(port), *_LOAD]) as program,
    ):
        program.waitFor(_SOME, program.err)
        program.process.send_signal(signal.SIGUSR1)
        program.waitFor(r"^verdict +under way: 2 connections not done yet$")
        assert program.end(signal.SIGINT) == 130
    (line,) = (line for line in program.out if "under way" in line)
    assert program.out.index(line) < len(program.out) - 1


def test_a_report_of_a_search_that_goes_on() -> None:
    """It is that of the step that is under way."""
    search = ["--size", "64", "--find-rate", "max<10s", "--duration", "1h"]
    with (
        multiecho("127.0.0.1", "0") as (server, port),
        running([*CLIENT, "127.0.0.1", str(port), *search]) as program,
    ):
        # Until the run has begun, the signal has another meaning.
        server.waitFor("accepted connection")
        program.process.send_signal(signal.SIGUSR1)
        program.waitFor(r"^verdict +under way: 2 connections not done yet$")
        assert program.end(signal.SIGTERM) == 143
    assert program.out[-1].endswith("interrupted: the search did not end; no rate found so far")


def test_nohup_is_respected() -> None:
    """A signal that this process was told to ignore is ignored."""
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (_, port),
        running(
            ["nohup", *CLIENT, "127.0.0.1", str(port), "--size", "64", "--duration", "1s",
             "--progress", "always", "--interval", "100ms"]
        ) as program,
    ):  # fmt: skip
        program.waitFor(_SOME, program.err)
        program.process.send_signal(signal.SIGHUP)
        assert program.finish() == 0


@pytest.mark.parametrize("module", ["echofactory.client", "echofactory.report"])
def test_ctrl_c_while_modules_are_loaded(module: str, tmp_path: Path) -> None:
    """It ends the process without a traceback."""
    # The first module that the program loads waits for the signal. Nothing loads it before
    # the program does: what measures coverage in programs would.
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")
    }
    slow = "import os, time; os.write(1, b'loading'); time.sleep(60)\n"
    for name in ("shlex", "json"):
        (tmp_path / f"{name}.py").write_text(slow)
    process = subprocess.Popen(
        [sys.executable, "-m", module, "-"],
        env=environment | {"PYTHONPATH": str(tmp_path)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.read(7) == b"loading"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, err) == (-signal.SIGINT, b"")
