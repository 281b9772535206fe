"""
Many small things, done a few at a time.
"""

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

_AT_ONCE = 32
"""Calls before the reactor has its turn: about a millisecond of closing connections."""


class Slices:
    """
    Makes calls later, in order, and lets the reactor have its turn after every few of
    them. Closing 10,000 connections at once would keep it from reading the last replies.
    """

    def __init__(self, reactor: IReactorTime) -> None:
        self._reactor = reactor
        self._calls: deque[Callable[[], None]] = deque()
        self._waiting: IDelayedCall | None = None

    def add(self, call: Callable[[], None]) -> None:
        """Make this call, too."""
        self._calls.append(call)
        if self._waiting is None:
            self._waiting = self._reactor.callLater(0, self._run)

    def clear(self) -> None:
        """Make no other call."""
        self._calls.clear()
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _run(self) -> None:
        self._waiting = None
        for _ in range(min(_AT_ONCE, len(self._calls))):
            # A call may have cleared the rest.
            if self._calls:
                self._calls.popleft()()
        if self._calls and self._waiting is None:
            self._waiting = self._reactor.callLater(0, self._run)
