"""
Processes that another one has started.
"""

import ctypes
import signal
import sys

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
