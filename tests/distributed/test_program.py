"""
The client with C{--dask local}, as a process: outputs, exit statuses, signals.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from daskcluster import gone, partsOf, withoutPackage
from programs import (
    CLIENT,
    LIMIT,
    Program,
    childrenOf,
    client,
    environment,
    multiecho,
    running,
    until,
)
from schema import validate

pytestmark = pytest.mark.seconds

LOCAL = ("--dask", "local:2", "--size", "64", "--interval", "200ms")


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The port of a server."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, port):
        yield str(port)


def test_all_outputs(served: str, tmp_path: Path) -> None:
    """They are those of one process, with a line about the parts."""
    paths = {name: tmp_path / f"run.{name}" for name in
             ("json", "json-lines", "csv", "hlog", "hgrm", "html")}  # fmt: skip
    program = client(
        "127.0.0.1", served, "4", *LOCAL, "--rate", "400", "--duration", "600ms",
        "--json", str(paths["json"]), "--json-lines", str(paths["json-lines"]),
        "--csv", str(paths["csv"]), "--hdr", str(paths["hlog"]), "--hdr", str(paths["hgrm"]),
        "--html", str(paths["html"]), "--expect", "p50<1us",
    )  # fmt: skip
    assert program.process.returncode == 3, (program.out, program.err)
    assert all(path.stat().st_size for path in paths.values())
    written = validate(json.loads(paths["json"].read_text()))
    assert written["verdict"] == "unmet"
    assert (written["parts"]["parts"], written["messages"]["verified"]) == (2, 240)
    lines = [json.loads(line) for line in paths["json-lines"].read_text().splitlines()]
    assert len(paths["csv"].read_text().splitlines()) > len(written["intervals"])
    assert lines
    (line,) = (line for line in program.out if "2 parts on 127.0.0.1" in line)
    assert "began within" in line
    read = subprocess.run(
        [sys.executable, "-m", "echofactory.report", str(paths["json"])],
        capture_output=True, text=True, timeout=LIMIT, env=environment(), check=False,
    )  # fmt: skip
    assert "2 parts on 127.0.0.1" in read.stdout, read.stderr


def test_a_search(served: str, tmp_path: Path) -> None:
    """Each step is a run of all parts. A signal ends it with its report."""
    path = tmp_path / "run.json"
    command = [*CLIENT, "127.0.0.1", served, *LOCAL, "--find-rate", "p50<10s", "--rate", "100",
               "--duration", "300ms", "--json", str(path)]  # fmt: skip
    with running(command) as program:
        program.waitFor(r"messages/s asked,.*\bkept")
        assert program.end(signal.SIGINT) == 130
    written = validate(json.loads(path.read_text()))
    assert written["find_rate"]["steps"]
    assert written["parts"]["parts"] == 2
    # On a busy machine, the run warns of its own lateness.
    assert all(": warning: the client " in line for line in program.err), program.err


def test_the_metrics_of_the_run(served: str) -> None:
    """And a signal to the whole group, as of a terminal: a report, and no child is left."""
    command = [*CLIENT, "127.0.0.1", served, *LOCAL, "--duration", "1h", "--status", "0",
               "--progress", "always"]  # fmt: skip
    with running(command, start_new_session=True) as program:
        port = program.waitFor(r"^status page on 127\.0\.0\.1:(\d+)$")[1]
        program.waitFor(r"messages/s .* p50 +\d", program.err)
        with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as answer:
            metrics = answer.read().decode()
        children = partsOf(program.process.pid)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.finish() == 130
    assert "\nechofactory_probe_connections_up 2.0\n" in metrics
    assert len(children) == 2
    until(lambda: all(map(gone, children)))
    assert program.out[-1] == "verdict        interrupted: 2 connections not done"
    assert not [line for line in program.err if "Traceback" in line or "ERROR" in line]


def test_a_signal_while_the_run_is_prepared(served: str) -> None:
    """The report says that nothing was done."""
    command = [*CLIENT, "127.0.0.1", served, *LOCAL, "--duration", "1h"]
    with running(command, start_new_session=True) as program:
        until(lambda: childrenOf(program.process.pid))
        children = childrenOf(program.process.pid)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.finish() == 130
    until(lambda: all(map(gone, children)))
    assert program.out[-1] == "verdict        interrupted: 2 connections not done"
    assert program.err == []


def test_a_second_signal(served: str) -> None:
    """It ends a run whose part does not answer."""
    command = [*CLIENT, "127.0.0.1", served, *LOCAL, "--duration", "1h",
               "--progress", "always"]  # fmt: skip
    with running(command, start_new_session=True) as program:
        program.waitFor(r"messages/s .* p50 +\d", program.err)
        children = partsOf(program.process.pid)
        os.kill(children[0], signal.SIGSTOP)
        os.killpg(program.process.pid, signal.SIGINT)
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.finish() == 130
    until(lambda: all(map(gone, children)))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_part_is_lost(number: signal.Signals, tmp_path: Path) -> None:
    """One line names the part and its host. Its connections are not opened again."""
    path = tmp_path / "run.json"
    with multiecho("127.0.0.1", "0", "--trace", "connections") as (server, port):
        command = [*CLIENT, "127.0.0.1", str(port), "4", *LOCAL, "--rate", "100",
                   "--duration", "7s" if number == signal.SIGSTOP else "2s",
                   "--progress", "always", "--json", str(path)]  # fmt: skip
        with running(command) as program:
            program.waitFor(r"messages/s .* p50 +\d", program.err)
            children = partsOf(program.process.pid)
            os.kill(children[0], number)
            assert program.finish() == 1
        until(lambda: all(map(gone, children)))
        server.end()
    (line,) = (line for line in program.err if "part " in line and "echofactory" not in line)
    assert " on 127.0.0.1 " in line
    accepted = [line for line in server.out if "accepted connection" in line]
    assert len(accepted) == 4
    written = validate(json.loads(path.read_text()))
    assert written["failures"] == {"part-lost": 2}
    assert written["parts"]["lost"] == 1
    assert written["verdict"] == "failed"
    assert sum(each["failures"] for each in written["intervals"]) == 2


def test_the_coordinator_is_killed(served: str) -> None:
    """Its parts end, whatever they do."""
    command = [*CLIENT, "127.0.0.1", served, *LOCAL, "--duration", "1h",
               "--progress", "always"]  # fmt: skip
    with running(command) as program:
        program.waitFor(r"messages/s .* p50 +\d", program.err)
        children = partsOf(program.process.pid)
        program.end(signal.SIGKILL)
    assert len(children) == 2
    until(lambda: all(map(gone, children)))


def test_without_the_extra(served: str, folder: Path) -> None:
    """One line says what to install."""
    packages = withoutPackage(folder, "distributed", "echofactory")
    here = str(Path(__file__).parents[2])
    program = Program(
        [sys.executable, "-S", "-P", "-m", "echofactory.client", "127.0.0.1", served, *LOCAL],
        env=environment(PYTHONPATH=f"{here}{os.pathsep}{packages}"),
    )
    assert program.finish() == 1
    assert program.err == [
        "echofactory.client: --dask: it needs the package distributed:"
        " pip install 'echofactory[dask]'"
    ]
    assert program.out == []
