"""
Which connections of the status port are open, and how others get in while strangers
hold all the places.

 - At most C{most} connections are open. If all places are taken, a new connection
   displaces the connection that has waited longest for its peer.
 - A connection is displaced only after it has waited for L{GRACE_S}, so that a request
   or an answer that is on its way arrives.
 - L{RESERVED} descriptors are kept for the connections. They are accepted while the rest
   of the process has used up all others.
 - At most L{ACCEPTS_PER_PASS} connections are accepted in a pass of the reactor.
 - If the port stops, all connections that the kernel has accepted are let in at once. If they
   stayed in the kernel, it would reset them.

What it relies on of Twisted's ports, besides their interfaces: C{Port.socket} is the socket
that the port accepts connections from, and closes in the end.
"""

import socket
from collections.abc import Callable, Iterator
from errno import EAGAIN
from time import perf_counter
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.tcp import Port

from echofactory.net.descriptors import SpareDescriptors

GRACE_S = 0.025
"""Seconds. With 100 places, up to 4,000 connections a second can displace others."""

RESERVED = 32
"""Descriptors."""

ACCEPTS_PER_PASS = 4
"""Connections. Each costs about 0.1 ms, and 1 ms over TLS."""

_REST_S = 0.001
"""Seconds from when there is no place until the next look for one."""


class Guest(Protocol):
    """An open connection, as far as its place is concerned."""

    def cut(self) -> None:
        """Close the connection without waiting for the peer."""


GuestT = TypeVar("GuestT", bound=Guest)


class Places(Generic[GuestT]):
    """
    The places for connections. Each connection either waits for its peer, which is to send
    a request or to take an answer, or is served.
    """

    def __init__(self, most: int, clock: Callable[[], float] = perf_counter) -> None:
        """
        @param most: number of places.
        @param clock: in seconds, and does not jump.
        """
        self.spares = SpareDescriptors(RESERVED)
        self._most = most
        self._clock = clock
        self._served: set[GuestT] = set()
        # Since when each waits for its peer. The one that waits longest stands first.
        self._waiting: dict[GuestT, float] = {}

    def __len__(self) -> int:
        return len(self._served) + len(self._waiting)

    def __iter__(self) -> Iterator[GuestT]:
        return iter([*self._served, *self._waiting])

    def wait(self, guest: GuestT) -> None:
        """A connection has been accepted, or answered. From now on it waits for its peer."""
        self._served.discard(guest)
        self._waiting[guest] = self._clock()

    def serve(self, guest: GuestT) -> None:
        """A connection has a request. It is not displaced until the request is answered."""
        self._waiting.pop(guest, None)
        self._served.add(guest)

    def leave(self, guest: GuestT) -> None:
        """A connection is closed. Call this before anybody can take its descriptor."""
        self._served.discard(guest)
        self._waiting.pop(guest, None)
        self.spares.fill()

    def makeRoom(self) -> bool:
        """
        Displace a connection, if all places are taken.

        @return: whether there is a free place.
        """
        return len(self) < self._most or self._displace()

    def _displace(self) -> bool:
        guest = next(self._displaceable(), None)
        if guest is None:
            return False
        del self._waiting[guest]
        guest.cut()
        return True

    def _displaceable(self) -> Iterator[GuestT]:
        latest = self._clock() - GRACE_S
        return (guest for guest, since in self._waiting.items() if since <= latest)

    def admits(self) -> bool:
        """
        Tell whether a connection can be accepted now. If only descriptors are missing,
        connections are displaced; others can be accepted once those are closed.
        """
        self.spares.fill()
        if len(self) >= self._most and next(self._displaceable(), None) is None:
            return False
        if not self.spares:
            # The kernel does not say how many connections are to be accepted.
            for _ in range(ACCEPTS_PER_PASS):
                self._displace()
        return bool(self.spares)


class Entrance:
    """
    Stands in for the listening socket of a port, and lets in as many connections as the
    places admit. The others wait in the kernel.
    """

    def __init__(self, port: Port, places: Places[Any]) -> None:
        """
        @param port: listens.
        """
        self._port = port
        self._places = places
        self._socket = port.socket
        # Twisted's type of it has no timers.
        self._reactor: Any = port.reactor
        self._accepted = 0
        self._resting: IDelayedCall | None = None
        places.spares.hold()
        port.socket = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> tuple[socket.socket, Any]:
        """
        See C{socket.accept}.

        @raise BlockingIOError: if none waits, or none is to be accepted now.
        """
        if self._port.disconnecting:
            return self._accept()
        if self._accepted == ACCEPTS_PER_PASS:
            self._rest(0.0)
        elif not self._places.admits():
            self._rest(_REST_S)
        else:
            accepted = self._accept()
            self._accepted += 1
            return accepted
        raise BlockingIOError(EAGAIN, "no more for now")

    def _accept(self) -> tuple[socket.socket, Any]:
        # It may be the only descriptor that the process can have.
        self._places.spares.give(1)
        try:
            return self._socket.accept()
        finally:
            self._places.spares.fill()

    def _rest(self, seconds: float) -> None:
        if self._resting is None:
            self._port.stopReading()
            self._resting = self._reactor.callLater(seconds, self._goOn)

    def _goOn(self) -> None:
        self._resting = None
        self._accepted = 0
        if not self._port.disconnecting:
            self._port.startReading()

    def close(self) -> None:
        """See C{socket.close}."""
        if self._resting is not None:
            self._resting.cancel()
        self._places.spares.release()
        self._socket.close()
