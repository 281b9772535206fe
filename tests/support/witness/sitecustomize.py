"""
Records the module of the transport of each TCP connection that a process makes or accepts, one
per line of the file in the environment's C{TRANSPORTS}. Python loads it before the program if
its directory is in C{PYTHONPATH}, so that the program stays as it is.
"""

import os
from typing import Any

from twisted.internet import tcp

_construct = tcp.Connection.__init__


def _recording(self: tcp.Connection, *arguments: Any, **named: Any) -> None:
    # If a process ends by a signal, only what is written already remains.
    with open(os.environ["TRANSPORTS"], "a", encoding="ascii") as file:
        file.write(type(self).__module__ + "\n")
    _construct(self, *arguments, **named)


tcp.Connection.__init__ = _recording  # type: ignore[method-assign]
