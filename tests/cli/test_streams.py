"""
Standard streams that are closed, full, or cannot write a letter.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from programs import CLIENT, multiecho
from schema import validate


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of an echo server."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, number):
        yield number


def shell(command: str, *arguments: object, **environment: str) -> Any:
    """Run the client under a shell, which redirects: C{"$@"} in the command."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *CLIENT, *map(str, arguments)],
        capture_output=True, timeout=60, check=False, env=os.environ | environment,
    )  # fmt: skip


@pytest.mark.parametrize("closing", ["2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize(
    "load", [[], ["--progress", "always", "--interval", "100ms"], ["--trace", "data"]]
)
def test_closed(port: int, tmp_path: Path, closing: str, load: list[str]) -> None:
    """The run is done, and its JSON is whole."""
    path = tmp_path / "run.json"
    arguments = ["127.0.0.1", port, "--count", "3", *load, "--json", path]
    done = shell(f'"$@" {closing}', *arguments)
    assert done.returncode == 0, done.stderr
    assert validate(json.loads(path.read_text()))["verdict"] == "ok"


def test_nowhere_to_complain(tmp_path: Path) -> None:
    """What failed cannot be told on a full disk; the JSON has it."""
    path = tmp_path / "run.json"
    done = shell('"$@" 2>/dev/full', "127.0.0.1", "1", "--json", path)
    assert done.returncode == 1
    assert validate(json.loads(path.read_text()))["failures"] == {"refused": 2}


def test_a_report_that_cannot_be_written(port: int) -> None:
    """It is an error, in one line."""
    done = shell('"$@" >/dev/full', "127.0.0.1", port)
    assert done.returncode == 1
    assert done.stderr == b"echofactory.client: report: No space left on device\n"


@pytest.mark.parametrize(
    ("host", "encoding", "shown"),
    [(b"\xff", "utf-8", rb"tcp:\udcff:7"), ("ü".encode(), "ascii", rb"tcp:\xfc:7")],
)
def test_a_target_that_has_no_letters(host: bytes, encoding: str, shown: bytes) -> None:
    """The report has an escape in their place."""
    done = subprocess.run(
        [*map(os.fsencode, CLIENT), b"--connect", b"tcp:" + host + b":7"],
        capture_output=True, timeout=60, check=False,
        env=os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.splitlines()[0].split()[1] == shown
    assert b"Traceback" not in done.stderr


def test_a_terminal_has_each_failure_once() -> None:
    """On a terminal, stdout and stderr are the same place."""
    output, terminal = os.openpty()
    process = subprocess.Popen([*CLIENT, "127.0.0.1", "1"], stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    try:
        while data := os.read(output, 4096):
            shown += data
    except OSError:
        # The other end is closed.
        pass
    assert process.wait(60) == 1
    assert shown.count(b"refused; first connection") == 1
    assert b"echofactory.client: refused" not in shown


def test_a_file_that_another_run_writes(port: int, tmp_path: Path) -> None:
    """Its lines are not mixed with those of a second run."""
    import fcntl

    path = tmp_path / "run.hlog"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = shell('"$@"', "127.0.0.1", port, "--hdr", path)
    assert done.returncode == 2
    line = f"echofactory.client: --hdr: {str(path)!r}: another run is writing this file\n"
    assert done.stderr.decode() == line


def test_microseconds_without_a_letter_for_them(port: int) -> None:
    """The unit stays readable in an encoding that lacks it."""
    done = shell('"$@"', "127.0.0.1", port, PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert re.search(rb"\np50 +[\d.]+ [um]s  ", done.stdout), done.stdout
