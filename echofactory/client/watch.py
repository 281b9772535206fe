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

_MOST_LOOKS = 10_000
"""Looks that a timeout needs, at most: what is kept of them is bounded."""


class Watched(Protocol):
    """What is watched."""

    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """
        Fail if something has taken too long.

        @param connectBefore: the attempt to connect has, if it began before this time.
        @param replyBefore: a reply has, if the waiting for it began before this time.
        @return: whether a timeout still runs.
        """


class _Threshold:
    """
    The time before which an event is a timeout ago.

    The timeout is over only after as many looks as it has time for. While this process
    stands still, there are none. So what arrived meanwhile is read before anybody is blamed.
    """

    def __init__(self, seconds: float, everyS: float) -> None:
        """
        @param seconds: the timeout.
        @param everyS: seconds between two looks.
        """
        self._timeoutNs = int(seconds * 1e9)
        self._looks: deque[int] = deque(
            maxlen=min(max(_LOOKS, int(seconds / everyS)), _MOST_LOOKS)
        )

    def at(self, now: int) -> int:
        """Return the threshold, in nanoseconds; 0: no event is that long ago."""
        looks = self._looks
        enough = len(looks) == looks.maxlen
        threshold = min(looks[0], now - self._timeoutNs) if enough else 0
        looks.append(now)
        return threshold


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
        self._connect = _Threshold(patience.connect, self._everyS)
        self._reply = _Threshold(patience.reply, self._everyS)
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
        now = self._clock()
        connect, reply = self._connect.at(now), self._reply.at(now)
        for connection in list(self._watched):
            if not connection.sweep(connect, reply):
                self._watched.discard(connection)
