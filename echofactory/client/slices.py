"""
Many calls, made a few per turn of the reactor.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_PER_TURN = 32
"""Calls in a turn of the reactor. Closing 32 connections takes about 1 ms."""


class Slices:
    """
    Makes calls later, in order, L{_PER_TURN} of them in a turn of the reactor. If 10,000
    connections were closed in one turn, the last replies would be read too late.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting: IDelayedCall | None = None

    def add(self, call: Callable[[], None]) -> None:
        """Make this call after those that wait."""
        self._calls.append(call)
        if self._waiting is None:
            self._waiting = self._reactor.callLater(0, self._run)

    def clear(self) -> None:
        """Drop the calls that wait."""
        self._calls.clear()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _run(self) -> None:
        self._waiting = None
        for _ in range(min(_PER_TURN, len(self._calls))):
            # A call can drop the rest.
            if self._calls:
                self._calls.popleft()()
        if self._calls and self._waiting is None:
            self._waiting = self._reactor.callLater(0, self._run)
