"""
The client and C{twistd}, forked from a process that has imported what they need. The tests
start hundreds of them, and most of what a start costs is the import.

With coverage, each is an interpreter of its own, as it is for a user.
"""

import atexit
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from typing import IO
from unittest import mock

# What the programs need, without the reactor that they choose.
import twisted.scripts.twistd

import echofactory.cli.client
import echofactory.cli.server
from echofactory.net.forkserver import ForkedProcess, ForkServer

__all__ = ["ForkedPopen", "echofactory", "run", "twisted"]


_SUPPORT = str(Path(__file__).parent)


class ForkedPopen:
    """
    What a test needs of C{subprocess.Popen}.

    @ivar pid: its number.
    @ivar returncode: see C{Popen}.
    @ivar stdout: what it prints.
    @ivar stderr: likewise.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        """
        @param command: begins as C{python -m MODULE} or with the path of a script.
        """
        with ExitStack() as its:

            def kept(descriptor: int) -> int:
                its.callback(os.close, descriptor)
                return descriptor

            nothing = kept(os.open(os.devnull, os.O_RDONLY))
            out, itsOut = os.pipe()
            self.stdout: IO[str] = os.fdopen(out)
            err, itsErr = os.pipe()
            self.stderr: IO[str] = os.fdopen(err)
            descriptors = {0: nothing, 1: kept(itsOut), 2: kept(itsErr)}
            started = json.dumps([list(command), os.getcwd(), environment])
            self._process = ForkedProcess(_server(), descriptors, [started])
        self._looking = select.poll()
        self._looking.register(self._process.channel, select.POLLIN)
        self.pid = self._process.pid
        self.args = command
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """See C{Popen}."""
        return self._ended(0)

    def wait(self, timeout: float) -> int:
        """See C{Popen}."""
        status = self._ended(timeout)
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return status

    def _ended(self, timeout: float) -> int | None:
        if self.returncode is None and self._looking.poll(1000 * timeout):
            self.returncode = self._process.wait()
            self._process.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """See C{Popen}."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """See C{Popen}."""
        self.send_signal(signal.SIGKILL)


@cache
def _server() -> ForkServer:
    with mock.patch.dict(os.environ, PYTHONPATH=_SUPPORT):
        server = ForkServer(f"{__name__}:run")
    atexit.register(server.close)
    return server


def run() -> None:
    """Be a program, in a process that was forked."""
    command, folder, environment = json.loads(sys.argv[1])
    sys.path.remove(_SUPPORT)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Those of the fork server can be a terminal's.
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", 1, errors="backslashreplace", closefd=False)
    first, *words = command
    if first == sys.executable:
        _, module, *words = words
        sys.argv[1:] = words
        sys.path.insert(0, folder)
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv[:] = command
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")
