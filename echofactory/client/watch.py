"""
The timeouts of connections: to be up, and to receive the next byte.

The connections are looked at ten times within the shorter timeout. A timer for each of them,
set anew with every message, would cost more than the message.
"""

from collections import deque
from collections.abc import Callable
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from echofactory.client.settings import Patience

_LOOKS = 10
"""Looks within the shorter timeout."""

_LONGEST_S = 10.0
"""Seconds: a longer timeout is not looked at less often than a timeout of this length."""

_STANDSTILL_S = 0.25
"""Seconds more than usual between two looks, from which this process stood still. A busy
reactor is late by less."""

_MAX_STANDSTILLS = 100
"""Standstills that are remembered."""


class Watched(Protocol):
    """What is watched."""

    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """
        Fail if something has taken too long.

        @param connectBefore: the attempt to connect has, if it began before this time.
        @param replyBefore: a reply has, if the waiting for it began before this time.
        @return: whether a timeout still runs.
        """


class _LivingTime:
    """
    The time in which this process did not stand still: stopped by a signal, say, or in a
    machine that was suspended. Only this time counts towards a timeout. So what arrived in a
    standstill is read before anybody is blamed.
    """

    def __init__(self, everyS: float) -> None:
        """
        @param everyS: seconds between two looks.
        """
        self._limitNs = int((everyS + _STANDSTILL_S) * 1e9)
        self._looks: deque[int] = deque(maxlen=_LOOKS)
        # The beginning and the end of each standstill, the latest first.
        self._standstills: deque[tuple[int, int]] = deque(maxlen=_MAX_STANDSTILLS)

    def look(self, now: int) -> None:
        """Note a look."""
        if self._looks and now - self._looks[-1] > self._limitNs:
            self._standstills.appendleft((self._looks[-1], now))
        self._looks.append(now)

    def ago(self, timeoutNs: int) -> int:
        """
        Return the time that is a timeout ago; 0: it is not known yet. There were ten looks
        since then.
        """
        if len(self._looks) < _LOOKS:
            return 0
        at, left = self._looks[-1], timeoutNs
        for began, ended in self._standstills:
            if at - ended >= left:
                break
            left -= at - ended
            at = began
        return min(self._looks[0], at - left)


class Watch:
    """Fails the connections that take too long."""

    def __init__(
        self, reactor: IReactorTime, patience: Patience, clock: Callable[[], int]
    ) -> None:
        """
        @param clock: returns nanoseconds.
        """
        self._clock = clock
        self._watched: set[Watched] = set()
        self._everyS = min(patience.connect, patience.reply, _LONGEST_S) / _LOOKS
        self._connectNs = int(patience.connect * 1e9)
        self._replyNs = int(patience.reply * 1e9)
        self._living = _LivingTime(self._everyS)
        self._looking = LoopingCall(self._look)
        self._looking.clock = reactor

    def start(self) -> None:
        """Look from now on."""
        self._looking.start(self._everyS, now=False)

    def stop(self) -> None:
        """Look no more."""
        if self._looking.running:
            self._looking.stop()

    def add(self, connection: Watched) -> None:
        """Watch a connection: a timeout of it runs."""
        self._watched.add(connection)

    def discard(self, connection: Watched) -> None:
        """Watch a connection no more."""
        self._watched.discard(connection)

    def _look(self) -> None:
        self._living.look(self._clock())
        connect, reply = self._living.ago(self._connectNs), self._living.ago(self._replyNs)
        for connection in list(self._watched):
            if not connection.sweep(connect, reply):
                self._watched.discard(connection)
