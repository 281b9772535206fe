"""
The open loop: messages are handed out when they are due, whether or not replies come.
"""

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from twisted.logger import Logger

from echofactory.net.spinning import SpinningTimer
from echofactory.net.timerfd import timer
from echofactory.workload.schedule import DueTimes

_log = Logger()

_PER_TURN = 64
"""Messages handed out before the reactor has its turn."""


class Pacer:
    """
    Goes through a schedule, and calls for each message when it is due.

    @ivar over: whether all messages are handed out, or L{stop} was called.
    @ivar handedOut: how many messages have been.
    @ivar lastAt: when the last of them was (C{perf_counter_ns}).
    """

    def __init__(
        self,
        reactor: Any,
        schedule: DueTimes,
        beganAt: int,
        deliver: Callable[[int], None],
        finished: Callable[[], None],
        spin: bool = False,
    ) -> None:
        """
        @param beganAt: when the schedule starts (C{perf_counter_ns}).
        @param deliver: called for each message, with when it was due
            (C{perf_counter_ns}).
        @param finished: called after the last one.
        @param spin: whether to keep a core awake (L{SpinningTimer}).
        """
        self.over = False
        self._schedule = schedule
        self._deliver = deliver
        self._finished = finished
        self.handedOut = 0
        self.lastAt = self._beganAt = beganAt
        self._timer = (SpinningTimer if spin else timer)(reactor, self._wake)
        self._timer.at(self._beganAt)

    def stop(self) -> None:
        """Hand out nothing more."""
        self.over = True
        self._timer.stop()

    def _wake(self) -> None:
        try:
            self._handOut()
        except Exception:
            # The run ends in order, without the rest of the schedule.
            _log.failure("while handing out a message")
            self.stop()
            self._finished()

    def _handOut(self) -> None:
        schedule = self._schedule
        for _ in range(_PER_TURN):
            if self.handedOut == schedule.total:
                self.stop()
                self._finished()
                return
            due = self._beganAt + schedule.dueNs(self.handedOut)
            now = perf_counter_ns()
            if due > now:
                break
            self.handedOut += 1
            self.lastAt = now
            self._deliver(due)
            if self.over:
                # The message that was delivered ended the run.
                return
        # If the message is due already, the timer fires in the next turn of the reactor.
        self._timer.at(due)
