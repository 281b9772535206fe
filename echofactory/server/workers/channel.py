"""
The messages between a supervisor and its workers. A pipe in each direction carries JSON, one
object per line.

To the worker:

 - C{{"start": {...}}}: the first message. It says what to serve.
 - C{{"stop": true}}: drain, then end.
 - C{{"cut": true}}: abort the connections that the drain waits for.
 - C{{"peers": most}}: send the busiest peers, at most that many.
 - C{{"look": true}}: the table of rooms has changed (L{echofactory.server.workers.room}).

From the worker:

 - C{{"listening": true}}: the worker serves.
 - C{{"look": true}}: the worker has changed the table of rooms.
 - C{{"log": [level, text]}}: a line of its log.
 - C{{"counts": {...}}}: its counts, once a second and at the end.
 - C{{"peers": [...]}}: the answer to C{peers}.

If a process ends, for any reason, its ends of the pipes are closed.
"""

import json

MAX_LINE_SIZE = 1 << 16
"""Maximum length of a line in bytes, without the line end."""

OUT = 3
"""The file descriptor of the pipe to the supervisor. That from the supervisor is the standard
input."""

TABLE = 4
"""The file descriptor of the table of rooms."""

SOCKETS = 5
"""The first file descriptor of the sockets that a worker inherits: for each endpoint, one for
each worker."""


def asLine(**what: object) -> bytes:
    """Return a JSON object as a line."""
    return json.dumps(what).encode() + b"\n"


class Lines:
    """
    Splits a stream into lines of bounded length. A line that is too long is skipped. The
    lines after it are not.

    @ivar skipped: number of lines that were too long.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._begun = b""
        # The line that has begun is too long. Its rest is skipped.
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the stream's next bytes, and return the lines that they complete."""
        *ends, begun = data.split(b"\n")
        complete = []
        for end in ends:
            if self._append(end):
                complete.append(self._begun)
            self._begun = b""
            self._skipping = False
        self._append(begun)
        return complete

    def _append(self, piece: bytes) -> bool:
        """
        Append to the line that has begun, unless it becomes too long.

        @return: whether the line is not too long.
        """
        if not self._skipping and len(self._begun) + len(piece) > MAX_LINE_SIZE:
            self._skipping = True
            self._begun = b""
            self.skipped += 1
        if not self._skipping:
            self._begun += piece
        return not self._skipping
