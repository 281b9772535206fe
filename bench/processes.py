"""
Starting servers and loads, each on a core of its own, and reading what they cost.
"""

import os
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from resource import struct_rusage
from time import monotonic, sleep
from typing import IO

_CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = _CORES[0], _CORES[-1]

_STARTED_WITHIN = 60.0
"""Seconds for a server to listen."""


def freePort() -> int:
    """Return a port of the loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def compiled(source: Path, into: Path, *libraries: str) -> Path:
    """
    Compile a C program, and return where it is.

    @raise RuntimeError: if the compiler, which says why, cannot.
    """
    program = into / source.stem
    linked = [f"-l{name}" for name in libraries]
    done = subprocess.run(["gcc", "-O2", "-Wall", "-o", program, source, *linked], check=False)
    if done.returncode:
        raise RuntimeError(f"does not compile: {source}")
    return program


def certificate(into: Path) -> Path:
    """Make a key on the curve P-256 and its certificate, and return the file with both."""
    import trustme

    pem = into / "server.pem"
    issued = trustme.CA().issue_cert("localhost", key_type=trustme.KeyType.ECDSA)
    issued.private_key_and_cert_chain_pem.write_to_path(str(pem))
    return pem


def pinned(core: int, command: list[str]) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


@dataclass(frozen=True)
class Server:
    """
    A server that is running.

    @ivar pid: of its process.
    @ivar port: where it listens on 127.0.0.1.
    """

    command: str
    pid: int
    port: int

    def cpuNs(self) -> int:
        """
        Return the nanoseconds that its threads, and those of the processes that it
        started, have spent on a processor.
        """
        return _cpuNs(self.pid)

    def residentBytes(self) -> int:
        """Return how much memory of its own the process has resident."""
        return privateBytes(self.pid)


def privateBytes(pid: int) -> int:
    """
    Return how much anonymous memory a process has resident, in bytes. Of a forked process, it
    includes what the process shares with others. The kernel counts it, so that reading it does
    not hold up the process.
    """
    return _memory(pid, "status", "RssAnon")


def shareOfBytes(pid: int) -> int:
    """
    Return how much anonymous memory a process has resident, in bytes. Memory that several
    processes share is divided between them. Reading it holds up a process that has much.
    """
    return _memory(pid, "smaps_rollup", "Pss_Anon")


def _memory(pid: int, file: str, name: str) -> int:
    text = Path(f"/proc/{pid}/{file}").read_text()
    found = re.search(rf"^{name}:\s+(\d+) kB$", text, re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return [int(child) for task in tasks for child in (task / "children").read_text().split()]


def _cpuNs(pid: int) -> int:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    own = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    return own + sum(map(_cpuNs, children(pid)))


_LISTENING = "0A"
"""The state of a socket in C{/proc/net/tcp}."""


def _listeners(port: int) -> int:
    """Return how many sockets listen on a port of the loopback."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(
        line[3] == _LISTENING and int(line[1].rpartition(":")[2], 16) == port for line in lines
    )


@contextmanager
def serving(command: list[str], workers: int | None = None) -> Iterator[Server]:
    """
    Run a server while the context lasts.

    @param command: what runs it; C{PORT} in an argument stands for its port.
    @param workers: the number of processes that share the port, on any core; C{None}: one
        process, on the server's core.
    @raise RuntimeError: if it does not come to listen.
    """
    port = freePort()
    command = [argument.replace("PORT", str(port)) for argument in command]
    with (
        open(os.devnull, "r+b") as null,
        ExitStack() as stack,
    ):
        run = command if workers is not None else pinned(SERVER_CORE, command)
        process = subprocess.Popen(run, stdin=null, stdout=null, stderr=null)
        stack.callback(process.wait)
        stack.callback(process.kill)
        limit = monotonic() + _STARTED_WITHIN
        while _listeners(port) < (workers or 1):
            if process.poll() is not None or monotonic() > limit:
                raise RuntimeError(f"does not listen: {' '.join(command)}")
            sleep(0.02)
        yield Server(" ".join(command), process.pid, port)


