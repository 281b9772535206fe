"""
Reactors whose time does not jump.

A reactor of Twisted's takes the time from the wall clock. If that is set back by an
hour (by NTP, or after a machine was suspended), no timer fires for an hour; if it is set
forward, all timers fire at once.
"""

from time import monotonic
from typing import Any

from twisted.internet.interfaces import IReactorTime


class _SteadyTime:
    """The wall clock's time when this was made, and on from there by a steady clock."""

    def __init__(self, now: float) -> None:
        self._offset = now - monotonic()

    def __call__(self) -> float:
        return monotonic() + self._offset


def useMonotonicTime(reactor: IReactorTime) -> None:
    """
    Have a reactor take its time from a clock that is never set (C{CLOCK_MONOTONIC}), for
    every timer of the process. Timers that are waiting already keep their time.

    C{seconds()} of the reactor are those since 1970 at first. They go on evenly, whatever
    happens to the wall clock.

    @param reactor: one of Twisted's own.
    """
    chosen: Any = reactor
    if isinstance(chosen.seconds, _SteadyTime):
        return
    # IReactorTime.seconds is what every timer of a ReactorBase asks.
    chosen.seconds = _SteadyTime(chosen.seconds())
    for call in chosen.getDelayedCalls():
        call.seconds = chosen.seconds
