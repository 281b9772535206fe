"""
An echo that misbehaves on purpose, to see what its peers make of it.
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
from echofactory.server.faults.settings import MOST_HELD, Fate, Faults
from echofactory.server.idle import unsent
from echofactory.server.settings import Limits
from echofactory.values.checks import checkType, checkWhole

_log = Logger()

LINGER = 5.0
"""Seconds in which a peer has to read some of what it is still owed, or to close, once
a connection is cut off in order."""


class FaultyEcho(Echo):
    """
    Sends back what its faults leave of the bytes that come in, when they let it.

    @ivar bytesOut: handed to the transport.
    """

    factory: "FaultyEchoFactory"
    bytesOut = 0

    def __init__(self, fate: Fate) -> None:
        self._fate = fate
        self._damage = fate.damage
        self._held = fate.held
        # What is to go on, or to give up on a peer that lingers.
        self._call: IDelayedCall | None = None
        # Whether the transport takes no more, and whether so much is held that the
        # peer is not read from.
        self._paused = False
        self._full = False
        self._closing = False

    def dataReceived(self, data: bytes) -> None:
        self.chunks += 1
        self.bytesIn += len(data)
        if self.cut or self._damage.over:
            return
        if self._fate.reset:
            self._reset()
            return
        self._held.put(data, self.factory.elapsed())
        if self._call is None:
            self._begin()
        self._readOrWait()

    def _reset(self) -> None:
        self.cut = "aborted"
        # TLS would first send an alert, as if all were in order.
        lowestTransport(self.transport).abortConnection()

    def _begin(self) -> None:
        """Nothing is under way: see to what may go now."""
        if self._fate.dribbles:
            # What is written where the reactor reads or writes has not gone out when it
            # makes its next calls; what is written in one of these has.
            self._call = self.factory.reactor.callLater(0, self._flow)
        else:
            self._flow()

    def _flow(self) -> None:
        """Send what may go now, and see to the rest when that may."""
        self._call = None
        while not self._paused and (piece := self._held.take(self.factory.elapsed())):
            self.send(piece)
            if self._fate.pauses:
                break
        self._readOrWait()
        if not self._held.cost:
            if self.ended or self._damage.over:
                self._close()
        elif not self._paused:
            now = self.factory.elapsed()
            wait = max(0.0, self._held.nextAt(now) - now)
            self._call = self.factory.reactor.callLater(wait, self._flow)

    def send(self, data: bytes) -> None:
        """Hand something to the transport."""
        self.bytesOut += len(data)
        self.transport.write(data)

    def _readOrWait(self) -> None:
        full = self._held.cost > MOST_HELD
        if full != self._full:
            self._full = full
            if full:
                self.transport.pauseProducing()
            else:
                self.transport.resumeProducing()

    # The transport pauses what is sent. What is read waits for what is held.

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._call is None and not (self.cut or self._closing):
            self._begin()
        releaseClosing(self.transport)

    def readConnectionLost(self) -> None:
        self.ended = True
        if self._closing:
            super().readConnectionLost()
        elif self._call is None:
            self._begin()

    def _close(self) -> None:
        """All that is owed is sent."""
        self._closing = True
        if self.ended:
            super().readConnectionLost()
            return
        self.transport.unregisterProducer()
        if INegotiated.providedBy(self.transport):
            # TLS says that it is done, and reads on until the peer does.
            self.transport.loseConnection()
        else:
            # Closing with something unread would be a reset, which may overtake
            # what was sent.
            self.transport.loseWriteConnection()
        self._linger()

    def _linger(self, before: tuple[int, int] | None = None) -> None:
        """Wait for the peer to close, unless it has read nothing since C{before}."""
        now = unsent(self)
        if now == before:
            self.abort()
        else:
            self._call = self.factory.reactor.callLater(LINGER, self._linger, now)

    def writeConnectionLost(self) -> None:
        """What is left is to read to the end."""

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
    """A L{FaultyEcho} that tells of every byte as it goes out."""

    def send(self, data: bytes) -> None:
        traceEchoing(self, data)
        super().send(data)


class FaultyEchoFactory(EchoFactory):
    """
    Makes a L{FaultyEcho} of each connection.

    With the same faults and seed, the same happens to the first connection that
    is not over a limit, and to the same bytes of it; so with the second, and all
    that follow.

    @ivar reactor: what the connections wait by.
    @ivar faults: what they do.
    @ivar seed: what their chances come from.
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
        @param seed: from 0 to 10**18; C{None}: a random one, which is told in the log.
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
        """Tell what goes wrong, and how to have it again."""
        _log.info(
            "misbehaving on purpose: --fault {faults} --fault-seed {seed}",
            faults=str(self.faults),
            seed=self.seed,
        )

    def elapsed(self) -> float:
        """Return how long it has been there, in seconds."""
        return self.reactor.seconds() - self._madeAt

    def newEcho(self) -> FaultyEcho | None:
        """See L{EchoFactory.newEcho}."""
        self._number += 1
        fate = Fate(self.faults, self.seed, self._number)
        return None if fate.refused else self.protocol(fate)
