"""
Monotonic time for Twisted's reactors.

Twisted's reactors take the time from the wall clock. NTP or an administrator can set the
wall clock. If it is set back by an hour, no timer fires for an hour. If it is set forward,
all timers fire immediately.
"""

from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import WeakSet

from twisted.internet.interfaces import IReactorTime


def _steadyTime(now: float) -> Callable[[], float]:
    """Return a monotonic clock that shows C{now} at the time of the call."""
    offset = now - monotonic()

    # A reactor asks several times in each pass. A plain function is the fastest.
    def seconds() -> float:
        return monotonic() + offset

    return seconds


_steady: WeakSet[Any] = WeakSet()


def useMonotonicTime(reactor: IReactorTime) -> None:
    """
    Make a reactor use C{CLOCK_MONOTONIC} for every timer. Nothing sets that clock. Timers
    that wait already keep their delay.

    At the time of the call, C{seconds()} of the reactor is the time since 1970. Later changes
    of the wall clock do not affect it.

    @param reactor: a reactor of Twisted.
    """
    chosen: Any = reactor
    if chosen in _steady:
        return
    _steady.add(chosen)
    # Every timer of a ReactorBase reads IReactorTime.seconds.
    chosen.seconds = _steadyTime(chosen.seconds())
    for call in chosen.getDelayedCalls():
        call.seconds = chosen.seconds