@dataclass(frozen=True)
class Exchange:
    """
    What came of a load.

    @ivar replies: how many came.
    @ivar elapsedNs: within how long.
    @ivar cpuNs: what the server spent on them.
    @ivar loadNs: what the load spent on them.
    """

    replies: int
    elapsedNs: int
    cpuNs: int
    loadNs: int

    @property
    def perSecond(self) -> float:
        return self.replies / (self.elapsedNs / 1e9)

    @property
    def cpuUs(self) -> float:
        """Microseconds of the server's processor time for each reply."""
        return self.cpuNs / 1e3 / self.replies

    @property
    def loadBusy(self) -> float:
        """The share of the time that the load was on a processor."""
        return self.loadNs / self.elapsedNs

    @property
    def loadUs(self) -> float:
        """Microseconds of the load's processor time for each reply."""
        return self.loadNs / 1e3 / self.replies


class Load:
    """
    The load program (C{load.c}) against a server: its connections are open,
    and each has had a reply.

    @ivar server: which it loads.
    """

    def __init__(self, process: "subprocess.Popen[str]", server: Server) -> None:
        self.server = server
        self._process = process

    def run(self) -> Exchange:
        """
        Have it send for as long as it was told to.

        @raise RuntimeError: if it fails.
        """
        return runTogether([self])

    def begin(self) -> None:
        """Have it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def end(self) -> tuple[int, int, int]:
        """
        Wait for its end.

        @return: the replies, the nanoseconds that it took, and those on a processor.
        @raise RuntimeError: if it fails.
        """
        assert self._process.stdout is not None
        came = self._process.stdout.readline().split()
        if not came:
            raise RuntimeError(f"the load failed against {self.server.command}")
        replies, elapsedNs, loadNs = map(int, came)
        return replies, elapsedNs, loadNs


def runTogether(loads: Sequence[Load]) -> Exchange:
    """
    Have several loads of one server send at the same time.

    @raise RuntimeError: if one of them fails.
    """
    server = loads[0].server
    before = server.cpuNs()
    for load in loads:
        load.begin()
    came = [load.end() for load in loads]
    spent = server.cpuNs() - before
    replies, elapsedNs, loadNs = zip(*came, strict=True)
    return Exchange(sum(replies), max(elapsedNs), spent, sum(loadNs))


@contextmanager
def loading(
    program: Path,
    server: Server,
    connections: int,
    seconds: float,
    *what: str,
    core: int = LOAD_CORE,
) -> Iterator[Load]:
    """Open a load's connections while the context lasts."""
    command = [str(program), "127.0.0.1", str(server.port), str(connections), str(seconds)]
    with subprocess.Popen(
        pinned(core, [*command, *what]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the load failed against {server.command}")
            yield Load(process, server)
        finally:
            # It closes its connections at the end of its input.
            process.communicate()


def cpuOf(command: list[str]) -> float:
    """
    Run a client to its end, and return its processor time in seconds.

    @raise RuntimeError: if it fails.
    """
    usage = usageOf(pinned(LOAD_CORE, command), subprocess.DEVNULL)
    return usage.ru_utime + usage.ru_stime


def usageOf(command: list[str], out: int | IO[str]) -> struct_rusage:
    """
    Run a client to its end, and return what it used.

    @param out: where it writes.
    @raise RuntimeError: if it fails.
    """
    process = subprocess.Popen(command, stdout=out)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"failed: {' '.join(command)}")
    return usage


def outputOf(command: list[str]) -> str:
    """
    Run a client to its end, and return what it writes.

    @raise RuntimeError: if it fails.
    """
    done = subprocess.run(
        pinned(LOAD_CORE, command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"failed: {' '.join(command)}")
    return done.stdout
