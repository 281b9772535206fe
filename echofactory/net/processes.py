"""
Processes that another process has started, and which of them runs first.
"""

import ctypes
import os
import signal
import sys
from contextlib import suppress

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""The signals of a terminal, of a service manager, and of a terminal that was closed."""

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


if sys.platform == "linux":
    _FIRST = os.SCHED_RR | os.SCHED_RESET_ON_FORK


def goFirst(thread: int) -> None:
    """
    Have a thread of this process run as soon as it can, before all usual threads, if this user
    may (Linux: root, C{CAP_SYS_NICE} or C{RLIMIT_RTPRIO}). A nice value does not do that: each
    time, the thread waits until another one has used up its slice of some 3 ms. What the
    thread starts runs as usual.

    If the user has chosen another policy or a nice value over 0, nothing changes.

    @param thread: its number, as the system has it.
    """
    if sys.platform == "linux":
        usual = os.sched_getscheduler(thread) == os.SCHED_OTHER
        if usual and os.getpriority(os.PRIO_PROCESS, thread) <= 0:
            with suppress(OSError):
                os.sched_setscheduler(thread, _FIRST, os.sched_param(1))


def goAsOthers(thread: int) -> None:
    """
    Undo L{goFirst}.

    @param thread: its number, as the system has it.
    """
    if sys.platform == "linux" and os.sched_getscheduler(thread) == _FIRST:
        os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
