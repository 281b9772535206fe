"""
A run that opens connections again that have failed.
"""

from collections import deque
from collections.abc import Callable
from random import random

from twisted.application.internet import backoffPolicy
from twisted.internet.interfaces import IReactorTime

from echofactory.client.backoff import Backoff
from echofactory.client.opener import Opener
from echofactory.results.books import Results

_POLICY = backoffPolicy(0.1, 10.0, 2.0, lambda: 0.1 * random())
"""0.2 s after the first failure, doubled with each other one, 10 s at most, with jitter."""


class Reconnects:
    """
    Keeps the number of connections of a run: each of its I{places} is taken by one connection
    after the other. A connection that has failed leaves its place to another one, with a number
    of its own, so that its messages are different.

    While messages are sent, the time counts in which places are empty.

    @ivar begun: whether the sending has begun.
    @ivar on: whether connections are opened again. It begins with the run, and ends when no
        message is sent any more.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        clock: Callable[[], int],
        results: Results,
        places: int,
        last: int,
        opener: Opener,
    ) -> None:
        """
        @param clock: returns nanoseconds.
        @param places: the number of connections.
        @param last: the highest number of a connection that is not opened again. If the run
            is one part of several, it is more than C{places}.
        @param opener: asks for connections.
        """
        self.begun = False
        self.on = results.workload.reconnect
        self._clock = clock
        self._results = results
        self._size = places
        self._last = last
        self._opener = opener
        self._backoff = Backoff(reactor, clock, self._open, _POLICY)
        # The places whose connections were asked for, and have no number yet.
        self._asked: deque[int] = deque()
        # By the number of a connection: its place. The first ones have their own numbers.
        self._places: dict[int, int] = {}
        self._empty: set[int] = set()
        # The time in which places were empty, until when it was counted, and since when.
        self._emptyNs = self._countedAt = self._beganAt = 0

    @property
    def waiting(self) -> bool:
        """Whether a place waits for its next connection."""
        return self.on and bool(self._backoff or self._asked)

    def begin(self, now: int) -> None:
        """The sending begins, at C{now} nanoseconds."""
        self.begun = True
        self._countedAt = self._beganAt = now

    def stop(self) -> None:
        """The sending has ended: open no connection again."""
        if not self.on:
            return
        self.tell()
        self.on = False
        self._asked.clear()
        self._backoff.stop()
        self._opener.stop()

    def tell(self) -> None:
        """Note in the results which share of the time places were empty until now."""
        if not self.on or not self.begun:
            return
        now = self._clock()
        self._emptyNs += len(self._empty) * (now - self._countedAt)
        self._countedAt = now
        whole = self._size * (now - self._beganAt)
        self._results.missing = self._emptyNs / whole if whole else 0.0

    def numbered(self, number: int) -> None:
        """A connection is asked for: it has this number from now on."""
        # The first connections are asked for before any of the others.
        if number > self._last and self._asked:
            self._places[number] = self._asked.popleft()
            self._results.requested += 1
            self._results.reconnects += 1

    def up(self, number: int) -> bool:
        """
        A connection is up.

        @return: whether it is the first one in its place.
        """
        if self.on:
            self.tell()
            place = self._places.get(number, number)
            self._backoff.up(place)
            self._empty.discard(place)
        return number not in self._places

    def failed(self, number: int) -> None:
        """A connection has failed, or could not be opened."""
        if self.on:
            self.tell()
            place = self._places.get(number, number)
            self._backoff.failed(place)
            self._empty.add(place)

    def over(self, number: int) -> bool:
        """
        A connection is gone. If it has failed, another one takes its place.

        @return: whether it was the first one in its place.
        """
        place = self._places.pop(number, None)
        key = number if place is None else place
        if self.on and key in self._empty:
            self._backoff.again(key)
        return place is None

    def _open(self, place: int) -> None:
        self._asked.append(place)
        self._opener.askAnother()
