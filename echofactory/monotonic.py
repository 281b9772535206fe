"""
Reactors whose time does not jump.

A reactor of Twisted's takes the time from the wall clock. If that is set back by an
hour (by NTP, or after a machine was suspended), no timer fires for an hour; if it is set
forward, all timers fire at once.
"""

from time import monotonic
from typing import Any

from twisted.internet.interfaces import IReactorTime


def useMonotonicTime(reactor: IReactorTime) -> None:
    """
    Have a reactor take its time from a clock that is never set (C{CLOCK_MONOTONIC}), for
    every timer of the process. Timers that are waiting already keep the time that they
    have left.

    C{seconds()} of the reactor are seconds since some moment from then on, not since
    1970. Twisted's HTTP server writes that into its access log as the date.

    @param reactor: one of Twisted's own.
    """
    chosen: Any = reactor
    if chosen.seconds is monotonic:
        return
    shift = monotonic() - chosen.seconds()
    # IReactorTime.seconds is what every timer of a ReactorBase asks.
    chosen.seconds = monotonic
    for call in chosen.getDelayedCalls():
        call.time += shift
        call.seconds = monotonic
