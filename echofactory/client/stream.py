"""
A connection of the client over a stream: it sends its script and checks what comes back.
"""

from typing import Any, cast

from service_identity import CertificateError
from service_identity.pyopenssl import extract_patterns
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IHandshakeListener,
    INegotiated,
    IPushProducer,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.client.connection import Connection, Run
from echofactory.client.failures import classify, handshakeText, replyHint
from echofactory.client.noting import noteConnection
from echofactory.client.smallqueue import SmallQueue
from echofactory.express.tlssession import IHalfClosesTLS
from echofactory.net.keepalive import keepAlive
from echofactory.net.transport import IEchoTransport, halfCloses, releaseClosing, turnOffNagle
from echofactory.results.failures import FailureKind
from echofactory.values.quantities import counted
from echofactory.workload.script import BLOCK_SIZE
from echofactory.workload.verifier import EchoMismatch, StreamFault, StreamVerifier


@implementer(IHalfClosesTLS, IHandshakeListener, IPushProducer)
class EchoClient(Connection, Protocol):
    """
    Sends one connection's share of a workload, as fast as the window and the
    transport take it, and compares every byte that comes back.

    It has over 20 methods: half of them are those of Twisted's interfaces.

    @ivar progressAt: when the reply timeout began to run last, in nanoseconds of the run's
        clock: the connection was established, received bytes, sent a message while none was
        outstanding, or began to close or to half-close.
    """

    transport: IEchoTransport

    def __init__(self, factory: Run, number: int) -> None:
        super().__init__(factory, number)
        self.connected = 0
        self._verifier = StreamVerifier(self._script)
        self._allOut = False
        # Of each message that is out: when it was sent, and when it was due.
        self._out: SmallQueue[tuple[int, int]] = SmallQueue()
        self._paused = self._closing = False
        # Whether each reply makes room for exactly one message, which is a block.
        self._alternating = (
            self._window == 1
            and self._script.whole
            and not self._scheduled
            and not self.factory.traceLog.data
        )
        self.progressAt = self.askedAt
        # Whether the run watches it.
        self._awaited = True

    @property
    def _halfClose(self) -> bool:
        """Whether this end closes its side once all is sent."""
        return self.factory.workload.halfClose

    def connectionMade(self) -> None:
        turnOffNagle(self.transport)
        keepAlive(self.transport, self.factory.patience.keepAlive)
        self._takeOver()
        if not INegotiated.providedBy(self.transport):
            self._begin()

    def handshakeCompleted(self) -> None:
        if self.factory.destination.verifiesName and not self._hasNames():
            self._fail(FailureKind.TLS, "the certificate is for no host: no subjectAltName")
            return
        if self._halfClose and not halfCloses(self.transport):
            self._fail(FailureKind.TLS, "a half-close needs TLS 1.3 and the fast lane")
            return
        self._begin()

    def _hasNames(self) -> bool:
        """
        Tell whether the certificate is for a host. Twisted 26.10 accepts a certificate
        without a name: its check raises an error of another kind, which is only logged.
        """
        certificate: Any = cast(ISSLTransport, self.transport).getPeerCertificate()
        try:
            return bool(extract_patterns(certificate))
        except CertificateError:
            return False

    def _takeOver(self) -> None:
        """
        Have the transport call this protocol directly instead of the wrapper that Twisted's
        endpoints put between them. The wrapper provides only the last of the optional
        interfaces that it forwards: it calls C{directlyProvides} for each of them in turn.
        With C{IHandshakeListener}, half-close would be lost. Besides, the wrapper costs a
        call for every chunk of data.
        """
        # A wrapper of another kind stays. TLS is above or below the wrapper.
        for name in ("protocol", "wrappedProtocol"):
            wrapper = getattr(self.transport, name, None)
            if getattr(wrapper, "_wrappedProtocol", None) is self:
                setattr(self.transport, name, self)

    def _begin(self) -> None:
        self.established = True
        self.progressAt = self._clock()
        self.transport.registerProducer(self, True)
        noteConnection(
            self._results.connectionFacts,
            self.factory.destination,
            self.transport,
            self._peer(),
        )
        self._sampler.connected(self.transport)
        self.factory.connectionUp(self, self.progressAt - self.askedAt)
        self._send()

    def _send(self) -> None:
        """Send what the window and the transport have room for."""
        while self._next < self._end and not self._paused:
            room = self._window - len(self._out)
            if room == 1 and self._script.whole:
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
                # The end of the stream has to come within the reply timeout.
                self._await(self._clock())
                self.transport.loseWriteConnection()
        if not self._out and not self._halfClose:
            self._complete()

    def _gather(self, room: int) -> tuple[list[bytes], int]:
        """
        Return blocks that can go out together, and how many messages begin in them.

        @param room: messages that can begin, at most.
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
        """Return the next block of the script. It has to go out."""
        block = self._script.block(self._next)
        self._next += 1
        self._verifier.sent(block)
        if self.factory.traceLog.data:
            self.factory.traceLog.sending(self.number, block)
        return block

    def _write(self, data: bytes, started: int) -> None:
        """
        @param started: messages that begin in C{data}.
        """
        self._results.sent += started
        self._results.bytesSent += len(data)
        now = self._clock()
        if not self._out:
            # Nothing was outstanding until now.
            self.progressAt = now
            if not self._awaited:
                self._await(now)
        if started:
            self._results.lastSentAt = now
        for _ in range(started):
            self._out.append((now, self._dueAt.popleft() if self._scheduled else now))
        self.transport.write(data)

    def dataReceived(self, data: bytes) -> None:
        now = self._clock()
        # This is what a round trip costs in the usual case: the reply is one block, and the
        # next message takes its place. A settled connection has no next message.
        if self._alternating and self._next < self._end and not self._paused:
            block = self._verifier.exchange(data)
            if block is not None:
                self._next += 1
                out, results = self._out, self._results
                assert out.first is not None
                results.response.record(now - out.first[1])
                results.lastAt = now
                results.verified += 1
                results.bytesReceived += len(data)
                results.sent += 1
                results.bytesSent += len(block)
                now = self.progressAt = results.lastSentAt = self._clock()
                out.first = now, now
                self.transport.write(block)
                if results.verified >= self._sampler.nextAt:
                    self._sampleNext()
                if self._next == self._end:
                    self._send()
                return
        if not self.settled:
            self._receive(data, now)

    def _receive(self, data: bytes, now: int) -> None:
        """Check received data in all other cases, and send what it makes room for."""
        self.progressAt = now
        self._results.bytesReceived += len(data)
        if self.factory.traceLog.data:
            self.factory.traceLog.received(self.number, data)
        try:
            completed = self._verifier.feed(data)
        except StreamFault as fault:
            self._verified(fault.completed, now)
            if isinstance(fault, EchoMismatch):
                self._out.popleft()
                self._results.mismatched += 1
            hint = "" if INegotiated.providedBy(self.transport) else replyHint(data)
            self._fail(fault.kind, f"{fault}{hint}")
            return
        self._verified(completed, now)
        if self._next < self._end:
            self._send()
        elif self._final:
            self._everythingIsOut()

    def _verified(self, completed: int, now: int) -> None:
        results = self._results
        for _ in range(completed):
            sentAt, dueAt = self._out.popleft()
            if results.service is None:
                results.response.record(now - dueAt)
            elif dueAt >= results.countsFrom:
                # Counted from the scheduled time, or a stalled server would look fast.
                results.response.record(now - dueAt)
                results.service.record(now - sentAt)
            else:
                results.leaveOut(now - dueAt)
        if completed:
            results.verified += completed
            results.lastAt = now
            if results.verified >= self._sampler.nextAt:
                self._sampleNext()

    def readConnectionLost(self) -> None:
        if self._halfClose and self._allOut and not self._out:
            self._complete()
        else:
            self._fail(*classify(ConnectionDone()))

    def writeConnectionLost(self) -> None:
        """The half-close is done. Reading goes on to the end of the stream."""

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        if not self.settled:
            kind, detail = classify(reason.value)
            if not self.established:
                why = handshakeText(reason.value, self.transport)
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
        ending = self._halfClose and self._allOut and not self.settled
        self._awaited = bool(self._out) or ending or self._closing
        if self._awaited and self.progressAt < replyBefore:
            if self._closing:
                # Some peers do not close after TLS's closing alert.
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
        """The reply timeout runs from now."""
        self.progressAt = now
        if not self._awaited:
            self._awaited = True
            self.factory.watch.add(self)

    def _failToConnect(self) -> None:
        detail = f"not connected after {self.factory.patience.connect:g} s"
        if self.transport is not None:
            detail += ": the handshake of TLS is not complete (the server may not speak TLS)"
        self._fail(FailureKind.CONNECT_TIMEOUT, detail)

    def _forget(self) -> int:
        outstanding = len(self._out)
        self._out.clear()
        return outstanding

    def _settle(self) -> None:
        super()._settle()
        if self.transport is not None:
            self.transport.unregisterProducer()

    def _peer(self) -> IAddress | None:
        return self.transport.getPeer() if self.transport is not None else None

    def _close(self) -> None:
        if not self.connected:
            # It waited for its close meanwhile.
            return
        self._closing = True
        self._await(self._clock())
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
