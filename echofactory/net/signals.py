"""
The signals that stop a command: SIGINT, SIGTERM and SIGHUP.

 - While the command starts, a signal ends the process immediately. The command's plugin for
   Twisted sets this up before it imports any other module of this package.
 - If Twisted's search for plugins has swallowed an interrupt, this module repeats it.
 - While the command runs, a signal stops the reactor. The process then ends by that signal.
   Twisted does this for SIGINT and SIGTERM; this module adds SIGHUP.
 - If the parent process made a signal ignored, the signal stays ignored.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

from collections.abc import Callable
from contextlib import suppress
from signal import (
    SIG_IGN,
    SIGINT,
    Signals,
    getsignal,
    raise_signal,
    signal,
)
from types import FrameType
from typing import Any, cast

from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher

from echofactory.net.processes import STOP_SIGNALS

_log = Logger()


def handleStopSignals(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Set a handler for each of L{STOP_SIGNALS} that is not ignored."""
    for number in STOP_SIGNALS:
        if getsignal(number) is not SIG_IGN:
            signal(number, handler)


def repeatSwallowedInterrupt() -> None:
    """
    Raise SIGINT again if the log contains a C{KeyboardInterrupt}. Twisted's search for plugins
    catches this exception and logs it.
    """

    def observe(event: LogEvent) -> None:
        # The key of twisted.python.log is "failure".
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None and failure.check(KeyboardInterrupt):
            raise_signal(SIGINT)

    # The publisher replays the events that were logged before logging began.
    globalLogPublisher.addObserver(cast(ILogObserver, observe))


def stopReactorOnSignal(reactor: Any) -> None:
    """Make L{STOP_SIGNALS} stop the reactor."""

    def stop(number: int) -> None:
        _log.info("received {name}, shutting down", name=Signals(number).name)
        reactor._exitSignal = number
        # The reactor may be stopping already.
        with suppress(ReactorNotRunning):
            reactor.stop()

    handleStopSignals(lambda number, _: reactor.callFromThread(stop, number))
