"""
Which of several addresses of a name the connections use: that which answers first (Happy
Eyeballs, RFC 8305).

The first connection races: it tries the addresses in order, the next one 250 ms after the one
before, or immediately if that fails. The address that answers first is chosen. The connections
that are asked for meanwhile wait, and their connect time begins when the race is over::

    ========== ======================================= ========================================
    state      what a connection does                  left when
    ========== ======================================= ========================================
    open       it begins the race                      there is a connection
    racing     it waits                                an address answers: chosen; all fail, or
                                                       the racing connection is given up: open
    chosen     it connects to the chosen address       (never)
    ========== ======================================= ========================================
"""

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from itertools import chain, zip_longest

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import NotConnectingError
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime
from twisted.python.failure import Failure

from echofactory.client.slices import Slices

ATTEMPT_DELAY_S = 0.25
"""Seconds from one attempt to the next (RFC 8305, section 5)."""

Connect = Callable[[str], Deferred[IProtocol]]
"""Connects to an address."""


def interleaved(addresses: Sequence[str]) -> list[str]:
    """Return the addresses with their families in turn (RFC 8305, section 4)."""
    if not addresses:
        return []
    leading = ip_address(addresses[0]).version
    first = [each for each in addresses if ip_address(each).version == leading]
    second = [each for each in addresses if ip_address(each).version != leading]
    paired = chain.from_iterable(zip_longest(first, second))
    return [each for each in paired if each is not None]


class _Race:
    """
    One connection's attempts.

    @ivar outcome: fires with the address that answered first and its protocol; or fails with
        the error of the last attempt.
    """

    def __init__(
        self, reactor: IReactorTime, addresses: Sequence[str], connectTo: Connect
    ) -> None:
        self.outcome: Deferred[tuple[str, IProtocol]] = Deferred(lambda _: self._end())
        self._reactor = reactor
        self._left = deque(addresses)
        self._connectTo = connectTo
        self._attempts: dict[str, Deferred[None]] = {}
        self._next: IDelayedCall | None = None
        self._over = False

    def attempt(self) -> None:
        """Try the next address."""
        self._next = None
        address = self._left.popleft()
        if self._left:
            self._next = self._reactor.callLater(ATTEMPT_DELAY_S, self.attempt)
        # Waiting first: the attempt can end immediately.
        self._attempts[address] = Deferred()
        attempt = self._connectTo(address).addCallbacks(
            self._won, self._lost, callbackArgs=(address,), errbackArgs=(address,)
        )
        if address in self._attempts:
            self._attempts[address] = attempt

    def _won(self, protocol: IProtocol, address: str) -> None:
        del self._attempts[address]
        self._end()
        self.outcome.callback((address, protocol))

    def _lost(self, reason: Failure, address: str) -> None:
        self._attempts.pop(address, None)
        if self._over:
            return
        if self._left:
            assert self._next is not None
            self._next.cancel()
            self.attempt()
        elif not self._attempts:
            self._over = True
            self.outcome.errback(reason)

    def _end(self) -> None:
        self._over = True
        if self._next is not None:
            self._next.cancel()
            self._next = None
        attempts, self._attempts = self._attempts, {}
        for attempt in attempts.values():
            # An attempt can have failed halfway: Twisted tells nobody, and the socket is gone.
            with suppress(NotConnectingError):
                attempt.cancel()


class AddressChoice:
    """
    Connects to one of several addresses.

    @ivar chosen: the address that answered first; C{None}: none has answered yet.
    """

    def __init__(
        self, reactor: IReactorTime, addresses: Sequence[str], preferred: str | None = None
    ) -> None:
        """
        @param addresses: one or more, in the order in which the resolver gives them.
        @param preferred: the one to try first, if it is among them.
        """
        ordered = interleaved(addresses)
        ordered.sort(key=lambda address: address != preferred)
        self.chosen = ordered[0] if len(ordered) == 1 else None
        self._reactor = reactor
        self._addresses = ordered
        self._racing = False
        self._waiting: deque[Deferred[None]] = deque()
        self._slices = Slices(reactor)

    def connect(self, connectTo: Connect, begins: Callable[[], None]) -> Deferred[IProtocol]:
        """
        Connect to the chosen address; if there is none, begin the race or wait for its end.

        @param begins: is called if the connection has waited, when it begins to connect.
        """
        if self.chosen is not None:
            return connectTo(self.chosen)
        if not self._racing:
            return self._race(connectTo)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)

        def go(_: None) -> Deferred[IProtocol]:
            begins()
            return self.connect(connectTo, begins)

        return waiting.addCallback(go)

    def _race(self, connectTo: Connect) -> Deferred[IProtocol]:
        self._racing = True
        race = _Race(self._reactor, self._addresses, connectTo)
        connecting = race.outcome.addCallbacks(self._decided, self._failed)
        race.attempt()
        return connecting

    def _decided(self, answer: tuple[str, IProtocol]) -> IProtocol:
        self._racing = False
        self.chosen, protocol = answer
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            self._later(each, None)
        return protocol

    def _failed(self, reason: Failure) -> Failure:
        self._racing = False
        if reason.check(CancelledError):
            # If the run is cut, the others are given up in the same turn.
            self._slices.add(self._raceAgain)
            return reason
        waiting, self._waiting = self._waiting, deque()
        for each in waiting:
            # No address answered: the others have the same outcome.
            self._later(each, Failure(reason.value))
        return reason

    def _raceAgain(self) -> None:
        while self._waiting and not self._racing:
            waiting = self._waiting.popleft()
            if not waiting.called:
                waiting.callback(None)

    def _later(self, waiting: "Deferred[None]", outcome: Failure | None) -> None:
        def tell() -> None:
            # A connection that was given up meanwhile has its answer.
            if not waiting.called:
                waiting.callback(outcome)

        self._slices.add(tell)
