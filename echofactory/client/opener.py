"""
When connections are asked for.
"""

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echofactory.workload.share import WHOLE_RUN, Share

_PER_TURN = 32
"""Connections asked for before the reactor has its turn. Until then, no connection that
is established meanwhile is noticed."""

_PAUSE_S = 0.01
"""Seconds between two looks at how many connections are due, at most."""


class Opener:
    """
    Asks for connections, at a rate or as fast as the reactor takes them.

    @ivar asked: connections asked for.
    @ivar toAsk: connections still to be asked for.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        rate: float | None,
        clock: Callable[[], int],
        ask: Callable[[], None],
        share: Share = WHOLE_RUN,
    ) -> None:
        """
        @param rate: connections a second, of the whole run; C{None}: no limit.
        @param clock: returns nanoseconds.
        @param ask: asks for one.
        @param share: which connections of the whole run are asked for.
        """
        self.asked = 0
        self.toAsk = 0
        self._reactor = reactor
        self._rate = rate
        self._clock = clock
        self._ask = ask
        self._share = share
        self._beganAt = 0
        self._later: IDelayedCall | None = None

    def begin(self, beganAt: int) -> None:
        """
        Ask for what is to be asked for (L{toAsk}).

        @param beganAt: when the run began, in nanoseconds: the rate counts from then.
        """
        self._beganAt = beganAt
        self._askSome()

    def askAnother(self) -> None:
        """Ask for one more, in the reactor's next turn."""
        self.toAsk += 1
        if self._later is None:
            self._later = self._reactor.callLater(0, self._askSome)

    def stop(self) -> None:
        """Ask for none of the rest."""
        self.toAsk = 0
        if self._later is not None:
            self._later.cancel()
            self._later = None

    def _askSome(self) -> None:
        """Ask for some, and come back for the others."""
        self._later = None
        allowed = _PER_TURN
        if self._rate is not None:
            elapsed = (self._clock() - self._beganAt) / 1e9
            # As many as are due, and none in advance.
            due = self._share.count(int(elapsed * self._rate) + 1)
            allowed = min(allowed, due - self.asked)
        for _ in range(min(self.toAsk, allowed)):
            # Asking for one may have stopped the rest.
            if not self.toAsk:
                break
            self.toAsk -= 1
            self.asked += 1
            self._ask()
        if self.toAsk and self._later is None:
            wait = 0.0 if self._rate is None else min(_PAUSE_S, self._share.parts / self._rate)
            self._later = self._reactor.callLater(wait, self._askSome)
