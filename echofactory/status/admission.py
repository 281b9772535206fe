"""
Admission of connections to the status port, so that a few peers cannot block it.

 - The number of open connections is limited. If all slots are taken, a new connection
   displaces the connection that has waited longest for its peer.
 - A connection is displaced only after it has waited for L{GRACE_S}, so that a request or a
   response that is on its way arrives.
 - L{RESERVED_DESCRIPTORS} file descriptors are kept for the connections. With these, the port
   accepts connections even if the process has used up all others.
 - At most L{ACCEPTS_PER_PASS} connections are accepted in one pass of the reactor.
 - If the port stops, all connections that the kernel has accepted are admitted. The kernel
   would reset them otherwise.

One undocumented part of Twisted's ports is used: C{Port.socket} is the socket that the port
accepts connections from and finally closes.
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
"""Seconds that a connection waits before it can be displaced. With 100 slots, up to 4,000
connections per second can displace others."""

RESERVED_DESCRIPTORS = 32
"""File descriptors that are kept for the connections."""

ACCEPTS_PER_PASS = 4
"""Maximum number of connections accepted in one pass of the reactor. One takes about 0.1 ms,
or 1 ms over TLS."""

_PAUSE_S = 0.001
"""Seconds between two checks for a free slot, while there is none."""


class SlotHolder(Protocol):
    """What L{ConnectionSlots} needs of a connection."""

    def abort(self) -> None:
        """Close the connection without waiting for the peer."""


HolderT = TypeVar("HolderT", bound=SlotHolder)


class ConnectionSlots(Generic[HolderT]):
    """
    The slots of the open connections. A connection waits for its peer (to send a request, or
    to read the response), or is served.

    @ivar spares: the reserved file descriptors.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = perf_counter) -> None:
        """
        @param limit: number of slots.
        @param clock: returns monotonic seconds.
        """
        self.spares = SpareDescriptors(RESERVED_DESCRIPTORS)
        self._limit = limit
        self._clock = clock
        self._served: set[HolderT] = set()
        # Since when each connection waits for its peer. The longest wait stands first.
        self._waiting: dict[HolderT, float] = {}

    def __len__(self) -> int:
        return len(self._served) + len(self._waiting)

    def __iter__(self) -> Iterator[HolderT]:
        return iter([*self._served, *self._waiting])

    def wait(self, holder: HolderT) -> None:
        """Called when a connection is accepted, or answered: it waits for its peer."""
        self._served.discard(holder)
        self._waiting[holder] = self._clock()

    def serve(self, holder: HolderT) -> None:
        """
        Called when a connection has a request. The connection is not displaced until the
        request is answered.
        """
        self._waiting.pop(holder, None)
        self._served.add(holder)

    def release(self, holder: HolderT) -> None:
        """
        Called when a connection is closed. This must be called before other code can take
        the connection's descriptor.
        """
        self._served.discard(holder)
        self._waiting.pop(holder, None)
        self.spares.fill()

    def makeRoom(self) -> bool:
        """
        If all slots are taken, displace a connection.

        @return: whether there is a free slot.
        """
        return len(self) < self._limit or self._displace()

    def _displace(self) -> bool:
        holder = next(self._displaceable(), None)
        if holder is None:
            return False
        del self._waiting[holder]
        holder.abort()
        return True

    def _displaceable(self) -> Iterator[HolderT]:
        latest = self._clock() - GRACE_S
        return (holder for holder, since in self._waiting.items() if since <= latest)

    def canAccept(self) -> bool:
        """
        Return whether a connection can be accepted now. If only descriptors are missing,
        connections are displaced. When they are closed, others can be accepted.
        """
        self.spares.fill()
        if len(self) >= self._limit and next(self._displaceable(), None) is None:
            return False
        if not self.spares:
            # The kernel does not report how many connections wait.
            for _ in range(ACCEPTS_PER_PASS):
                self._displace()
        return bool(self.spares)


class AdmittingSocket:
    """
    Replaces the listening socket of a port. C{accept} returns a connection only if the slots
    admit it. Other connections wait in the kernel.
    """

    def __init__(self, port: Port, slots: ConnectionSlots[Any]) -> None:
        """
        @param port: a port that listens.
        @param slots: the slots of its connections.
        """
        self._port = port
        self._slots = slots
        self._socket = port.socket
        # Twisted's type of C{port.reactor} has no timers.
        self._reactor: Any = port.reactor
        self._accepted = 0
        self._pausing: IDelayedCall | None = None
        slots.spares.hold()
        port.socket = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def accept(self) -> tuple[socket.socket, Any]:
        """
        See C{socket.accept}.

        @raise BlockingIOError: if no connection waits, or none can be accepted now.
        """
        if self._port.disconnecting:
            return self._accept()
        if self._accepted == ACCEPTS_PER_PASS:
            self._pause(0.0)
        elif not self._slots.canAccept():
            self._pause(_PAUSE_S)
        else:
            accepted = self._accept()
            self._accepted += 1
            return accepted
        raise BlockingIOError(EAGAIN, "no connection can be accepted now")

    def _accept(self) -> tuple[socket.socket, Any]:
        # The process may have no other descriptor left.
        self._slots.spares.give(1)
        try:
            return self._socket.accept()
        finally:
            self._slots.spares.fill()

    def _pause(self, seconds: float) -> None:
        if self._pausing is None:
            self._port.stopReading()
            self._pausing = self._reactor.callLater(seconds, self._resume)

    def _resume(self) -> None:
        self._pausing = None
        self._accepted = 0
        if not self._port.disconnecting:
            self._port.startReading()

    def close(self) -> None:
        """See C{socket.close}."""
        if self._pausing is not None:
            self._pausing.cancel()
        self._slots.spares.release()
        self._socket.close()
