"""
The signals that stop a command.

 - While it starts, a signal ends the process at once. Twisted's plugin of the command sees
   to that, before anything of this package is imported.
 - An interrupt that was swallowed before is repeated.
 - While it runs, a signal stops the reactor, and the process ends by that signal in the
   end. Twisted does so for SIGINT and SIGTERM; SIGHUP is one more.
 - A signal that whoever started the process has it ignore stays ignored.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

from collections.abc import Callable
from contextlib import suppress
from signal import (
    SIG_IGN,
    SIGHUP,
    SIGINT,
    SIGTERM,
    Signals,
    getsignal,
    raise_signal,
    signal,
)
from types import FrameType
from typing import Any, cast

from twisted.internet.error import ReactorNotRunning
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher

_log = Logger()

STOP_SIGNALS = (SIGINT, SIGTERM, SIGHUP)
"""Those of a terminal, of a service manager, and of a terminal that is gone."""


def handleStopSignals(handler: Callable[[int, FrameType | None], Any]) -> None:
    """Have each of the signals call a handler."""
    for number in STOP_SIGNALS:
        if getsignal(number) is not SIG_IGN:
            signal(number, handler)


def repeatSwallowedInterrupt() -> None:
    """
    Have the process interrupted again, if the log tells that an interrupt was swallowed.
    Twisted's search for plugins does that, before anything can be done about it.
    """

    def observe(event: LogEvent) -> None:
        # The second is where twisted.python.log has it.
        failure = event.get("log_failure") or event.get("failure")
        if failure is not None and failure.check(KeyboardInterrupt):
            raise_signal(SIGINT)

    # The publisher replays what was logged before the log began.
    globalLogPublisher.addObserver(cast(ILogObserver, observe))


def stopReactorOnSignal(reactor: Any) -> None:
    """Have a signal stop the reactor, as soon as it runs."""

    def stop(number: int) -> None:
        _log.info("received {name}, shutting down", name=Signals(number).name)
        reactor._exitSignal = number
        # It may be stopping already.
        with suppress(ReactorNotRunning):
            reactor.stop()

    handleStopSignals(lambda number, _: reactor.callFromThread(stop, number))
