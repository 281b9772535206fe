"""
Opens connections again that have ended, after a pause that grows with each failure.
"""

from collections import Counter
from collections.abc import Callable

from twisted.application.internet import backoffPolicy
from twisted.internet.interfaces import IDelayedCall, IReactorTime

_LASTING_NS = 10_000_000_000
"""Nanoseconds. A connection that was up for longer did not fail to come up."""


class Backoff:
    """
    The pauses before connections are opened again. Each connection has a key, which is the same
    for all its attempts.

    The pause grows exponentially with each attempt that fails, up to a limit, and has a random
    part, so that connections that failed together do not come back together. After a
    connection that lasted for over 10 s, the pauses are short again. Connected is not served:
    after a shorter connection, they are not.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        clock: Callable[[], int],
        open: Callable[[int], None],
        policy: Callable[[int], float] | None = None,
    ) -> None:
        """
        @param clock: returns nanoseconds.
        @param open: opens a connection, given its key.
        @param policy: returns the pause in seconds, given the number of failures in a row.
            C{None}: as in L{ClientService<twisted.application.internet.ClientService>}: 1 s
            after the first failure, 60 s at most, with jitter.
        """
        self._reactor = reactor
        self._clock = clock
        self._open = open
        self._policy = policy or backoffPolicy()
        self._failed: Counter[int] = Counter()
        self._upAt: dict[int, int] = {}
        self._pauses: dict[int, IDelayedCall] = {}

    def __len__(self) -> int:
        """Return how many connections wait for their next attempt."""
        return len(self._pauses)

    def up(self, key: int) -> None:
        """Note that a connection is up."""
        self._upAt[key] = self._clock()

    def failed(self, key: int) -> None:
        """Note that a connection has failed, or could not be opened."""
        now = self._clock()
        lasted = now - self._upAt.pop(key, now) > _LASTING_NS
        self._failed[key] = 1 if lasted else self._failed[key] + 1

    def again(self, key: int) -> None:
        """Open a connection again after its pause. If it waits already, do nothing."""
        if key not in self._pauses:
            pause = self._policy(self._failed[key])
            self._pauses[key] = self._reactor.callLater(pause, self._pauseIsOver, key)

    def stop(self) -> None:
        """Open none of those that wait."""
        for pause in self._pauses.values():
            pause.cancel()
        self._pauses.clear()

    def _pauseIsOver(self, key: int) -> None:
        del self._pauses[key]
        self._open(key)
