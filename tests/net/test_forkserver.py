"""
The fork server: what its processes inherit, how their end is told, and that none outlives it.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from daskcluster import gone
from programs import LIMIT, SUPPORT, childrenOf, python, running, until

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
    with ExitStack() as stack, ExitStack() as its:
        reads, descriptors = [], {}
        for number in numbers:
            read, write = os.pipe()
            stack.callback(os.close, read)
            its.callback(os.close, write)
            reads.append(read)
            descriptors[number] = write
        process = ForkedProcess(server, descriptors, arguments)
        its.close()
        stack.callback(process.close)
        yield process, reads


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
        # This kills no other process.
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
            ForkedProcess(server, {})


def test_no_such_function(
    server: ForkServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The server ends, and says why on standard error."""
    other = ForkServer("forked:nothing")
    with pytest.raises(OSError, match="no answer from the fork server"):
        ForkedProcess(other, {})
    other.close()
    assert "has no attribute 'nothing'" in capfd.readouterr().err


def test_a_request_that_breaks_off(server: ForkServer) -> None:
    """It costs no other process, whatever was sent."""
    with forked(server, "wait") as (process, (read,)):
        assert line(read) == b"begun\n"
        for sent in (b"", b"\0", b"\0\0\0\5{}"):
            with server.begin() as channel:
                assert channel.recv(100) == b'{"ready": true}\n'
                channel.sendall(sent)
        with pytest.raises(OSError, match="Bad file descriptor"):
            ForkedProcess(server, {1: 1, 2: 9999})
        with forked(server, "exit", "0") as (other, _):
            assert other.wait() == 0
        process.kill()
        assert process.wait() == -signal.SIGKILL


def test_no_descriptor_is_free(server: ForkServer) -> None:
    """The request is refused, and the processes stay."""
    with forked(server, "wait") as (process, (read,)):
        assert line(read) == b"begun\n"
        pid = server.process.pid
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        taken = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        for free in (0, 1):
            # The highest number that is taken can be higher than their count.
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (taken + free, before[1]))
            with pytest.raises(OSError, match="no answer from the fork server"):
                ForkedProcess(server, dict.fromkeys(range(20), 1))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
        with forked(server, "exit", "0") as (other, _):
            assert other.wait() == 0
        assert not gone(process.pid)


_PRINTING = """
from echofactory.net.forkserver import ForkedProcess, ForkServer
server = ForkServer("unforkable:main")
for _ in range(2):
    try:
        ForkedProcess(server, {1: 1})
    except OSError as error:
        print(error.strerror, flush=True)
server.close()
"""


def test_no_process_can_be_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is told, each time. What the module has printed is there once."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    done = python(_PRINTING)
    assert not done.stderr
    assert sorted(done.stdout.splitlines()) == [
        *2 * ["Resource temporarily unavailable"],
        "imported",
    ]


_REAPING = """
import ctypes, os, sys
from echofactory.net.forkserver import ForkedProcess, ForkServer
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
server = ForkServer("forked:main")
ended = ForkedProcess(server, {1: 1}, ["exit", "0"])
ended.wait()
ended.close()
ForkedProcess(server, {1: 1}, ["wait"]).close()
running = ForkedProcess(server, {1: 1}, ["wait"])
server.close()
print(running.wait())
try:
    print(os.waitpid(-1, os.WNOHANG))
except ChildProcessError:
    print("none left")
"""


def test_it_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that has ended and that nobody has waited for."""
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    done = python(_REAPING)
    assert not done.stderr
    assert [line for line in done.stdout.splitlines() if line != "begun"] == ["-9", "none left"]


_LIGHT = """
import sys, echofactory.distributed.agent
print([name for name in ("twisted", "echofactory.distributed.part") if name in sys.modules])
"""


def test_an_agent_imports_little() -> None:
    """Only the fork server has what a part needs."""
    assert python(_LIGHT).stdout == "[]\n"


_OWNER = """
import signal
from echofactory.net.forkserver import ForkedProcess, ForkServer
server = ForkServer("forked:main")
process = ForkedProcess(server, {1: 1}, ["wait"])
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
