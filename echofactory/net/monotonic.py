"""
Reactors whose time does not jump.

A reactor of Twisted's takes the time from the wall clock. If that is set back by an
hour (by NTP, or after a machine was suspended), no timer fires for an hour; if it is set
forward, all timers fire at once.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IReactorTime


def _steadyTime(now: float) -> Callable[[], float]:
    """Return a clock that shows this time now, and goes on from there evenly."""
    offset = now - monotonic()

    # A reactor asks several times a turn: a plain function is the fastest there is.
    def seconds() -> float:
        return monotonic() + offset

    return seconds


_steady: WeakSet[Any] = WeakSet()


def useMonotonicTime(reactor: IReactorTime) -> None:
    """
    Have a reactor take its time from a clock that is never set (C{CLOCK_MONOTONIC}), for
    every timer of the process. Timers that are waiting already keep their time.

    C{seconds()} of the reactor are those since 1970 at first. They go on evenly, whatever
    happens to the wall clock.

    @param reactor: one of Twisted's own.
    """
    chosen: Any = reactor
    if chosen in _steady:
        return
    _steady.add(chosen)
    # IReactorTime.seconds is what every timer of a ReactorBase asks.
    chosen.seconds = _steadyTime(chosen.seconds())
    for call in chosen.getDelayedCalls():
        call.seconds = chosen.seconds
