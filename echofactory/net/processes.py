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


def goFirst(thread: int) -> None:
    """
    Have a thread of this process run as soon as it can, before all usual threads, if this user
    may (Linux: root, or C{CAP_SYS_NICE}). A nice value does not do that: each time, the thread
    waits until another one has used up its slice of some 3 ms. What the thread starts runs as
    usual.

    @param thread: its number, as the system has it.
    """
    if sys.platform == "linux":
        with suppress(OSError):
            policy = os.SCHED_RR | os.SCHED_RESET_ON_FORK
            os.sched_setscheduler(thread, policy, os.sched_param(1))
