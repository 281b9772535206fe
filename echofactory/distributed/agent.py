"""
The agent of one part: an I{Actor} in a worker of a Dask cluster. It owns the process of the
part (L{echofactory.distributed.part}), writes to its standard input, and forwards what it says.

The agent imports nothing of this package, and its methods return at once: they run in the
worker, one after the other.

If the coordinator or the scheduler is gone, the worker drops the agent, and C{__del__} ends the
process. If the worker dies, the process finds the end of its standard input.
"""

import signal
import sys
import threading
from contextlib import suppress
from queue import SimpleQueue
from subprocess import PIPE, Popen
from typing import Any
from uuid import uuid4

MODULE = "echofactory.distributed.part"

_BLOCKED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that only the coordinator handles."""


class Agent:
    """
    The agent.

    @ivar name: another one for each agent. If a worker is started again under its old address,
        the scheduler makes another agent there. It has another name, so it is told nothing.
    """

    def __init__(self, topic: str, number: int) -> None:
        """
        Start the process.

        @param topic: the topic of the scheduler under which the part's lines are told.
        @param number: the number of the part, from 0.
        """
        from distributed import get_worker

        self.name = uuid4().hex
        started: SimpleQueue[Popen[bytes] | OSError] = SimpleQueue()
        # A process can ask the kernel to be killed when the thread ends that started it. So
        # this thread ends with the process. It must not know the agent, because __del__ waits
        # for the last one who does.
        arguments = get_worker(), topic, number, started
        threading.Thread(target=_forward, args=arguments, daemon=True).start()
        process = started.get()
        if isinstance(process, OSError):
            raise process
        self._process: Popen[bytes] | None = process

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
        process = self._process
        if name != self.name or process is None or process.stdin is None:
            return False
        try:
            process.stdin.write(line)
        except (OSError, ValueError):
            return False
        return True

    def kill(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        with suppress(OSError):
            if process.stdin is not None:
                process.stdin.close()

    def __del__(self) -> None:
        # Not os: at the end of the interpreter, the modules can be gone.
        with suppress(Exception):
            self.kill()


def _forward(
    worker: Any, topic: str, number: int, started: "SimpleQueue[Popen[bytes] | OSError]"
) -> None:
    """Start the process, and tell what it says, line by line, and its end."""

    def tell(line: str) -> None:
        # The worker can be closing.
        with suppress(Exception):
            worker.log_event(topic, [number, line])

    # A terminal can send a signal to all processes, before the new one ignores it. A process
    # begins with the mask of the thread that starts it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _BLOCKED)
    try:
        process = Popen(
            [sys.executable, "-P", "-m", MODULE], stdin=PIPE, stdout=PIPE, bufsize=0
        )
    except OSError as error:
        started.put(error)
        return
    assert process.stdout is not None
    started.put(process)
    with process.stdout, open(process.stdout.fileno(), "rb", closefd=False) as lines:
        for line in lines:
            tell(line.decode(errors="replace"))
    tell(f'{{"ended": {process.wait()}}}')


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
