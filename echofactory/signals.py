"""
The signals that stop a command.

 - While it starts, a signal ends the process at once. Nothing can swallow it, as an
   C{except} swallows the C{KeyboardInterrupt} of Python's own handler.
 - While it runs, a signal stops the reactor, and the process ends by that signal in the
   end. Twisted does so for SIGINT and SIGTERM; SIGHUP is one more.
 - A signal that whoever started the process has it ignore stays ignored.

What is touched of Twisted that is not public, with its reason:

 - C{ReactorBase._exitSignal}: which signal C{twistd} and C{twist} end the process by.
"""

from collections.abc import Callable
from contextlib import suppress
from signal import SIG_DFL, SIG_IGN, SIGHUP, SIGINT, SIGTERM, Signals, getsignal, signal
from typing import Any

from twisted.internet.error import ReactorNotRunning
from twisted.logger import Logger

_log = Logger()

STOPPING = (SIGINT, SIGTERM, SIGHUP)
"""Those of a terminal, of a service manager, and of a terminal that is gone."""


def _handle(handler: Any) -> None:
    for number in STOPPING:
        if getsignal(number) is not SIG_IGN:
            signal(number, handler)


def endAtOnce() -> None:
    """Have the kernel end the process at a signal."""
    _handle(SIG_DFL)


def stopInOrder(reactor: Any) -> None:
    """Have a signal stop the reactor, as soon as it runs."""

    def stop(number: int) -> None:
        _log.info("received {name}, shutting down", name=Signals(number).name)
        reactor._exitSignal = number
        # It may be stopping already.
        with suppress(ReactorNotRunning):
            reactor.stop()

    _handle(lambda number, _: reactor.callFromThread(stop, number))


def callAtEach(call: Callable[[], None]) -> None:
    """Have each further signal call this, and no more."""
    _handle(lambda *_: call())
