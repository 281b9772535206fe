"""
Which worker has room for another connection, and whose queues it serves.

All processes share a table with the state of each worker:

 - not yet: its sockets do not listen.
 - has room.
 - full: its share of the connection limit is used up, or C{accept} has found no free
   descriptor. C{accept} then leaves the connection in the queue. A worker whose process has
   ended is full, too.

A worker sets its own state, without a lock. The supervisor sets the state of a worker whose
process has ended. From the table follows what a worker does:

 - If it has room, it serves its own queue and those of the full workers.
 - If it is full and another worker has room, it accepts nothing.
 - If all are full, each serves all of these queues. That is, it refuses the connections, and
   counts them.

Before it refuses a connection, a worker reads the table. After a change, it sends C{look}, and
the supervisor passes that on, so that all workers follow the table.
"""

import mmap
import os
import tempfile
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from echofactory.express.sharedport import SharedPort

NOT_YET, HAS_ROOM, FULL = range(3)

_PAUSE = 0.01
"""Seconds. If connections come and go at the limit, a process sends C{look} at most 100 times
per second."""

_RETRY = 1.0
"""Seconds after which a full worker looks for room, if no close was told. Not only served
connections take descriptors."""


def newTable(workers: int) -> int:
    """
    Return the descriptor of a new table, in which no worker listens yet.

    @param workers: number of workers, 1 or more.
    """
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("rooms")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.truncate(descriptor, workers)
    return descriptor


class Looks:
    """Calls a function soon, at most once in a period of 10 ms."""

    def __init__(self, reactor: IReactorTime, look: Callable[[], object]) -> None:
        """
        @param reactor: the clock.
        @param look: the function.
        """
        self._reactor = reactor
        self._look = look
        self._next = 0.0
        self._call: IDelayedCall | None = None

    def ask(self) -> None:
        """Call the function soon."""
        if self._call is None:
            delay = max(0.0, self._next - self._reactor.seconds())
            self._call = self._reactor.callLater(delay, self._run)

    def cancel(self) -> None:
        """Do not call the function, unless it is asked for again."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _run(self) -> None:
        self._call = None
        self._next = self._reactor.seconds() + _PAUSE
        self._look()


class Room:
    """
    The room of this worker: the L{Gate<echofactory.express.sharedport.Gate>} of its ports.

    @ivar ports: the ports that the workers share.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        table: mmap.mmap,
        own: int,
        mayServe: Callable[[], bool],
        tell: Callable[[], object],
    ) -> None:
        """
        @param reactor: the clock.
        @param table: a byte for each worker.
        @param own: index of this worker.
        @param mayServe: returns whether the limits allow another connection.
        @param tell: sends C{look} to the supervisor.
        """
        self.ports: list[SharedPort] = []
        self._reactor = reactor
        self._table = table
        self._own = own
        self._mayServe = mayServe
        self._looks = Looks(reactor, tell)
        self._retry: IDelayedCall | None = None

    def begin(self) -> None:
        """Called when the ports listen."""
        self._set(HAS_ROOM)

    def mayAccept(self) -> bool:
        """See L{Gate<echofactory.express.sharedport.Gate>}."""
        if self._table[self._own] == FULL and self._anyRoom():
            self.look()
            return False
        return True

    def filled(self) -> None:
        """See L{Gate<echofactory.express.sharedport.Gate>}."""
        if self._table[self._own] != FULL:
            self._retry = self._reactor.callLater(_RETRY, self._lookForRoom)
            self._set(FULL)

    def freed(self) -> None:
        """See L{Gate<echofactory.express.sharedport.Gate>}."""
        if self._retry is not None and self._mayServe():
            self._retry.cancel()
            self._retry = None
            self._set(HAS_ROOM)

    def look(self) -> None:
        """Follow the table."""
        if self._table[self._own] == FULL and self._anyRoom():
            queues = set()
        else:
            full = {index for index, state in enumerate(self._table[:]) if state == FULL}
            queues = {self._own} | full
        for port in self.ports:
            port.serve(queues)

    def end(self) -> None:
        """Follow the table no longer."""
        self._looks.cancel()
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def _anyRoom(self) -> bool:
        return HAS_ROOM in self._table[:]

    def _set(self, state: int) -> None:
        self._table[self._own] = state
        self.look()
        self._looks.ask()

    def _lookForRoom(self) -> None:
        self._retry = self._reactor.callLater(_RETRY, self._lookForRoom)
        if _descriptorLeft():
            self.freed()


def _descriptorLeft() -> bool:
    """Return whether the process can open another descriptor."""
    try:
        os.close(os.dup(0))
    except OSError:
        return False
    return True
