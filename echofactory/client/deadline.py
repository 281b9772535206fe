"""
A limit on waiting that does not count the time in which this process stood still.
"""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure

_LOOKS = 10
"""Looks at the clock that are made before the time is over."""


def addDeadline(waiting: Deferred[Any], seconds: float, reactor: IReactorTime) -> None:
    """
    Cancel a L{Deferred} that has no result after some time. It then fails with
    L{TimeoutError<twisted.internet.defer.TimeoutError>}.

    C{Deferred.addTimeout} fires at once in a process that was stopped for longer than the
    time. Here the time is over after ten looks, and looks that were missed do not count.

    @param seconds: the deadline. It can fire up to 10 % late.
    """
    looks = 0

    def look() -> None:
        nonlocal looks
        looks += 1
        if looks == _LOOKS:
            looking.stop()
            waiting.cancel()

    def over(result: Any) -> Any:
        if looking.running:
            looking.stop()
        elif isinstance(result, Failure) and result.check(CancelledError):
            raise TimeoutError(seconds, "Deferred")
        return result

    looking = LoopingCall(look)
    looking.clock = reactor
    looking.start(seconds / _LOOKS, now=False)
    waiting.addBoth(over)
