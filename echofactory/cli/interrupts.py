"""
The signals that end a run, or ask for its report.
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

_REPORT_LIMIT_S = 5
"""Seconds from a second signal until all is written. After that, the process ends."""


def cancelLimit() -> None:
    """
    Give up the limit. Python removes its signal handlers before it ends, so that the alarm
    would then decide the exit status.
    """
    alarm(0)


class Interrupts:
    """
    The first SIGINT, SIGTERM or SIGHUP ends the run, and the report follows. A second one
    ends what the run still waits for. It gives the report L{_REPORT_LIMIT_S} seconds, because
    its reader may have stopped reading.
    SIGUSR1 asks for a report, and the run goes on.

    @ivar number: the signal that ended the run; C{None}: no signal ended it.
    """

    def __init__(self, end: Callable[[], None], show: Callable[[], None]) -> None:
        """
        Install the handlers. A signal that the process was told to ignore, as by C{nohup},
        stays ignored.

        @param end: ends the run; called from a signal handler, for each signal.
        @param show: shows a report; called from a signal handler.
        """
        self.number: int | None = None
        self._end = end
        self._show = show
        self._over = False
        for number in (SIGINT, SIGTERM, SIGHUP):
            if getsignal(number) is not SIG_IGN:
                signal(number, self._ended)
        signal(SIGUSR1, self._asked)

    def runEnded(self) -> None:
        """Treat each signal from now on as a second one."""
        self._over = True

    def _ended(self, number: int, _: object) -> None:
        if self._over or self.number is not None:
            signal(SIGALRM, lambda *_: os._exit(128 + number))
            alarm(_REPORT_LIMIT_S)
        else:
            self.number = number
        if not self._over:
            self._end()

    def _asked(self, *_: object) -> None:
        if not self._over:
            self._show()
