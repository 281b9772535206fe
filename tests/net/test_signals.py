"""
The signals that stop the server.
"""

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import SCRIPTS, TWISTD, Program, multiecho, running
from twisted.logger import LogPublisher
from twisted.python.failure import Failure

import echofactory.net.signals
from echofactory.net.signals import repeatSwallowedInterrupt

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def connected(port: int) -> socket.socket:
    """Return a connection that was served once."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=20)
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    return connection


def drains(server: Program, port: int, send: Callable[[], None]) -> None:
    """See that the server serves a connection to its end after a signal."""
    with connected(port) as connection:
        send()
        server.waitFor(r"waiting up to 5 s for 1 open connection$")
        connection.sendall(b"y")
        assert connection.recv(1) == b"y"


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_drains(number: signal.Signals) -> None:
    """Open connections finish, and the exit status is that of the signal."""
    with multiecho("127.0.0.1", "0") as (server, port):
        drains(server, port, lambda: server.process.send_signal(number))
        assert server.finish() == -number


def test_a_hangup_of_the_terminal_drains_workers() -> None:
    """All processes get it; the workers stop when the first process has them stop."""
    with multiecho("--workers", "2", "127.0.0.1", "0", start_new_session=True) as (
        server,
        port,
    ):
        drains(server, port, lambda: os.killpg(server.process.pid, signal.SIGHUP))
        assert server.finish() == -signal.SIGHUP
    assert not any("restart in" in line for line in server.out)


def test_a_hangup_with_twist() -> None:
    """The other of Twisted's two programs does the same."""
    twist = [str(SCRIPTS / "twist"), "--log-format=text", "multiecho", "127.0.0.1", "0"]
    with running(twist) as server:
        port = int(server.waitFor(r"listening on \S+:(\d+)")[1])
        drains(server, port, lambda: server.process.send_signal(signal.SIGHUP))
        assert server.finish() == -signal.SIGHUP


def test_a_second_hangup_ends_the_draining() -> None:
    """As a second SIGTERM does."""
    with multiecho("--drain", "1h", "127.0.0.1", "0") as (server, port), connected(port):
        server.process.send_signal(signal.SIGHUP)
        server.waitFor("waiting up to")
        assert server.end(signal.SIGHUP) == -signal.SIGHUP


def test_an_ignored_hangup() -> None:
    """Under nohup, it stays ignored."""

    def ignore() -> None:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    with multiecho("127.0.0.1", "0", preexec_fn=ignore) as (server, port):
        server.process.send_signal(signal.SIGHUP)
        connected(port).close()
        assert server.end() == -signal.SIGTERM


def test_an_interrupt_while_it_starts(tmp_path: Path) -> None:
    """
    It ends the process at once, by that signal and without a traceback. The server hangs
    in its start here: nobody writes the key that it reads.
    """
    key = tmp_path / "key.pem"
    os.mkfifo(key)
    listen = f"ssl:0:privateKey={key}:certKey={key}"
    with (
        running([*TWISTD, "multiecho", "--listen", listen]) as server,
        # Which opens when the server has opened it.
        key.open("wb"),
    ):
        assert server.end(signal.SIGINT) == -signal.SIGINT
    assert server.out == server.err == []


def test_an_interrupt_that_was_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever swallowed and logged it, it is repeated."""
    repeated: list[int] = []
    monkeypatch.setattr(echofactory.net.signals, "raise_signal", repeated.append)
    publisher = LogPublisher()
    monkeypatch.setattr(echofactory.net.signals, "globalLogPublisher", publisher)
    repeatSwallowedInterrupt()
    for name in ("log_failure", "failure"):
        for error in (ValueError(), KeyboardInterrupt()):
            publisher({name: Failure(error)})
    assert repeated == [signal.SIGINT] * 2
