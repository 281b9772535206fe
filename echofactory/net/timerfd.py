"""
A timer that keeps to the microsecond what the reactor's own keep to the
millisecond.

C{epoll}'s timeout is a number of milliseconds, rounded up, and every reactor's
timers come from that. A U{timerfd<https://man7.org/linux/man-pages/man2/timerfd_create.2.html>}
is a descriptor that becomes readable at a time given in nanoseconds. Python has
it from 3.13 on; this asks the C library.
"""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns
from typing import Any, Protocol

from twisted.internet.interfaces import (
    IDelayedCall,
    IReactorFDSet,
    IReactorTime,
    IReadDescriptor,
)
from twisted.python.failure import Failure
from zope.interface import implementer

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_S_NS = 1_000_000_000


class _TimeSpec(ctypes.Structure):
    _fields_ = (("s", ctypes.c_long), ("ns", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class ITimer(Protocol):
    """Calls something once, at a time of C{perf_counter_ns}."""

    def at(self, ns: int) -> None:
        """Call at this time, not at the one that was set before."""

    def stop(self) -> None:
        """Call no more."""


@implementer(IReadDescriptor)
class _TimerDescriptor:
    """A timerfd, whose clock is that of C{perf_counter_ns} on Linux."""

    def __init__(self, reactor: IReactorFDSet, call: Callable[[], None], libc: Any) -> None:
        self._reactor = reactor
        self._call = call
        self._libc = libc
        self._descriptor = libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        self._setting = _Setting()
        reactor.addReader(self)

    def at(self, ns: int) -> None:
        value = self._setting.value
        value.s, value.ns = divmod(max(ns, 1), _S_NS)
        self._libc.timerfd_settime(
            self._descriptor, _ABSOLUTE, ctypes.byref(self._setting), None
        )

    def stop(self) -> None:
        if self._descriptor >= 0:
            self._reactor.removeReader(self)
            os.close(self._descriptor)
            self._descriptor = -1

    def fileno(self) -> int:
        """See L{IReadDescriptor}."""
        return int(self._descriptor)

    def doRead(self) -> None:
        """See L{IReadDescriptor}."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            # Set again since it became readable.
            return
        self._call()

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor}."""
        self.stop()

    def logPrefix(self) -> str:
        """See L{IReadDescriptor}."""
        return "timer"


class _TimerCall:
    """Where there is no timerfd: the reactor's own timer."""

    def __init__(self, reactor: IReactorTime, call: Callable[[], None]) -> None:
        self._reactor = reactor
        self._call = call
        self._waiting: IDelayedCall | None = None

    def at(self, ns: int) -> None:
        self.stop()
        wait = max(0, ns - perf_counter_ns()) / _S_NS
        self._waiting = self._reactor.callLater(wait, self._fire)

    def stop(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _fire(self) -> None:
        self._waiting = None
        self._call()


def timer(reactor: Any, call: Callable[[], None]) -> ITimer:
    """
    Return a timer, as exact as there is one here.

    @param reactor: it watches the timer.
    @param call: what to call when the time has come.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if IReactorFDSet.providedBy(reactor) and hasattr(libc, "timerfd_create"):
        # With no descriptor left, what connections there are get their messages late.
        with suppress(OSError):
            return _TimerDescriptor(reactor, call, libc)
    return _TimerCall(reactor, call)
