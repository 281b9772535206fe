"""
The timer that keeps a core awake.
"""

from time import perf_counter_ns
from typing import Any

from twisted.internet.base import DelayedCall

from echofactory.net.spinning import SpinningTimer

_HOUR_NS = 3_600_000_000_000


class Turns:
    """A reactor in single turns, of which each makes the calls that waited for it."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def callLater(self, delay: float, call: Any) -> DelayedCall:
        # The reactor would sleep.
        assert delay == 0
        delayed = DelayedCall(0, call, (), {}, self.waiting.remove, lambda delayed: None)
        self.waiting.append(delayed)
        return delayed

    def turn(self) -> None:
        for delayed in self.waiting[:]:
            self.waiting.remove(delayed)
            delayed.called = True
            delayed.func()


def test_the_reactor_does_not_sleep_while_a_time_is_set() -> None:
    """Something is due in each of its turns. The call is not made before its time."""
    reactor, calls = Turns(), [0]
    timer = SpinningTimer(reactor, lambda: calls.append(perf_counter_ns()))
    assert reactor.waiting == []
    timer.at(perf_counter_ns() + _HOUR_NS)
    for _ in range(3):
        assert len(reactor.waiting) == 1
        reactor.turn()
    assert calls == [0]
    # Another time takes the place of the first one.
    due = perf_counter_ns() + 1_000_000
    timer.at(due)
    while len(calls) == 1:
        reactor.turn()
    assert calls[1] >= due
    assert reactor.waiting == []


def test_a_time_that_is_over() -> None:
    """The call is made in the next turn, and can set the next time or stop."""
    reactor = Turns()
    calls: list[int] = []

    def call() -> None:
        calls.append(len(calls))
        if len(calls) < 3:
            timer.at(perf_counter_ns() - 1)
        else:
            timer.stop()

    timer = SpinningTimer(reactor, call)
    timer.at(0)
    assert calls == []
    for turn in range(3):
        reactor.turn()
        assert len(calls) == turn + 1
    assert reactor.waiting == []


def test_a_timer_that_is_stopped() -> None:
    """It calls nothing."""
    reactor, calls = Turns(), [0]
    timer = SpinningTimer(reactor, lambda: calls.append(1))
    timer.at(0)
    timer.stop()
    timer.stop()
    reactor.turn()
    assert calls == [0]
