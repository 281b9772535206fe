"""
The receive lag of sampled replies: how long a reply that the kernel has received waited for the
client.
"""

from collections.abc import Callable
from random import randrange
from time import CLOCK_REALTIME, clock_gettime_ns
from typing import Any

from echofactory.net.timestamps import StampedReads, stampArrivals
from echofactory.results.books import Results
from echofactory.results.latency import Latency

_ONE_IN = 64
_STEP_NS = 100_000

_TOGETHER_NS = 10_000
"""If reading both clocks takes more nanoseconds than this, they are read again: the process had
to wait for its core."""
_ATTEMPTS = 10
"""Number of times that both clocks are read, at most."""


def _gap() -> int:
    """Draw the number of replies to the next sample. A fixed one could always meet the same
    connections."""
    return randrange(1, 2 * _ONE_IN)


def _wallClock() -> int:
    return clock_gettime_ns(CLOCK_REALTIME)


class ReplySampler:
    """
    Takes the receive lag of one reply in 64 on average, and records it in the results.

    The kernel's timestamps are of the wall clock. If the wall clock was set by 0.1 ms or more
    since the reply was chosen, or the reply seems to have arrived after it was read, the
    reading is dropped and counted.

    @ivar nextAt: the number of verified messages after which the next reply is chosen.
    """

    def __init__(
        self,
        results: Results,
        clock: Callable[[], int],
        wallClock: Callable[[], int] = _wallClock,
        gap: Callable[[], int] = _gap,
    ) -> None:
        """
        @param clock: the clock of the run, in nanoseconds.
        @param wallClock: C{CLOCK_REALTIME} in nanoseconds, or a test's.
        @param gap: returns the number of replies from one sample to the next.
        """
        self.nextAt = 0
        self._results = results
        self._clock = clock
        self._wallClock = wallClock
        self._gap = gap

    def connected(self, transport: Any) -> None:
        """A connection is established. Its first reply can be chosen."""
        if not stampArrivals(transport):
            return
        if self._results.receiveLag is None:
            self._results.receiveLag = Latency()
        if self._results.verified >= self.nextAt:
            self.sample(transport)

    def sample(self, transport: Any) -> None:
        """Choose the next reply of a connection."""
        self.nextAt = self._results.verified + self._gap()
        if self._results.receiveLag is not None:
            setting = self._setting()
            StampedReads(transport, lambda *read: self._read(setting, *read))

    def _setting(self) -> int:
        """Return the wall clock minus the run's clock."""
        for _ in range(_ATTEMPTS):
            before = self._clock()
            wall = self._wallClock()
            if self._clock() - before < _TOGETHER_NS:
                break
        return wall - before

    def _read(self, setting: int, arrivedAt: int | None, begunAt: int) -> bool:
        """
        A read is done.

        @param setting: the wall clock minus the run's clock, when the reply was chosen.
        @return: whether it completed a reply of which something is known. The first replies of
            a run can lack a timestamp, because the kernel turns timestamps on with a delay.
        """
        results = self._results
        if results.lastAt < begunAt or arrivedAt is None:
            return False
        if results.receiveLag is not None:
            now = self._setting()
            lag = results.lastAt + now - arrivedAt
            if lag < 0 or abs(now - setting) >= _STEP_NS:
                results.receiveLagDropped += 1
            else:
                results.receiveLag.record(lag)
        return True
