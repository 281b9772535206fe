"""
A timer that keeps a core awake, so that it is late by a few microseconds.

A core that sleeps needs tens of microseconds to wake up, and a timer of the kernel waits for
that. While a time is set, this timer never lets the reactor sleep.
"""

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from twisted.internet.interfaces import IDelayedCall

_TURN_NS = 20_000
"""Nanoseconds that a turn of the reactor takes if nothing has come. If the call is due within
this time, the timer waits for it, and the reactor has its turn afterwards."""


class SpinningTimer:
    """An L{ITimer<echofactory.net.timerfd.ITimer>} that keeps a core awake."""

    def __init__(self, reactor: Any, call: Callable[[], None]) -> None:
        """
        @param reactor: has one turn after the other.
        @param call: is called at the time that is set.
        """
        self._reactor = reactor
        self._call = call
        self._due = 0
        # While a time is set, a delayed call is always waiting, so that the reactor does not
        # sleep.
        self._next: IDelayedCall | None = None

    def at(self, ns: int) -> None:
        """See L{ITimer<echofactory.net.timerfd.ITimer>}."""
        self._due = ns
        if self._next is None:
            self._next = self._reactor.callLater(0, self._look)

    def stop(self) -> None:
        """See L{ITimer<echofactory.net.timerfd.ITimer>}."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        due = self._due
        now = perf_counter_ns()
        if due - now > _TURN_NS:
            self._next = self._reactor.callLater(0, self._look)
            return
        self._next = None
        while now < due:
            now = perf_counter_ns()
        self._call()
