"""
A Dask cluster of real processes for the tests, and what its workers have started.
"""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from programs import Program, childrenOf, environment, running, stateOf, until

PYTHON = (sys.executable,)


@contextmanager
def scheduler(folder: Path, *options: str) -> Iterator[tuple[Program, str]]:
    """
    Run a scheduler until it listens.

    @param folder: an empty directory.
    @return: the process and its address.
    """
    written = folder / "scheduler.json"
    command = [*PYTHON, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1",
               "--port", "0", "--no-dashboard", "--scheduler-file", str(written)]  # fmt: skip

    def address() -> str | None:
        assert program.process.poll() is None, program.err
        try:
            return str(json.loads(written.read_text())["address"])
        except (FileNotFoundError, ValueError):
            return None

    with running([*command, *options], env=quiet()) as program:
        until(address)
        found = address()
        assert found is not None
        yield program, found


@contextmanager
def worker(
    address: str,
    *options: str,
    python: Sequence[str] = PYTHON,
    changes: Mapping[str, str] | None = None,
) -> Iterator[Program]:
    """
    Run a worker until its scheduler knows it.

    @param python: the interpreter.
    @param changes: of the environment.
    """
    command = [*python, "-m", "distributed.cli.dask_worker", address, "--no-nanny",
               "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1"]  # fmt: skip
    with running([*command, *options], env=quiet(**(changes or {}))) as program:
        program.waitFor("Registered to:", program.err)
        yield program


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[Program]]]:
    """
    Run a cluster.

    @return: the address of its scheduler, and the workers.
    """
    with ExitStack() as stack:
        _, address = stack.enter_context(scheduler(folder))
        # One after the other costs more time than memory.
        yield address, [stack.enter_context(worker(address)) for _ in range(workers)]


def quiet(**changes: str) -> dict[str, str]:
    """Return an environment for Dask's programs: they are not those that coverage measures."""
    kept = {name: each for name, each in environment().items() if "COVERAGE" not in name}
    return kept | changes


def gone(pid: int) -> bool:
    """Tell whether a process is over. One that nobody has waited for is over, too."""
    try:
        return stateOf(pid)[0] == "Z"
    except OSError:
        return True


def partsOf(pid: int) -> list[int]:
    """Return the parts that a process has had forked."""
    servers = [each for each in childrenOf(pid) if b"net.forkserver" in _commandOf(each)]
    return [part for server in servers for part in childrenOf(server)]


def _commandOf(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def withoutPackage(folder: Path, *names: str) -> str:
    """
    Make a directory with the installed packages, except some.

    @param folder: an empty directory.
    @param names: the packages are left out whose file names begin with one of these.
    @return: the directory.
    """
    (installed,) = {Path(each) for each in sys.path if each.endswith("site-packages")}
    for entry in os.listdir(installed):
        # Files that sites run at their beginning would add what is left out.
        if not entry.startswith(names) and not entry.endswith(".pth"):
            (folder / entry).symlink_to(installed / entry)
    return str(folder)
