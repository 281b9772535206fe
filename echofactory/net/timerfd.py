"""
A timer with a resolution of microseconds. A reactor's own timers have milliseconds.

The timeout of C{epoll} is a number of milliseconds, rounded up. Every reactor's timers use
it. A U{timerfd<https://man7.org/linux/man-pages/man2/timerfd_create.2.html>} is a descriptor
that becomes readable at a time given in nanoseconds. Python has it since 3.13. This module
calls the C library.
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
    """Makes one call at a given time. The clock is C{perf_counter_ns}."""

    def at(self, ns: int) -> None:
        """Set the time of the call, in nanoseconds. It replaces an earlier time."""

    def stop(self) -> None:
        """Cancel the call, and release the timer."""


@implementer(IReadDescriptor)
class _TimerDescriptor:
    """A timerfd. On Linux, its clock is the clock of C{perf_counter_ns}."""

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
            # The timer was set again after it became readable.
            return
        self._call()

    def connectionLost(self, reason: Failure) -> None:
        """See L{IReadDescriptor}."""
        self.stop()

    def logPrefix(self) -> str:
        """See L{IReadDescriptor}."""
        return "timer"


class _TimerCall:
    """The reactor's own timer, for systems without timerfd."""

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
    Return a timer: a timerfd if the system and the reactor support one, otherwise the
    reactor's own timer.

    @param reactor: watches the timer.
    @param call: is called at the time that is set.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if IReactorFDSet.providedBy(reactor) and hasattr(libc, "timerfd_create"):
        # If no descriptor is left, the less exact timer makes messages late.
        with suppress(OSError):
            return _TimerDescriptor(reactor, call, libc)
    return _TimerCall(reactor, call)
