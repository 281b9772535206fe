"""
The command C{echofactory} as a real process: server, client and report by their short names.
"""

import os
import signal
import sys
from pathlib import Path

import pytest
from programs import LISTENING, TWISTD, connected, echoes, running

COMMAND = (sys.executable, "-m", "echofactory")


def test_serve_measure_and_report(tmp_path: Path) -> None:
    """The main job by the command alone. It leaves no pid file behind."""
    with running([*COMMAND, "serve", "127.0.0.1", "0"], cwd=tmp_path) as server:
        port = server.waitFor(LISTENING)[1]
        words = ["127.0.0.1", port, "5", "--size", "1k", "--json", "run.json"]
        with running([*COMMAND, *words, "--html", "run.html"], cwd=tmp_path) as client:
            assert client.finish() == 0, client.err
        with running([*COMMAND, "report", "run.json"], cwd=tmp_path) as report:
            assert report.finish() == 0, report.err
        assert report.out == client.out
        # The page tells how the run was started.
        assert (
            f"echofactory 127.0.0.1 {port} 5 --size 1k" in (tmp_path / "run.html").read_text()
        )
        assert server.end() == -signal.SIGTERM
    assert sorted(os.listdir(tmp_path)) == ["run.html", "run.json"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_serve_ends_as_twistd_does(number: signal.Signals, tmp_path: Path) -> None:
    """By the same signals, with the same exit status and the same last line."""
    ends = []
    for command in ([*COMMAND, "serve"], [*TWISTD, "multiecho"]):
        with running([*command, "127.0.0.1", "0"], cwd=tmp_path) as server:
            # Once a byte comes back, the reactor handles the signals.
            with connected(int(server.waitFor(LISTENING)[1])) as connection:
                assert echoes(connection)
            status = server.end(number)
            ends.append((status, server.out[-1].partition("] ")[2]))
    assert ends[0] == ends[1]


def test_serve_on_a_port_in_use(tmp_path: Path) -> None:
    """One line names the option, and the exit status is that of C{twistd multiecho}."""
    with running([*COMMAND, "serve", "127.0.0.1", "0"], cwd=tmp_path) as server:
        port = server.waitFor(LISTENING)[1]
        with running([*COMMAND, "serve", "127.0.0.1", port], cwd=tmp_path) as other:
            assert other.finish() == 1
        (line,) = other.err
        assert line.startswith("echofactory serve: HOST PORT: ")


def test_monitor(tmp_path: Path) -> None:
    """It serves its status until it is stopped."""
    with running([*COMMAND, "serve", "127.0.0.1", "0"], cwd=tmp_path) as server:
        port = server.waitFor(LISTENING)[1]
        words = ["monitor", "127.0.0.1", port, "--status", "0"]
        with running([*COMMAND, *words], cwd=tmp_path) as monitor:
            monitor.waitFor(r"status page on \S+:(\d+)")
            assert monitor.end() == -signal.SIGTERM


def test_workers_of_serve(tmp_path: Path) -> None:
    """They are processes of their own, which end with it."""
    with running(
        [*COMMAND, "serve", "--workers", "2", "127.0.0.1", "0"], cwd=tmp_path
    ) as server:
        port = server.waitFor(LISTENING)[1]
        with running([*COMMAND, "client", "127.0.0.1", port, "8"], cwd=tmp_path) as client:
            assert client.finish() == 0, client.err
        assert server.end() == -signal.SIGTERM
