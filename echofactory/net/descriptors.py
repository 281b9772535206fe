"""
How many connections this process can hold, and descriptors kept for some of them.
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


class SpareDescriptors:
    """
    Descriptors that are kept open, so that there are some for a purpose of their own
    when the process has used up all others.
    """

    def __init__(self, count: int) -> None:
        """
        @param count: how many to keep.
        """
        self._count = count
        self._wanted = 0
        self._kept: list[int] = []

    def __len__(self) -> int:
        return len(self._kept)

    def hold(self) -> None:
        """Keep descriptors from now on."""
        self._wanted = self._count
        self.fill()

    def fill(self) -> None:
        """Take descriptors until all are there, or the process has no others."""
        while len(self._kept) < self._wanted:
            try:
                self._kept.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                return

    def give(self, count: int) -> None:
        """
        Close some of them: whoever opens the next descriptors gets these.

        @param count: no more than there are.
        """
        for _ in range(count):
            os.close(self._kept.pop())

    def release(self) -> None:
        """Keep none any more."""
        self._wanted = 0
        self.give(len(self._kept))
