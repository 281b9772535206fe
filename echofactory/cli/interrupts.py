"""
What signals mean to a run.
"""

import os
from collections.abc import Callable
from signal import (
    SIG_IGN,
    SIGALRM,
    SIGHUP,
    SIGINT,
    SIGTERM,
    SIGUSR1,
    alarm,
    getsignal,
    signal,
)

_PATIENCE_S = 5
"""Seconds after which a process that was told to end a second time is ended."""


class Interrupts:
    """
    The first of SIGINT, SIGTERM and SIGHUP ends the run, which is then reported. Another
    one does not spoil the report, but gives it L{_PATIENCE_S} seconds: its reader may
    have stopped to read. SIGUSR1 asks for a report, and the run goes on.

    @ivar number: the signal that ended the run; C{None}: no signal did.
    """

    def __init__(self, end: Callable[[], None], show: Callable[[], None]) -> None:
        """
        Take over the signals, except those that this process was told to ignore, as by
        C{nohup}.

        @param end: called from a signal handler.
        @param show: called from a signal handler.
        """
        self.number: int | None = None
        self._end = end
        self._show = show
        self._over = False
        for number in (SIGINT, SIGTERM, SIGHUP):
            if getsignal(number) is not SIG_IGN:
                signal(number, self._ended)
        signal(SIGUSR1, self._asked)

    def runIsOver(self) -> None:
        """What comes from now on comes while the run is reported."""
        self._over = True

    def _ended(self, number: int, _: object) -> None:
        if self._over or self.number is not None:
            signal(SIGALRM, lambda *_: os._exit(128 + number))
            alarm(_PATIENCE_S)
        else:
            self.number = number
            self._end()

    def _asked(self, *_: object) -> None:
        if not self._over:
            self._show()
