"""
A module for a fork server: it prints, and leaves no process to fork.
"""

import errno
import os


def _none() -> int:
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


print("imported")
os.fork = _none


def main() -> None:
    """Do nothing. Nobody gets here."""
