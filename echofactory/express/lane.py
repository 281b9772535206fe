"""
The lane (L{echofactory.express.reactor}): an epoll instance with the descriptors that it
watches. A reactor watches the epoll instance as one of its descriptors.
"""

import select
from collections import deque
from contextlib import suppress
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHalfCloseableDescriptor, IReactorFDSet, IReadDescriptor
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.express.openssl import ReadBuffer
from echofactory.express.transports import DONE, LOST

_log = Logger()

EVENTS_PER_PASS = 256
"""Descriptors that one pass serves. After a pass, the reactor serves its timers and its own
descriptors."""

# The flags of epoll, as numbers: select does not have them on every system.
IN = 0x001
OUT = 0x004
_GONE = 0x008 | 0x010  # EPOLLERR, EPOLLHUP

_USUAL: dict[type[BaseException], Failure] = {ConnectionDone: DONE, ConnectionLost: LOST}


@implementer(IReadDescriptor)
class Lane:
    """
    Watches descriptors, and calls those that are ready directly.

    While the lane watches no descriptor, it has no epoll instance, and the reactor behind
    does not watch the lane.

    @ivar readBuffer: for TLS.
    """

    # No __getattr__ here: it would slow down every access to an attribute.

    def __init__(self, reactor: IReactorFDSet) -> None:
        """
        @param reactor: the reactor behind, which runs.
        """
        self._reactor = reactor
        self._poller: Any = None
        # By descriptor: the watched object, and its interest.
        self._watched: list[Any] = []
        self._interests = bytearray()
        self._count = 0
        # For each pass under way, the descriptors that were removed in it. There may be
        # several passes, because a protocol can call reactor.iterate. An event for a removed
        # descriptor may belong to an earlier connection with the same number.
        self._passes: list[set[int]] = []
        self._closing: deque[Any] = deque()
        self.readBuffer = ReadBuffer()

    def fileno(self) -> int:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        return -1 if self._poller is None else int(self._poller.fileno())

    def logPrefix(self) -> str:
        """See L{ILoggingContext<twisted.internet.interfaces.ILoggingContext>}."""
        return "express"

    def doRead(self) -> None:
        """Serve up to L{EVENTS_PER_PASS} descriptors that are ready."""
        watched = self._watched
        ready = self._poller.poll(0, EVENTS_PER_PASS)
        removed: set[int] = set()
        self._passes.append(removed)
        for descriptor, event in ready:
            if removed and descriptor in removed:
                continue
            selectable = watched[descriptor]
            if selectable is None:
                continue
            why: BaseException | None = None
            reading = False
            try:
                if event & IN:
                    why = selectable.doRead()
                    reading = True
                elif event & _GONE:
                    # As in Twisted's reactors: a reader without data is done.
                    reading = bool(self._interests[descriptor] & IN)
                    why = CONNECTION_DONE if reading else CONNECTION_LOST
                if event & OUT and not why and descriptor not in removed:
                    reading = False
                    why = selectable.doWrite()
            except BaseException as error:
                _log.failure("while serving {selectable!r}", selectable=selectable)
                why = error
            if why:
                self._disconnect(selectable, why, reading)
        self._passes.pop()
        while self._closing:
            closing = self._closing.popleft()
            self._tell(closing, "closeNow")

    def closeAfterwards(self, connection: Any) -> bool:
        """
        Call the connection's C{closeNow} at the end of the pass.

        @return: C{False} if no pass is under way. C{closeNow} is then not called.
        """
        if self._passes:
            self._closing.append(connection)
        return bool(self._passes)

    def _disconnect(self, selectable: Any, why: BaseException, reading: bool) -> None:
        half = (
            reading
            and isinstance(why, ConnectionDone)
            and IHalfCloseableDescriptor.providedBy(selectable)
        )
        try:
            self.remove(selectable, IN if half else IN | OUT)
        except BaseException:
            # Other code has closed the descriptor, so that it can no longer be removed.
            _log.failure("while disconnecting {selectable!r}", selectable=selectable)
            self._dropWhole(selectable)
            half = False
        lost = "readConnectionLost" if half else "connectionLost"
        self._tell(selectable, lost, _USUAL.get(type(why)) or Failure(why))

    def _tell(self, selectable: Any, method: str, *arguments: Failure) -> None:
        # An exception from here would make the reactor behind drop the lane.
        try:
            getattr(selectable, method)(*arguments)
        except BaseException:
            _log.failure("while disconnecting {selectable!r}", selectable=selectable)

    def connectionLost(self, reason: Failure) -> None:
        """The reactor behind has stopped. Every connection of the lane is lost."""
        for selectable in self.forget():
            self._tell(selectable, "connectionLost", reason)

    def add(self, selectable: Any, interest: int) -> None:
        """
        Watch a descriptor for an interest, in addition to those that it has.

        @param interest: L{IN} or L{OUT}.
        """
        descriptor = selectable.fileno()
        known = self._interests[descriptor] if 0 <= descriptor < len(self._interests) else 0
        if not known:
            self._watch(selectable, descriptor, interest)
        elif not known & interest:
            self._poller.modify(descriptor, known | interest)
            self._interests[descriptor] = known | interest

    def _watch(self, selectable: Any, descriptor: int, interest: int) -> None:
        if self._poller is None:
            self._poller = select.epoll()
        # Each time, because other code may have called removeAll of the reactor.
        self._reactor.addReader(self)
        try:
            self._poller.register(descriptor, interest)
        except (OSError, ValueError):
            # epoll cannot watch a file or a closed descriptor.
            self._restIfIdle()
            raise
        while len(self._interests) <= descriptor:
            self._interests.append(0)
            self._watched.append(None)
        self._watched[descriptor] = selectable
        self._interests[descriptor] = interest
        self._count += 1

    def remove(self, selectable: Any, interest: int) -> None:
        """
        Stop watching a descriptor for an interest.

        @param interest: L{IN}, L{OUT} or both.
        """
        descriptor = selectable.fileno()
        watched = self._watched
        if descriptor < 0:
            self._dropWhole(selectable)
        elif descriptor < len(watched) and watched[descriptor] is selectable:
            known = self._interests[descriptor]
            left = known & ~interest
            if not left:
                self._drop(descriptor)
            elif left != known:
                self._poller.modify(descriptor, left)
                self._interests[descriptor] = left

    def _dropWhole(self, selectable: Any) -> None:
        """Remove an object that no longer knows its descriptor."""
        for descriptor, watched in enumerate(self._watched):
            if watched is selectable:
                self._drop(descriptor)

    def _drop(self, descriptor: int) -> None:
        self._watched[descriptor] = None
        self._interests[descriptor] = 0
        self._count -= 1
        for removed in self._passes:
            removed.add(descriptor)
        # If other code has closed the descriptor, epoll has dropped it already.
        with suppress(OSError):
            self._poller.unregister(descriptor)
        self._restIfIdle()

    def _restIfIdle(self) -> None:
        if not self._count and self._poller is not None:
            self._reactor.removeReader(self)
            self._poller.close()
            self._poller = None

    def forget(self) -> list[Any]:
        """Stop watching all descriptors, and return the watched objects."""
        watched = self.having(IN | OUT)
        for descriptor, interest in enumerate(self._interests):
            if interest:
                self._drop(descriptor)
        return watched

    def having(self, interest: int) -> list[Any]:
        """Return the objects that are watched for any of C{interest}."""
        return [
            selectable
            for selectable, watched in zip(self._watched, self._interests, strict=True)
            if watched & interest
        ]
