"""
The client over UDP: a connection is a socket of its own, and a message a datagram.
"""

from twisted.internet.error import MessageLengthError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
)
from twisted.internet.protocol import DatagramProtocol

from echofactory.client.connection import Connection, Fault, Run
from echofactory.client.noting import noteConnection
from echofactory.net.udp import NO_ROOM
from echofactory.results.failures import FailureKind
from echofactory.results.path import Datagrams
from echofactory.values.quantities import counted
from echofactory.workload.datagrams import DatagramVerifier, Reply, Sent, Verdict

_RETRY_S = 0.001


class DatagramClient(Connection, DatagramProtocol):
    """
    Sends one connection's share of a workload, a message in each datagram, and
    compares what comes back.

    A message without a reply within the reply timeout is lost, and makes room in the window
    for the next one. A connection goes on after lost, repeated and altered datagrams, and
    fails at its end.
    """

    noisy = False

    def __init__(self, factory: Run, number: int) -> None:
        super().__init__(factory, number)
        self.numPorts = 0
        self._verifier = DatagramVerifier(self._script, factory.workload.numbered)
        self._address: IAddress | None = None
        self._closing = False
        self._retrying: IDelayedCall | None = None
        # How many, and the index of the first one. Of a repeated reply it can be unknown.
        self._lost = 0
        self._firstLost = 0
        self._repeated = 0
        self._firstRepeated: int | None = None
        # The first fault of each kind.
        self._faults: dict[FailureKind, str] = {}

    @property
    def _datagrams(self) -> Datagrams:
        counts = self._results.datagrams
        assert counts is not None
        return counts

    def opened(self, address: IAddress) -> None:
        """
        The socket is open.

        @param address: that it sends to.
        """
        self._address = address
        self.established = True
        noteConnection(
            self._results.connectionFacts, self.factory.destination, self.transport, address
        )
        self._sampler.connected(self.transport)
        self.factory.connectionUp(self, None)
        self._send()

    def _send(self) -> None:
        """Send what the window and the system have room for."""
        while (
            self._next < self._end
            and len(self._verifier.out) < self._window
            and self._retrying is None
        ):
            self._write(self._script.block(self._next))
        if self._final and self._next == self._end and not self._verifier.out:
            self._complete()

    def _write(self, block: bytes) -> None:
        now = self._clock()
        try:
            try:
                self.transport.write(block)
            except MessageLengthError:
                # This can be the error of an earlier datagram: a router said that only
                # smaller ones pass. The kernel fragments this one.
                self.transport.write(block)
        except OSError as error:
            if error.errno not in NO_ROOM:
                self.unreachable(error)
                return
            # Twisted does not tell when the socket is writable again.
            self._retrying = self.factory.reactor.callLater(_RETRY_S, self._retry)
            return
        except MessageLengthError as error:
            self._fail(FailureKind.UNREACHABLE, str(error))
            return
        if self.settled:
            # An ICMP error for an earlier datagram has ended this connection.
            return
        self._next += 1
        self._verifier.sent(Sent(now, self._dueAt.popleft() if self._scheduled else now))
        self._results.sent += 1
        self._results.lastSentAt = now
        self._results.bytesSent += len(block)
        if self.factory.traceLog.data:
            self.factory.traceLog.sending(self.number, block)

    def _retry(self) -> None:
        self._retrying = None
        self._send()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if self.settled:
            return
        now = self._clock()
        self._results.bytesReceived += len(datagram)
        if self.factory.traceLog.data:
            self.factory.traceLog.received(self.number, datagram)
        reply = self._verifier.feed(datagram)
        if reply.verdict is Verdict.ANSWER:
            assert reply.sent is not None
            results = self._results
            if results.service is None:
                results.response.record(now - reply.sent.dueAt)
            elif reply.sent.dueAt >= results.countsFrom:
                # Counted from the scheduled time, as over TCP.
                results.response.record(now - reply.sent.dueAt)
                results.service.record(now - reply.sent.sentAt)
            else:
                results.leaveOut(now - reply.sent.dueAt)
            results.verified += 1
            results.lastAt = now
            if results.verified >= self._sampler.nextAt:
                self._sampleNext()
            self._datagrams.reordered += reply.reordered
        else:
            self._noteFault(reply)
        self._send()

    def _noteFault(self, reply: Reply) -> None:
        if reply.fault is not None:
            self._faults.setdefault(reply.fault.kind, str(reply.fault))
            # An altered reply that is repeated was counted the first time.
            self._results.mismatched += reply.sent is not None
        elif reply.verdict is Verdict.REPEATED:
            if not self._repeated:
                self._firstRepeated = reply.place
            self._repeated += 1
            self._datagrams.repeated += 1

    def connectionRefused(self) -> None:
        """An ICMP error says that the port is closed."""
        self._fail(FailureKind.REFUSED, "nobody listens there (ICMP port unreachable)")

    def unreachable(self, error: OSError) -> None:
        """The kernel says that the target cannot be reached."""
        self._fail(FailureKind.UNREACHABLE, str(error))

    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """See L{Connection.sweep}. Each message has a timeout of its own."""
        if self.settled or not self.established:
            return True
        lost = self._verifier.giveUp(replyBefore)
        if lost:
            self._results.unanswered += len(lost)
            self._datagrams.lost += len(lost)
            if not self._lost:
                self._firstLost = lost[0]
            self._lost += len(lost)
            self._send()
        return True

    def _knownFault(self) -> Fault | None:
        """See L{Connection}. Of several kinds, the worst comes first."""
        found = dict(self._faults)
        if self._repeated:
            first = "" if self._firstRepeated is None else f", first {self._firstRepeated + 1}"
            again = f"{counted(self._repeated, 'message')} answered again{first}"
            found.setdefault(FailureKind.EXTRA_BYTES, again)
        if self._lost:
            found[FailureKind.REPLY_TIMEOUT] = (
                f"{self._lost:,} of {counted(self._next, 'message')} lost, the first message"
                f" {self._firstLost + 1}: no reply within {self.factory.patience.reply:g} s"
            )
        for kind in (FailureKind.MISMATCH, FailureKind.EXTRA_BYTES, FailureKind.REPLY_TIMEOUT):
            if kind in found:
                text = found.pop(kind)
                return kind, "; ".join([text, *found.values()])
        return None

    def _settle(self) -> None:
        super()._settle()
        if self._retrying is not None:
            self._retrying.cancel()
            self._retrying = None

    def _forget(self) -> int:
        outstanding = len(self._verifier.out)
        self._verifier.out.clear()
        return outstanding

    def _peer(self) -> IAddress | None:
        return self._address

    def _close(self) -> None:
        if not self._closing:
            self._closing = True
            self.transport.stopListening()

    def _cut(self) -> None:
        self._close()

    def stopProtocol(self) -> None:
        self._closing = True
        self._fail(FailureKind.UNREACHABLE, "the socket was closed")
        self.factory.connectionOver(self)
