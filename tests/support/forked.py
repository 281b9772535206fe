"""
What the processes of a fork server do in tests.
"""

import os
import signal
import sys


def main() -> None:
    """Do what the first argument says."""
    what, *arguments = sys.argv[1:]
    if what == "wait":
        os.write(1, b"begun\n")
        signal.pause()
    elif what == "exit":
        sys.exit(int(arguments[0]))
    elif what == "copy":
        # From each of the descriptors to the next one.
        for number in map(int, arguments[1:]):
            os.write(number, f"{arguments[0]} {number}\n".encode())
