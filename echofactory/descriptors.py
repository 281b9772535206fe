"""
How many connections this process can hold.
"""

import os
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from sys import maxsize

_RESERVE = 16
"""Descriptors kept for what is not a connection: files, name look-ups, pipes."""


def raiseDescriptorLimit() -> int:
    """
    Raise the soft limit of open descriptors to the hard one.

    @return: the limit that now holds.
    """
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if hard == RLIM_INFINITY:
        return maxsize if soft == RLIM_INFINITY else soft
    setrlimit(RLIMIT_NOFILE, (hard, hard))
    return hard


def connectionsThatFit(limit: int) -> int:
    """
    Return how many connections fit, beside the descriptors already open.

    @param limit: of open descriptors.
    """
    return max(0, limit - len(os.listdir("/dev/fd")) - _RESERVE)
