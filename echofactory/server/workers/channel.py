"""
What a supervisor and its workers say to each other. A pipe in each direction carries JSON,
one object a line:

 - to the worker: C{{"start": ...}} first, what it is to serve; C{{"stop": true}};
   C{{"cut": true}}: wait no longer for open connections; C{{"peers": most}}: who are the
   busiest peers?
 - from the worker: C{{"listening": true}}; C{{"log": [level, text]}}; C{{"counts": {...}}}
   once a second and at the end; C{{"peers": [...]}}.

Each end of a pipe is closed when the process at that end is gone, whatever ended it.
"""

import json

LONGEST_LINE = 1 << 16
"""Bytes of a line, without its end."""


def asLine(**what: object) -> bytes:
    """Write an object as a line."""
    return json.dumps(what).encode() + b"\n"


class Lines:
    """
    Takes a stream apart into lines of bounded length. A line that is too long is left out,
    and the lines after it are not.

    @ivar leftOut: how many lines were too long.
    """

    def __init__(self) -> None:
        self.leftOut = 0
        self._begun = b""
        # Whether the line that has begun is too long, and its rest is to be skipped.
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the lines that these bytes complete."""
        *ends, begun = data.split(b"\n")
        complete = []
        for end in ends:
            if self._takes(end):
                complete.append(self._begun)
            self._begun = b""
            self._skipping = False
        self._takes(begun)
        return complete

    def _takes(self, piece: bytes) -> bool:
        """Add to the line that has begun, unless it becomes too long."""
        if not self._skipping and len(self._begun) + len(piece) > LONGEST_LINE:
            self._skipping = True
            self._begun = b""
            self.leftOut += 1
        if not self._skipping:
            self._begun += piece
        return not self._skipping
