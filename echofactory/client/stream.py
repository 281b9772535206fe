"""
One connection of the client: it sends its script and checks what comes back.
"""

from collections import deque

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IHandshakeListener,
    INegotiated,
    IPushProducer,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.client.connection import Connection, Run
from echofactory.client.failures import classify
from echofactory.net.keepalive import keepAlive
from echofactory.net.tracing import reasonText
from echofactory.net.transport import IEchoTransport, releaseClosing, turnOffNagle
from echofactory.results.failures import FailureKind
from echofactory.values.quantities import counted
from echofactory.workload.script import BLOCK_SIZE
from echofactory.workload.verifier import EchoMismatch, StreamFault, StreamVerifier


@implementer(IHalfCloseableProtocol, IHandshakeListener, IPushProducer)
class EchoClient(Connection, Protocol):
    """
    Sends one connection's share of a workload, as fast as the window and the
    transport take it, and compares every byte that comes back.

    @ivar progressAt: when it last got on: was connected, received something,
        or was settled.
    """

    transport: IEchoTransport

    def __init__(self, factory: Run, number: int) -> None:
        super().__init__(factory, number)
        self._verifier = StreamVerifier(self._script)
        self._allOut = False
        self._halfClose = factory.workload.halfClose
        # Of each message that is out: when it was sent, and when it was due.
        self._out: deque[tuple[int, int]] = deque()
        self._paused = False
        self.progressAt = self.askedAt
        # Whether the factory looks at it now and then.
        self._awaited = True

    def connectionMade(self) -> None:
        turnOffNagle(self.transport)
        keepAlive(self.transport, self.factory.patience.keepAlive)
        if not INegotiated.providedBy(self.transport):
            self._takeOver()
            self._begin()
        elif self._halfClose:
            self._fail(FailureKind.TLS, "TLS has no half-close")

    def handshakeCompleted(self) -> None:
        self._begin()

    def _takeOver(self) -> None:
        """
        Have the transport talk to this protocol directly, not through the
        wrapper that Twisted's endpoints put between. The wrapper announces only
        the last of the optional interfaces it forwards (it calls
        C{directlyProvides} for each in turn), so that here, with
        L{IHandshakeListener}, half-close would be lost; and it costs a call for
        every chunk of data.
        """
        # A wrapper of any other kind stays.
        wrapper = getattr(self.transport, "protocol", None)
        if getattr(wrapper, "_wrappedProtocol", None) is self:
            self.transport.protocol = self

    def _begin(self) -> None:
        self.established = True
        self.progressAt = self._clock()
        self.transport.registerProducer(self, True)
        self.factory.connectionUp(self, self.progressAt - self.askedAt)
        self._send()

    def _send(self) -> None:
        """Send what the window and the transport have room for."""
        while self._next < self._end and not self._paused:
            room = self._window - len(self._out)
            if room == 1 and self._script.whole:
                # The usual case: the one that a round trip's price is of.
                self._write(self._take(), 1)
                break
            batch, started = self._gather(room)
            if not batch:
                break
            self._write(b"".join(batch), started)
        if self._final and self._next == self._end:
            self._everythingIsOut()

    def _everythingIsOut(self) -> None:
        if not self._allOut:
            self._allOut = True
            self.transport.unregisterProducer()
            if self._halfClose:
                # The end of the stream is waited for.
                self._await(self._clock())
                self.transport.loseWriteConnection()
        if not self._out and not self._halfClose:
            self._complete()

    def _gather(self, room: int) -> tuple[list[bytes], int]:
        """
        Return blocks that can go out together, and how many messages begin in
        them: no more than C{room}.
        """
        batch: list[bytes] = []
        size = started = 0
        while self._next < self._end and size < BLOCK_SIZE:
            if self._script.begins(self._next):
                if started == room:
                    break
                started += 1
            batch.append(self._take())
            size += len(batch[-1])
        return batch, started

    def _take(self) -> bytes:
        """Return the next block of the script, which will go out."""
        block = self._script.block(self._next)
        self._next += 1
        self._verifier.sent(block)
        if self._tracing:
            self.factory.traceSending(self.number, block)
        return block

    def _write(self, data: bytes, started: int) -> None:
        """
        @param started: messages that begin in C{data}.
        """
        self._results.sent += started
        self._results.bytesSent += len(data)
        now = self._clock()
        if not self._out:
            # Nobody waited for anything until now.
            self.progressAt = now
            if not self._awaited:
                self._await(now)
        if started:
            self._results.lastSentAt = now
            for _ in range(started):
                self._out.append((now, self._dueAt.popleft() if self._scheduled else now))
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        if self.settled:
            return
        now = self.progressAt = self._clock()
        self._results.bytesReceived += len(data)
        if self._tracing:
            self.factory.traceReceived(self.number, data)
        try:
            completed = self._verifier.feed(data)
        except StreamFault as fault:
            self._verified(fault.completed, now)
            if isinstance(fault, EchoMismatch):
                self._out.popleft()
                self._results.mismatched += 1
            self._fail(fault.kind, str(fault))
            return
        self._verified(completed, now)
        if self._next < self._end:
            self._send()
        elif self._final:
            self._everythingIsOut()

    def _verified(self, completed: int, now: int) -> None:
        for _ in range(completed):
            sentAt, dueAt = self._out.popleft()
            # Counted from the scheduled time, or a stalled server would look fast.
            self._recordResponse(now - dueAt)
            if self._scheduled:
                self._recordService(now - sentAt)
        if completed:
            self._results.verified += completed
            self._results.lastAt = now

    def readConnectionLost(self) -> None:
        if self._halfClose and self._allOut and not self._out:
            self._complete()
        else:
            self._fail(*classify(ConnectionDone()))

    def writeConnectionLost(self) -> None:
        """The half-close is done; what is left is to read to the end."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.settled:
            kind, detail = classify(reason.value)
            if not self.established:
                why = detail if kind is FailureKind.TLS else reasonText(reason.value)
                kind = FailureKind.TLS
                detail = f"before the handshake was complete: {why}"
            self._fail(kind, detail)
        self.factory.connectionOver(self)

    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """See L{Connection.sweep}."""
        if not self.established:
            if self.askedAt < connectBefore:
                self._failToConnect()
            return True
        ending = self._halfClose and self._allOut
        self._awaited = bool(self._out) or ending or self.settled
        if self._awaited and self.progressAt < replyBefore:
            if self.settled:
                # The peer does not let go, as some do with TLS's closing alert.
                self.transport.abortConnection()
            else:
                self._failToReply()
        return self._awaited

    def _failToReply(self) -> None:
        missing = (
            f"{counted(len(self._out), 'message')} outstanding"
            if self._out
            else "every message is back, but not the end of the stream"
        )
        patience = self.factory.patience.reply
        self._fail(FailureKind.REPLY_TIMEOUT, f"nothing came for {patience:g} s; {missing}")

    def _await(self, now: int) -> None:
        """From now on, time runs for what is to come."""
        self.progressAt = now
        if not self._awaited:
            self._awaited = True
            self.factory.awaitReply(self)

    def _failToConnect(self) -> None:
        detail = f"not connected after {self.factory.patience.connect:g} s"
        self._fail(FailureKind.CONNECT_TIMEOUT, detail)

    def _forget(self) -> int:
        outstanding = len(self._out)
        self._out.clear()
        return outstanding

    def _settle(self) -> None:
        super()._settle()
        self._await(self._clock())
        if self.transport is not None:
            self.transport.unregisterProducer()

    def _peer(self) -> IAddress | None:
        return self.transport.getPeer() if self.transport is not None else None

    def _close(self) -> None:
        self.transport.loseConnection()

    def _cut(self) -> None:
        self.transport.abortConnection()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        if self._next < self._end:
            self._send()
        releaseClosing(self.transport)

    def stopProducing(self) -> None:
        self._paused = True
