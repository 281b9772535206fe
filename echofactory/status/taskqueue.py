"""
A queue of tasks. Each pass of the reactor runs tasks for a limited time.
"""

from collections.abc import Callable
from time import perf_counter
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

SLICE_S = 0.002
"""Maximum seconds in one pass of the reactor. A task that has begun runs to its end."""


def _slice() -> Callable[[], bool]:
    end = perf_counter() + SLICE_S
    return lambda: perf_counter() >= end


class TaskQueue:
    """Runs tasks in the order in which they were added."""

    def __init__(self, reactor: IReactorTime) -> None:
        """
        @param reactor: runs the queue in its passes.
        """
        self._cooperator = Cooperator(_slice, lambda tick: reactor.callLater(0, tick))

    def turn(self) -> Deferred[object]:
        """Return a L{Deferred} that fires when it is the task's turn, in a later pass."""
        return cast("Deferred[object]", self._cooperator.coiterate(iter(())))
