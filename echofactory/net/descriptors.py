"""
The limit of open descriptors, and descriptors that are kept in reserve.
"""

import os
from resource import RLIM_INFINITY, RLIMIT_NOFILE, getrlimit, setrlimit
from sys import maxsize

RESERVE = 16
"""Descriptors that the process needs for files, name look-ups and pipes."""


def raiseDescriptorLimit() -> int:
    """
    Raise the soft limit of open descriptors to the hard limit (C{RLIMIT_NOFILE}).

    @return: the new soft limit. If there is no hard limit, the soft limit stays.
    """
    soft, hard = getrlimit(RLIMIT_NOFILE)
    if hard == RLIM_INFINITY:
        return maxsize if soft == RLIM_INFINITY else soft
    setrlimit(RLIMIT_NOFILE, (hard, hard))
    return hard


def connectionsThatFit(limit: int) -> int:
    """
    Return how many connections the process can open besides its open descriptors.

    @param limit: the limit of open descriptors.
    """
    return max(0, limit - len(os.listdir("/dev/fd")) - RESERVE)


class SpareDescriptors:
    """
    Descriptors that are kept in reserve for one purpose. They are available when the process
    has used up all other descriptors.
    """

    def __init__(self, count: int) -> None:
        """
        @param count: how many descriptors to keep.
        """
        self._count = count
        self._wanted = 0
        self._kept: list[int] = []

    def __len__(self) -> int:
        return len(self._kept)

    def hold(self) -> None:
        """Start keeping descriptors."""
        self._wanted = self._count
        self.fill()

    def fill(self) -> None:
        """Open descriptors until the reserve is full, or the process reaches its limit."""
        while len(self._kept) < self._wanted:
            try:
                self._kept.append(os.open(os.devnull, os.O_RDONLY))
            except OSError:
                return

    def give(self, count: int) -> None:
        """
        Close some of the descriptors. The next calls that open descriptors can use them.

        @param count: at most C{len(self)}.
        """
        for _ in range(count):
            os.close(self._kept.pop())

    def release(self) -> None:
        """Close all of the descriptors, and keep none."""
        self._wanted = 0
        self.give(len(self._kept))
