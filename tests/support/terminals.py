"""
Shells on a terminal, for tests of what they complete.
"""

import os
import pty
import select
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from programs import LIMIT, environment


class Terminal:
    """
    A shell that reads keys.

    @ivar shown: what it has written so far.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self.shown = ""

    def press(self, keys: str) -> None:
        """Send keys."""
        os.write(self._descriptor, keys.encode())

    def waitFor(self, text: str) -> None:
        """Read until the shell writes a text, and forget what was shown."""
        deadline = time.monotonic() + LIMIT
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.shown!r}"
            if select.select([self._descriptor], [], [], min(left, 0.5))[0]:
                self.shown += os.read(self._descriptor, 65536).decode(errors="replace")
        self.shown = self.shown.partition(text)[2]


@contextmanager
def shellOnTerminal(command: Sequence[str], folder: Path) -> Iterator[Terminal]:
    """Run a shell on a terminal of its own, in a folder; it does not outlive the test."""
    pid, descriptor = pty.fork()
    if pid == 0:
        os.chdir(folder)
        changes = {"TERM": "dumb", "HOME": str(folder), "COLUMNS": "200"}
        os.execvpe(command[0], [*command], environment(**changes))
    try:
        yield Terminal(pid, descriptor)
    finally:
        os.close(descriptor)
        os.kill(pid, 9)
        os.waitpid(pid, 0)
