"""
Processes that another one has started, and who of them goes first.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

_PR_SET_PDEATHSIG = 1
"""See prctl(2) of Linux."""


def dieWithParent() -> None:
    """
    Ask the kernel (Linux) to kill this process when the thread ends that has started it. It
    works even if this process is stopped or busy. On other systems, this process must notice
    that its pipe is closed.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


_FIRST = -10
"""The nice value of threads that go first."""


def goFirst(thread: int) -> None:
    """
    Have a thread of this process run before other processes, if this user may (Linux: root, or
    C{CAP_SYS_NICE}). Then it gets its turn even beside a hundred busy processes.

    @param thread: its number, as the system has it.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, _FIRST)


def goAsOthers() -> None:
    """Give up what this process has inherited from a thread that goes first."""
    if os.getpriority(os.PRIO_PROCESS, 0) == _FIRST:
        os.setpriority(os.PRIO_PROCESS, 0, 0)
