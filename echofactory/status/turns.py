"""
Pieces of work done one after the other, for a bounded time in each pass of the reactor.
"""

from collections.abc import Callable
from time import perf_counter
from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import Cooperator

SLICE_S = 0.002
"""Seconds in a pass. The piece of work that is under way then is done to its end."""


def _slice() -> Callable[[], bool]:
    end = perf_counter() + SLICE_S
    return lambda: perf_counter() >= end


class Turns:
    """Those who wait for their turn get it in the order in which they came."""

    def __init__(self, reactor: IReactorTime) -> None:
        self._cooperator = Cooperator(_slice, lambda tick: reactor.callLater(0, tick))

    def next(self) -> Deferred[object]:
        """Return what fires, in a later pass, when there is time for a piece of work."""
        return cast("Deferred[object]", self._cooperator.coiterate(iter(())))
