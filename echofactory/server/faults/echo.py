"""
An echo that misbehaves on purpose, to test other clients.
"""

from random import SystemRandom

from twisted.internet.interfaces import IDelayedCall, INegotiated, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.net.tracing import Trace
from echofactory.net.transport import lowestTransport, releaseClosing
from echofactory.server.echo import Echo
from echofactory.server.factory import EchoFactory, traceEchoing
from echofactory.server.faults.settings import MAX_QUEUED, ConnectionFaults, Faults
from echofactory.server.idle import queuedBytes, unsent
from echofactory.server.settings import Limits
from echofactory.values.checks import checkType, checkWhole

_log = Logger()

LINGER_TIMEOUT = 5.0
"""Seconds. After a connection is truncated, a peer that neither reads nor closes for this
long is disconnected."""

_SHORTEST_S = 0.01
_LONGEST_S = 0.5
"""Seconds until the next look whether the kernel has taken a piece. Each time, they double."""


class FaultyEcho(Echo):
    """
    Sends back the bytes that its faults leave, at the times that its faults set.

    The states of a connection, and the attributes that make them up:

     - waiting (C{_call} is set): bytes are in the queue, and a timer runs until the next
       piece may go. The timer leads to sending; with C{dribble}, it stays waiting while the
       transport has not sent the last piece.
     - sending (C{_flow} runs): an empty queue leads to idle, or to closing if the stream is
       at its end. A full transport leads to paused. Any other rest leads to waiting.
     - idle (no C{_call}, empty queue): bytes from the peer lead to sending, its end to
       closing.
     - paused (C{_paused}): the transport takes no more. C{resumeProducing} leads to sending.
     - closing (C{_closing}): the stream is at its end: the peer has ended it, or it is
       truncated. If it is truncated, C{_call} is the timer of L{LINGER_TIMEOUT}.
     - aborted (C{abortReason}): by a fault, or by the factory. There is no timer.

    In any state, C{_full} means that the queue is over L{MAX_QUEUED} bytes and that the peer
    is not read from; C{ended} means that the peer has ended its stream.

    @ivar bytesOut: number of bytes handed to the transport.
    """

    factory: "FaultyEchoFactory"
    bytesOut = 0

    def __init__(self, faults: ConnectionFaults) -> None:
        self._faults = faults
        self._damage = faults.damage
        self._queue = faults.queue
        self._call: IDelayedCall | None = None
        self._paused = False
        self._full = False
        self._closing = False
        self._lookS = _SHORTEST_S

    def dataReceived(self, data: bytes) -> None:
        self.chunks += 1
        self.bytesIn += len(data)
        if self.abortReason or self._damage.truncated:
            return
        if self._faults.reset:
            self._reset()
            return
        self._queue.put(data, self.factory.elapsed())
        if self._call is None:
            self._begin()
        self._readOrWait()

    def _reset(self) -> None:
        self.abortReason = "aborted"
        # TLS would first send an alert, as in an orderly close.
        lowestTransport(self.transport).abortConnection()

    def _begin(self) -> None:
        """Start to send. There must be no C{_call}."""
        if self._faults.dribbles:
            # A write in a delayed call is sent before the reactor's next delayed calls. A
            # write while the reactor reads or writes is not.
            self._call = self.factory.reactor.callLater(0, self._flow)
        else:
            self._flow()

    def _flow(self) -> None:
        """Send what may go now, and start a timer for the rest."""
        if self._faults.dribbles and self._queue.size and queuedBytes(self):
            # Two pieces in the transport would be one write. A reactor on uvloop can also call
            # this twice before it sends.
            self._call = self.factory.reactor.callLater(self._lookS, self._flow)
            self._lookS = min(2 * self._lookS, _LONGEST_S)
            return
        self._lookS = _SHORTEST_S
        self._call = None
        while not self._paused and (piece := self._queue.take(self.factory.elapsed())):
            self.send(piece)
            if self._faults.pauses:
                break
        self._readOrWait()
        if not self._queue.size:
            if self.ended or self._damage.truncated:
                self._close()
        elif not self._paused:
            now = self.factory.elapsed()
            wait = max(0.0, self._queue.nextAt(now) - now)
            self._call = self.factory.reactor.callLater(wait, self._flow)

    def send(self, data: bytes) -> None:
        """Hand bytes to the transport."""
        self.bytesOut += len(data)
        self.transport.write(data)

    def _readOrWait(self) -> None:
        full = self._queue.size > MAX_QUEUED
        if full != self._full:
            self._full = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # The transport pauses the sending. C{_readOrWait} pauses the reading.

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._call is None and not (self.abortReason or self._closing):
            self._begin()
        releaseClosing(self.transport)

    def readConnectionLost(self) -> None:
        self.ended = True
        if self._closing:
            super().readConnectionLost()
        elif self._call is None:
            self._begin()

    def _close(self) -> None:
        """Close the connection. Everything has been sent."""
        self._closing = True
        if self.ended:
            super().readConnectionLost()
            return
        self.transport.unregisterProducer()
        if INegotiated.providedBy(self.transport):
            # TLS sends its closing alert, and reads until the peer sends one.
            self.transport.loseConnection()
        else:
            # If bytes of the peer are unread, a close would be a reset, and the reset can
            # overtake the bytes that were sent.
            self.transport.loseWriteConnection()
        self._linger()

    def _linger(self, before: tuple[int, int] | None = None) -> None:
        """
        Wait for the peer to close. If it has read nothing since the call before, disconnect.

        @param before: the L{unsent} bytes of the call before.
        """
        now = unsent(self)
        if now == before:
            self.abort()
        else:
            self._call = self.factory.reactor.callLater(LINGER_TIMEOUT, self._linger, now)

    def writeConnectionLost(self) -> None:
        """Called after a half-close by this side. The peer's end is still to come."""

    def abort(self, why: str = "aborted") -> None:
        self._cancel()
        super().abort(why)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._cancel()
        super().connectionLost(reason)

    def _cancel(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None


class TracedFaultyEcho(FaultyEcho):
    """A L{FaultyEcho} that logs every byte that it sends."""

    def send(self, data: bytes) -> None:
        traceEchoing(self, data)
        super().send(data)


class FaultyEchoFactory(EchoFactory):
    """
    Serves each connection with a L{FaultyEcho}.

    The same faults and seed reproduce the same faults, on the same bytes: for the first
    connection within the limits, for the second, and so on.

    @ivar reactor: the clock of the connections.
    @ivar faults: the faults of every connection.
    @ivar seed: the seed of all random choices.
    """

    protocol: type[FaultyEcho] = FaultyEcho

    def __init__(
        self,
        reactor: IReactorTime,
        faults: Faults,
        seed: int | None = None,
        limits: Limits | None = None,
        trace: Trace = Trace.NONE,
    ) -> None:
        """
        @param reactor: the clock of the connections.
        @param faults: the faults of every connection.
        @param seed: from 0 to 10**18. C{None}: a random seed, which is logged.
        @param limits: the limits on connections. C{None}: the defaults of L{Limits}.
        @param trace: what is logged of each connection. Default: nothing.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if C{seed} is out of its range.
        """
        checkType("faults", faults, Faults)
        if seed is not None:
            checkWhole("seed", seed, 0)
        super().__init__(limits, trace, reactor)
        if trace >= Trace.DATA:
            self.protocol = TracedFaultyEcho
        self.reactor = reactor
        self.faults = faults
        self.seed = SystemRandom().getrandbits(32) if seed is None else seed
        self._madeAt = reactor.seconds()
        self._number = 0

    def startFactory(self) -> None:
        """Log the faults and the seed, so that they can be reproduced."""
        _log.info(
            "misbehaving on purpose: --fault {faults} --fault-seed {seed}",
            faults=str(self.faults),
            seed=self.seed,
        )

    def elapsed(self) -> float:
        """Return the seconds since the factory was made."""
        return self.reactor.seconds() - self._madeAt

    def newEcho(self) -> FaultyEcho | None:
        """See L{EchoFactory.newEcho}."""
        self._number += 1
        faults = ConnectionFaults(self.faults, self.seed, self._number)
        return None if faults.refused else self.protocol(faults)
