"""
The run as lines of JSON: an object for each interval when it ends, and the results at last.
"""

import json
from collections import deque
from select import POLLERR, POLLHUP, POLLOUT, poll
from typing import IO

from echofactory.results.books import Results
from echofactory.results.intervals import Interval
from echofactory.results.json import SCHEMA, toJSON
from echofactory.results.search import SearchStep


class JSONLines:
    """
    Writes the lines. Each object has the field C{type}: C{interval}, C{step} (of a search) or
    C{results}. The other fields are those of C{--json}.

    While the run goes on, a line to a pipe is written only if the pipe has room for it. So a
    reader that stops reading does not stop the run: the lines wait. At the end of the run, the
    lines are written even if the writer has to wait.

    @ivar error: the first error of a write; C{None}: there was none. After it, nothing more is
        written, and the run goes on.
    """

    def __init__(self, file: IO[str]) -> None:
        """
        @param file: an open file with a descriptor, at the position to write from.
        """
        self.error: OSError | None = None
        self._file = file
        self._waiting: deque[Interval | SearchStep] = deque()
        self._room = poll()
        self._room.register(file, POLLOUT)

    def __call__(self, results: Results) -> None:
        """Write the last interval."""
        self._add(results.intervals[-1])

    def step(self, step: SearchStep) -> None:
        """Write a step of a search."""
        self._add(step)

    def end(self, results: Results, version: str) -> None:
        """
        Write the lines that wait, and the results.

        @param version: the version of echofactory.
        """
        while self._waiting:
            self._writeNext()
        self._write("results", toJSON(results, version))

    def _add(self, item: Interval | SearchStep) -> None:
        self._waiting.append(item)
        # A pipe that can be written to has room for PIPE_BUF bytes, which a line does not
        # exceed.
        while self._waiting and self._hasRoom():
            self._writeNext()

    def _hasRoom(self) -> bool:
        return any(events & (POLLOUT | POLLERR | POLLHUP) for _, events in self._room.poll(0))

    def _writeNext(self) -> None:
        item = self._waiting.popleft()
        self._write("interval" if isinstance(item, Interval) else "step", item.asJSON())

    def _write(self, kind: str, fields: dict[str, object]) -> None:
        if self.error is not None:
            return
        try:
            self._file.write(json.dumps({"type": kind, "schema": SCHEMA} | fields) + "\n")
            self._file.flush()
        except OSError as error:
            self.error = error
