"""
The agent of one part: an I{Actor} in a worker of a Dask cluster. It owns the process of the
part (L{echofactory.distributed.part}), writes to its standard input, and forwards what it says.

The agents of a worker share a fork server (L{echofactory.net.forkserver}), which has imported
what a part needs. The worker has not: the agent imports no more than the fork server's module.
Its methods run in the worker, one after the other. The first agent waits for the fork server.

If the coordinator or the scheduler is gone, the worker drops the agent, and C{__del__} ends the
process. If the worker dies, the fork server ends, and its processes with it.
"""

import os
import sys
import threading
from contextlib import ExitStack, suppress
from queue import SimpleQueue
from typing import Any
from uuid import uuid4

from echofactory.net.forkserver import ForkedProcess, ForkServer

FUNCTION = "echofactory.distributed.part:main"


class Agent:
    """
    The agent.

    @ivar name: another one for each agent. If a worker is started again under its old address,
        the scheduler makes another agent there. It has another name, so it is told nothing.
    """

    def __init__(self, topic: str, run: str, number: int) -> None:
        """
        Start the process.

        @param topic: the topic of the scheduler under which the part's lines are told.
        @param run: the name of the run, which stands before each line.
        @param number: the number of the part, from 0.
        """
        from distributed import get_worker

        self.name = uuid4().hex
        self._process: ForkedProcess | None = None
        worker = get_worker()
        self._input, output, process = _forks.fork()
        self._process = process
        # The thread must not know the agent: __del__ is called when nobody has the agent.
        arguments = worker, topic, (run, number), process, output
        threading.Thread(target=_forward, args=arguments, daemon=True).start()

    def begin(self) -> tuple[str, int]:
        """Return the name of this agent, and the number of its process."""
        assert self._process is not None
        return self.name, self._process.pid

    def write(self, name: str, line: bytes) -> bool:
        """
        Write a line to the process.

        @param name: of the agent that is meant.
        @return: whether the process could still take it.
        """
        if name != self.name or self._process is None:
            return False
        try:
            while line:
                line = line[os.write(self._input, line) :]
        except OSError:
            return False
        return True

    def kill(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        os.close(self._input)

    def __del__(self) -> None:
        # At the end of the interpreter, the modules can be gone.
        with suppress(Exception):
            self.kill()


class _Forks:
    """The fork server of this process. It runs while one of its processes does."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._server: ForkServer | None = None
        self._running = 0

    def fork(self) -> tuple[int, int, ForkedProcess]:
        """
        Start a process. L{ended} has to be called after its end.

        @return: its standard input and output, and the process.
        """
        with self._lock:
            if self._server is None or not self._server.lives:
                self._server = _started()
            self._running += 1
            server = self._server
        with ExitStack() as ours, ExitStack() as its:
            ours.callback(self.ended)
            itsInput, input_ = os.pipe()
            its.callback(os.close, itsInput)
            ours.callback(os.close, input_)
            output, itsOutput = os.pipe()
            ours.callback(os.close, output)
            its.callback(os.close, itsOutput)
            process = ForkedProcess(server, {0: itsInput, 1: itsOutput})
            ours.pop_all()
        return input_, output, process

    def ended(self) -> None:
        """A process has ended."""
        with self._lock:
            self._running -= 1
            if not self._running and self._server is not None:
                self._server.close()
                self._server = None


_forks = _Forks()


def _started() -> ForkServer:
    """Start a fork server. It ends with the thread that starts it, so that one waits for it."""
    started: SimpleQueue[ForkServer | OSError] = SimpleQueue()

    def keep() -> None:
        try:
            server = ForkServer(FUNCTION)
        except OSError as error:
            started.put(error)
            return
        started.put(server)
        server.process.wait()

    threading.Thread(target=keep, daemon=True).start()
    server = started.get()
    if isinstance(server, OSError):
        raise server
    return server


def _forward(
    worker: Any, topic: str, place: tuple[str, int], process: ForkedProcess, output: int
) -> None:
    """Tell what the process says, line by line, and its end."""

    def tell(line: str) -> None:
        # The worker can be closing.
        with suppress(Exception):
            worker.log_event(topic, [*place, line])

    with open(output, "rb") as lines:
        for line in lines:
            tell(line.decode(errors="replace"))
    tell(f'{{"ended": {process.wait()}}}')
    process.close()
    _forks.ended()


def facts() -> tuple[str, str, int]:
    """
    Return what a coordinator asks of a worker: the versions of this package and of Python, and
    the limit of open descriptors.
    """
    from platform import python_version
    from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit

    from echofactory._version import __version__

    hard = getrlimit(RLIMIT_NOFILE)[1]
    return __version__, python_version(), sys.maxsize if hard == RLIM_INFINITY else hard
