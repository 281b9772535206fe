"""
Real processes for the tests: started, waited for by what they print, and ended.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from forkedprograms import ForkedPopen

from echofactory.cli.server import ServerOptions, makeService

SUPPORT = Path(__file__).parent
"""Where the programs are that tests run."""

LIMIT = 180.0
"""Seconds after which a wait of a test fails. A machine may be many times slower than
this one, so that it is far more than anything takes."""

CLIENT = (sys.executable, "-m", "echofactory.client")
SCRIPTS = Path(sysconfig.get_path("scripts"))
TWISTD = (str(SCRIPTS / "twistd"), "-n", "--pidfile=")


LISTENING = r"listening on (?:/|(?!udp ).*(?:', |:)(\d+)\)?(?:,|$))"
"""The server's line about its first endpoint. With C{--trace data}, the address is written
C{('127.0.0.1', 7)}. A path has no port."""


def _mayBeForked(command: Sequence[str]) -> bool:
    traced = any(name.startswith("COVERAGE") for name in os.environ)
    return not traced and tuple(command[:3]) in (CLIENT, TWISTD)


class Program:
    """
    A process, and the lines that it has printed so far.

    @ivar out: stdout's.
    @ivar err: stderr's.
    """

    def __init__(self, command: Sequence[str], **options: Any) -> None:
        self.process: subprocess.Popen[str] | ForkedPopen
        if not options and _mayBeForked(command):
            self.process = ForkedPopen(command, environment())
        else:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **{"env": environment(), **options},
            )
        self.out: list[str] = []
        self.err: list[str] = []
        self._printed = threading.Condition()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines))
            for stream, lines in (
                (self.process.stdout, self.out),
                (self.process.stderr, self.err),
            )
        ]
        for reader in self._readers:
            reader.start()

    def _read(self, stream: IO[str], lines: list[str]) -> None:
        with stream:
            for line in stream:
                with self._printed:
                    lines.append(line.rstrip("\n"))
                    self._printed.notify_all()

    def waitFor(
        self, pattern: str, lines: list[str] | None = None, limit: float = LIMIT
    ) -> re.Match[str]:
        """Return the first match of a line of stdout, or of C{lines}, once it is there."""
        if lines is None:
            lines = self.out
        deadline = time.monotonic() + limit
        with self._printed:
            while True:
                for line in lines:
                    if match := re.search(pattern, line):
                        return match
                left = deadline - time.monotonic()
                assert left > 0, f"no {pattern!r} in {self.out} {self.err}"
                assert self.process.poll() is None, f"ended: {self.out} {self.err}"
                self._printed.wait(min(left, 0.5))

    def finish(self, limit: float = LIMIT) -> int:
        """Wait for the end of the process; return its exit status."""
        status = self.process.wait(limit)
        for reader in self._readers:
            reader.join(LIMIT)
        return status

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end of the process."""
        self.process.send_signal(number)
        return self.finish()


@contextmanager
def running(command: Sequence[str], **options: object) -> Iterator[Program]:
    """Run a process, which is killed if it outlives the test."""
    program = Program(command, **options)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.process.kill()
        program.finish()


@contextmanager
def multiecho(*arguments: str, **options: object) -> Iterator[tuple[Program, int]]:
    """
    Run C{twistd multiecho} until it listens.

    @return: the process and the port of its first TCP endpoint; 0 if the first
        endpoint has none.
    """
    with running([*TWISTD, "multiecho", *arguments], **options) as program:
        match = program.waitFor(LISTENING)
        yield program, int(match[1] or 0)


@contextmanager
def workers(
    *arguments: str, count: int = 2, **options: object
) -> Iterator[tuple[Program, int]]:
    """Run a server of several workers, until all of them listen."""
    command = ["--workers", str(count), *arguments, "127.0.0.1", "0"]
    with multiecho(*command, **options) as (server, _):
        port = server.waitFor(rf"listening on 127.0.0.1:(\d+), {count} workers")[1]
        yield server, int(port)


def children(server: Program) -> list[int]:
    """Return the workers' process ids. The server's only child is the fork server."""
    return [worker for each in childrenOf(server.process.pid) for worker in childrenOf(each)]


def stateOf(pid: int) -> tuple[str, int]:
    """
    Return the state of a process, and which process is its parent. C{S}: it sleeps; C{T}: it
    is stopped; C{Z}: it has ended, and nobody has waited for it.

    @raise OSError: if there is no such process.
    """
    state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
    return state, int(parent)


def childrenOf(pid: int) -> list[int]:
    """Return the processes that a process has started and that live."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, parent = stateOf(int(path.name))
        except OSError:
            continue
        if parent == pid and state != "Z":
            found.append(int(path.name))
    return sorted(found)


def multiechoMain() -> None:
    """Do in this process what C{twistd multiecho} does with a command line that is bad."""
    options = ServerOptions()
    options.parseOptions()
    makeService(options)


@contextmanager
def withStatus(*arguments: str, status: str = "0") -> Iterator[tuple[Program, int, int]]:
    """
    Run C{twistd multiecho --status}, telling of no connection, until it listens.

    @return: the process, its port and that of its status.
    """
    options = ["--trace", "none", "--status", status, *arguments, "127.0.0.1", "0"]
    with multiecho(*options) as (program, port):
        match = program.waitFor(r"status page on \S+:(\d+)")
        yield program, port, int(match[1])


def until(reached: Callable[[], object]) -> None:
    """Ask, again and again, until C{reached} returns a true value."""
    deadline = time.monotonic() + LIMIT
    while not reached():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.01)


def client(*arguments: str, **options: object) -> Program:
    """Run the client to its end."""
    with running([*CLIENT, *arguments], **options) as program:
        program.finish()
    return program


def python(
    code: str, *arguments: str, before: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    """
    Run code in an interpreter of its own, to its end.

    @param before: a command that starts the interpreter, such as C{nice}.
    """
    command = [*before, sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)


def connected(port: int, source: str = "127.0.0.1") -> socket.socket:
    """Return a connection to a server on the loopback interface."""
    return socket.create_connection(("127.0.0.1", port), LIMIT, (source, 0))


def echoes(connection: socket.socket) -> bool:
    """Tell whether what is sent comes back."""
    try:
        connection.sendall(b"x")
        return connection.recv(1) == b"x"
    except ConnectionError:
        return False


def accepted(port: int) -> socket.socket:
    """Return a connection that has been served."""
    connection = connected(port)
    assert echoes(connection)
    return connection


def serves(port: int, count: int = 8) -> bool:
    """Tell whether so many connections, open together, are served."""
    with ExitStack() as stack:
        connections = [stack.enter_context(connected(port)) for _ in range(count)]
        return all(map(echoes, connections))


def environment(**changes: str) -> dict[str, str]:
    """Return the environment of this process, but for what would hide a fault."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return kept | changes


def untraced() -> dict[str, str]:
    """
    Return an environment in which coverage does not trace: its tracing would cost
    more than what some tests measure.
    """
    kept = environment()
    return {name: value for name, value in kept.items() if not name.startswith("COVERAGE")}


def residentBytes(pid: int) -> int:
    """Return how much memory a process holds."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024
