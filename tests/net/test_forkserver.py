"""
The fork server: what its processes inherit, how their end is told, and that none outlives it.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daskcluster import gone
from programs import LIMIT, SUPPORT, childrenOf, running, until

from echofactory.net.forkserver import ForkedProcess, ForkServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForkServer]:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    server = ForkServer("forked:main")
    yield server
    server.close()


@contextmanager
def forked(
    server: ForkServer, *arguments: str, numbers: tuple[int, ...] = (1,)
) -> Iterator[tuple[ForkedProcess, list[int]]]:
    """
    Fork a process.

    @param numbers: of descriptors that are the write ends of pipes.
    @return: the process, and the read ends.
    """
    with ExitStack() as stack:
        pipes = [os.pipe() for _ in numbers]
        for read, _ in pipes:
            stack.callback(os.close, read)
        writes = [write for _, write in pipes]
        try:
            channel = server.begin(dict(zip(numbers, writes, strict=True)), arguments)
        finally:
            for write in writes:
                os.close(write)
        process = ForkedProcess(channel)
        stack.callback(process.close)
        yield process, [read for read, _ in pipes]


def line(descriptor: int) -> bytes:
    with open(descriptor, "rb", closefd=False) as file:
        return file.readline()


def test_descriptors_have_the_numbers_asked_for(server: ForkServer) -> None:
    """In any order, and more of them than a message can carry (253)."""
    for numbers in ((1,), (4, 3, 1, 5), tuple(range(300, 0, -1))):
        names = [str(number) for number in numbers]
        with forked(server, "copy", "it is", *names, numbers=numbers) as (process, reads):
            assert [line(read) for read in reads] == [
                f"it is {number}\n".encode() for number in numbers
            ]
            assert process.wait() == 0


def test_nothing_else_is_inherited(server: ForkServer) -> None:
    """Neither what the owner has open, nor the channel of another process."""
    with forked(server, "wait") as (one, ones), forked(server, "wait") as (two, twos):
        assert line(ones[0]) == line(twos[0]) == b"begun\n"
        for process in (one, two):
            open_ = {int(each.name) for each in Path(f"/proc/{process.pid}/fd").iterdir()}
            assert open_ == {1, 2}


@pytest.mark.parametrize("status", [0, 1, 3])
def test_the_exit_status(server: ForkServer, status: int) -> None:
    with forked(server, "exit", str(status)) as (process, _):
        assert process.wait() == status
        # Its number is not free yet: this kills no other process.
        process.kill()
        assert process.wait() == status


def test_a_kill(server: ForkServer) -> None:
    """Whether it runs or is stopped."""
    with forked(server, "wait") as (process, (read,)):
        assert line(read) == b"begun\n"
        os.kill(process.pid, signal.SIGSTOP)
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_a_closed_channel_is_a_kill(server: ForkServer) -> None:
    with forked(server, "wait") as (process, (read,)):
        assert line(read) == b"begun\n"
        process.close()
        # The end of the pipe.
        assert line(read) == b""
        until(lambda: not Path(f"/proc/{process.pid}").exists())


def test_stop_signals_are_not_for_it(server: ForkServer) -> None:
    """A terminal sends them to all: neither the server nor its processes hear them."""
    with forked(server, "wait") as (process, (read,)):
        assert line(read) == b"begun\n"
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(server.process.pid, number)
            os.kill(process.pid, number)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert server.lives


def test_its_processes_end_with_it(server: ForkServer) -> None:
    """Even if one is stopped. The next request says that there is no server."""
    with forked(server, "wait") as (process, (read,)):
        assert line(read) == b"begun\n"
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(server.process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        until(lambda: gone(process.pid))
        until(lambda: not server.lives)
        with pytest.raises(OSError, match="Broken pipe"):
            server.begin({})


def test_no_such_function(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server ends, and says why on standard error."""
    other = ForkServer("forked:nothing")
    with pytest.raises(OSError, match="the fork server has ended"):
        ForkedProcess(other.begin({}))
    other.close()
    assert "has no attribute 'nothing'" in capfd.readouterr().err


_OWNER = """
import signal
from echofactory.net.forkserver import ForkedProcess, ForkServer
server = ForkServer("forked:main")
process = ForkedProcess(server.begin({1: 1}, ["wait"]))
print(process.pid, flush=True)
signal.pause()
"""


def test_it_ends_with_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    with running([sys.executable, "-c", _OWNER]) as owner:
        pid = int(owner.waitFor(r"^(\d+)$")[1])
        owner.waitFor("begun")
        (server,) = childrenOf(owner.process.pid)
        assert childrenOf(server) == [pid]
        # The pipe of the standard output ends only when all have ended.
        assert owner.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: gone(pid) and gone(server))


def test_a_process_shares_the_memory_of_what_was_imported(server: ForkServer) -> None:
    """It has less than half of what an interpreter has that imports the same."""
    code = "import forked, os, signal; os.write(1, b'begun\\n'); signal.pause()"
    with (
        forked(server, "wait") as (process, (read,)),
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as fresh,
    ):
        try:
            assert fresh.stdout is not None
            assert line(read) == line(fresh.stdout.fileno()) == b"begun\n"
            assert _private(process.pid) < _private(fresh.pid) / 2
        finally:
            fresh.kill()
            fresh.wait(LIMIT)


def _private(pid: int) -> int:
    """Return the memory of a process that it has for itself, in KiB."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(each.split()[1]) for each in rollup if each.startswith("Private_"))
