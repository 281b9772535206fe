"""
The client over UDP: a connection is a socket of its own, and a message a datagram.

What is touched of Twisted that is not public, each with its reason:

 - C{Port._bindSocket}: the socket is bound already.
 - C{Port._connectedAddr}: the socket is connected already.
 - C{Port._realPortNumber}: which port the system chose.
"""

import errno
import os
import socket
from contextlib import ExitStack
from enum import Enum
from itertools import islice
from typing import Any, NamedTuple

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import ConnectionDone, MessageLengthError, getConnectError
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import DatagramProtocol
from twisted.internet.udp import Port
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory.client.connection import Connection, Run
from echofactory.results.books import FailureKind
from echofactory.server.datagrams import AT_ONCE, BUFFER_SIZE, makeRoom
from echofactory.values.quantities import counted
from echofactory.workload.script import Script, messageNumber
from echofactory.workload.settings import Workload
from echofactory.workload.verifier import EchoMismatch, ExtraBytes, StreamFault

MOST_BYTES = 65_507
"""Of a datagram over IPv4: 65,535 without the headers of IP and UDP."""

KEPT = 1024
"""Messages that are not out any more, of which a verifier remembers what became."""

_COMPARED = 64
"""Messages that an altered reply is compared with, at most."""

_RETRY_S = 0.001
_NO_ROOM = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS}


def refuseUnfit(workload: Workload) -> None:
    """
    @raise ValueError: if a workload cannot go in datagrams, naming the field and the
        value.
    """
    if workload.halfClose:
        raise ValueError("halfClose: over UDP there is no stream to end")
    if workload.longest > MOST_BYTES:
        field = "messages" if workload.size is None else "size"
        raise ValueError(
            f"{field}: {workload.longest} bytes are more than the {MOST_BYTES} of a datagram"
        )


class Sent(NamedTuple):
    """
    A message that is out: when it was sent, and when it was due; nanoseconds.
    """

    sentAt: int
    dueAt: int


class Verdict(Enum):
    """What a datagram is that came in."""

    ANSWER = "the reply to a message that was out"
    REPEATED = "a reply that had come before"
    LATE = "the reply to a message that had been given up"
    ALTERED = "like no message"
    UNASKED = "like no message, and none was out"


class Reply(NamedTuple):
    """
    A datagram that came in.

    @ivar place: the index of the message that it is taken for, from 0; C{None}: it is
        taken for none, or for one of several that are alike.
    @ivar sent: when that was sent, if it was out until now.
    @ivar reordered: whether a later message was answered before (RFC 4737).
    @ivar fault: what is wrong with it.
    """

    verdict: Verdict
    place: int | None = None
    sent: Sent | None = None
    reordered: bool = False
    fault: StreamFault | None = None


def _difference(one: bytes, other: bytes) -> int:
    """Return in how many bits two messages differ."""
    size = min(len(one), len(other))
    differing = int.from_bytes(one[:size]) ^ int.from_bytes(other[:size])
    return differing.bit_count() + 8 * (len(one) + len(other) - 2 * size)


class DatagramVerifier:
    """
    Checks the datagrams that come in on one connection against its script.

    A reply is told by its content. A generated message of 12 bytes or more carries its
    number. Of others, which may be alike, a reply is that to the oldest that is out and
    has the same bytes; so a repeated reply may be taken for that to a later message of
    the same bytes, and which of them was lost or came out of order is not known.

    A datagram that equals no message is taken for an altered reply to the one that is
    out and that it differs from in the fewest bits.

    What became of messages is remembered for the last L{KEPT} that matter: those given
    up, and of messages without numbers those answered too.

    @ivar out: the messages that are out, by their index from 0, the oldest first.
    """

    def __init__(self, script: Script, numbered: bool) -> None:
        """
        @param script: what is sent on this connection, each block of it a message.
        @param numbered: whether the messages carry their numbers.
        """
        self.out: dict[int, Sent] = {}
        self._script = script
        self._numbered = numbered
        self._next = 0
        self._highest = -1
        # Without numbers: those that are out, by what they are.
        self._alike: dict[bytes, dict[int, None]] = {}
        # By index or, without numbers, by what they are: how many of those that are
        # not out any more were given up, and not answered since.
        self._past: dict[int | bytes, int] = {}
        self._forgotten = -1

    def sent(self, sent: Sent) -> None:
        """Note that the script's next block went out."""
        if not self._numbered:
            self._alike.setdefault(self._script.block(self._next), {})[self._next] = None
        self.out[self._next] = sent
        self._next += 1

    def giveUp(self, before: int) -> list[int]:
        """
        Return the indices of the messages that were sent before some time and are
        still out. They are lost, and out no more.

        @param before: nanoseconds.
        """
        lost = []
        for index, sent in self.out.items():
            if sent.sentAt >= before:
                break
            lost.append(index)
        for index in lost:
            self._takeBack(index, 1)
        return lost

    def feed(self, data: bytes) -> Reply:
        """Tell what a datagram is."""
        index = self._equal(data)
        if index is not None and index in self.out:
            reordered = index < self._highest
            self._highest = max(index, self._highest)
            return Reply(Verdict.ANSWER, index, self._takeBack(index, 0), reordered)
        # Of messages that are alike, which one came again is not known.
        past = self._past.get(data) if not self._numbered else None
        if index is not None:
            past = self._past.get(index, 1 if index <= self._forgotten else 0)
        if past is None:
            return self._altered(data)
        if not past:
            return Reply(Verdict.REPEATED, index)
        self._remember(data if index is None else index, past - 1)
        return Reply(Verdict.LATE, index)

    def _equal(self, data: bytes) -> int | None:
        """Return the index of the message that has been sent and is the same."""
        if not self._numbered:
            return next(iter(self._alike.get(data, ())), None)
        index = self._named(data)
        return index if index is not None and self._script.block(index) == data else None

    def _named(self, data: bytes) -> int | None:
        """Return the index of the sent message whose number is in the data."""
        number = messageNumber(data) if self._numbered else None
        return number - 1 if number is not None and 0 < number <= self._next else None

    def _takeBack(self, index: int, givenUp: int) -> Sent:
        """
        Have a message out no more.

        @param givenUp: 1, if its reply is not here; otherwise 0.
        """
        if self._numbered:
            if givenUp:
                self._remember(index, 1)
        else:
            block = self._script.block(index)
            alike = self._alike[block]
            del alike[index]
            if not alike:
                del self._alike[block]
            self._remember(block, self._past.pop(block, 0) + givenUp)
        return self.out.pop(index)

    def _remember(self, key: int | bytes, givenUp: int) -> None:
        self._past[key] = givenUp
        if len(self._past) > KEPT:
            oldest = next(iter(self._past))
            del self._past[oldest]
            if isinstance(oldest, int):
                # What comes of those before it may be late, or repeated.
                self._forgotten = max(oldest, self._forgotten)

    def _altered(self, data: bytes) -> Reply:
        candidates = list(islice(self.out, _COMPARED))
        named = self._named(data)
        if named is not None and named not in candidates:
            candidates.append(named)
        if not candidates:
            fault = ExtraBytes(self._next, data[: EchoMismatch.SHOWN], 0)
            return Reply(Verdict.UNASKED, fault=fault)
        index = min(candidates, key=lambda each: _difference(data, self._script.block(each)))
        mismatch = self._mismatch(index, data)
        sent = self._takeBack(index, 0) if index in self.out else None
        return Reply(Verdict.ALTERED, index, sent, fault=mismatch)

    def _mismatch(self, index: int, data: bytes) -> EchoMismatch:
        block = self._script.block(index)
        at = next(
            (i for i, (a, b) in enumerate(zip(block, data, strict=False)) if a != b),
            min(len(block), len(data)),
        )
        shown = slice(at, at + EchoMismatch.SHOWN)
        return EchoMismatch(index + 1, at, block[shown], data[shown], 0)


class DatagramClient(Connection, DatagramProtocol):
    """
    Sends one connection's share of a workload, a message in each datagram, and
    compares what comes back.

    A message that has no reply within the time given for it is lost, and makes room in
    the window for the next one. A connection goes on, whatever is lost, repeated or
    altered, and fails at its end.
    """

    noisy = False

    def __init__(self, factory: Run, number: int) -> None:
        super().__init__(factory, number)
        self._verifier = DatagramVerifier(self._script, factory.workload.numbered)
        assert factory.results.datagrams is not None
        self._datagrams = factory.results.datagrams
        self._address: IAddress | None = None
        self._closing = False
        self._retrying: IDelayedCall | None = None
        # How many, and the index of the first; of a repeated one it may not be known.
        self._lost = 0
        self._firstLost = 0
        self._repeated = 0
        self._firstRepeated: int | None = None
        # The first of each kind.
        self._faults: dict[FailureKind, str] = {}

    def opened(self, address: IAddress) -> None:
        """
        The socket is there.

        @param address: where it sends to.
        """
        self._address = address
        self.established = True
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
                # Perhaps of a datagram before: a router has smaller ones pass, and
                # said so. The system cuts this one to fit.
                self.transport.write(block)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                self.unreachable(error)
                return
            # Twisted does not tell when there is room for a datagram again.
            self._retrying = self.factory.reactor.callLater(_RETRY_S, self._retry)
            return
        except MessageLengthError as error:
            self._fail(FailureKind.UNREACHABLE, str(error))
            return
        if self.settled:
            # An ICMP error for what was sent before: this was not sent.
            return
        self._next += 1
        self._verifier.sent(Sent(now, self._dueAt.popleft() if self._scheduled else now))
        self._results.sent += 1
        self._results.lastSentAt = now
        self._results.bytesSent += len(block)
        if self._tracing:
            self.factory.traceSending(self.number, block)

    def _retry(self) -> None:
        self._retrying = None
        self._send()

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int]) -> None:
        if self.settled:
            return
        now = self._clock()
        self._results.bytesReceived += len(datagram)
        if self._tracing:
            self.factory.traceReceived(self.number, datagram)
        reply = self._verifier.feed(datagram)
        if reply.verdict is Verdict.ANSWER:
            assert reply.sent is not None
            self._recordService(now - reply.sent.sentAt)
            if self._scheduled:
                # Counted from the scheduled time, as over TCP.
                self._recordResponse(now - reply.sent.dueAt)
            self._results.verified += 1
            self._results.lastAt = now
            self._datagrams.reordered += reply.reordered
        else:
            self._noteFault(reply)
        self._send()

    def _noteFault(self, reply: Reply) -> None:
        if reply.fault is not None:
            self._faults.setdefault(reply.fault.kind, str(reply.fault))
            # An altered reply that came again was counted the first time.
            self._results.mismatched += reply.sent is not None
        elif reply.verdict is Verdict.REPEATED:
            if not self._repeated:
                self._firstRepeated = reply.place
            self._repeated += 1
            self._datagrams.repeated += 1

    def connectionRefused(self) -> None:
        """There is an ICMP error for what was sent: the port is closed."""
        self._fail(FailureKind.REFUSED, "nobody listens there (ICMP port unreachable)")

    def unreachable(self, error: OSError) -> None:
        """The system says that there is no way there."""
        self._fail(FailureKind.UNREACHABLE, str(error))

    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """See L{Connection.sweep}. Time runs for a message, and so at any time."""
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

    def _outcome(self) -> tuple[FailureKind, str] | None:
        """Return what is wrong, the worst kind first; C{None}: nothing."""
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

    def _release(self) -> None:
        outcome = self._outcome()
        if outcome is None:
            super()._release()
        else:
            self._held = None
            self._fail(*outcome)

    def giveUp(self) -> None:
        """The run was interrupted: only what is wrong already is known."""
        if not self.settled and (outcome := self._outcome()) is not None:
            self._fail(*outcome)
        super().giveUp()

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


class _ConnectedPort(Port):
    """
    A socket that talks to one address. It tells its protocol of the errors that ICMP
    brings, and goes on after those that cost a datagram and no more. Unlike Twisted's
    it logs nothing: a run may have one for each message.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        handle: socket.socket,
        address: tuple[str, int],
        protocol: DatagramClient,
    ) -> None:
        """
        @param handle: connected; it becomes this port's.
        @param address: what to.
        """
        host, port, *_ = handle.getsockname()
        super().__init__(port, protocol, host, BUFFER_SIZE, reactor)
        self.socket: Any = handle
        self._connectedAddr = address

    def _bindSocket(self) -> None:
        self._realPortNumber = self.port
        self.fileno: Any = self.socket.fileno
        self.connected = True

    def doRead(self) -> None:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        for _ in range(AT_ONCE):
            try:
                datagram = self.socket.recv(BUFFER_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self._hear(error)
                return
            self.protocol.datagramReceived(datagram, self._connectedAddr)

    def _hear(self, error: OSError) -> None:
        """Learn of an error that the system keeps for the next call."""
        if error.errno == errno.ECONNREFUSED:
            self.protocol.connectionRefused()
        elif error.errno != errno.EMSGSIZE:
            self.protocol.unreachable(error)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Close; unless a reactor says that it is over because there is an error and
        nothing to read. Over UDP that is no end.
        """
        if reason is not None and reason.check(ConnectionDone):
            self.startReading()
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # 0: what was written since has met it.
            if number:
                self._hear(OSError(number, os.strerror(number)))
            return
        FileDescriptor.connectionLost(self, reason)
        self.protocol.doStop()
        self.socket.close()
        del self.socket, self.fileno
        if hasattr(self, "d"):
            self.d.callback(None)


@implementer(IStreamClientEndpoint)
class DatagramEndpoint:
    """
    What opens the sockets to one address. No stream comes of it, but it is asked for
    one in the same way, and gives a L{DatagramClient} its socket.
    """

    def __init__(
        self, reactor: IReactorFDSet, host: str, port: int, source: str | None = None
    ) -> None:
        """
        @param host: an IP address.
        @param source: this machine's address to send from; C{None}: the system chooses.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._source = source
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        return execute(self._open, protocolFactory)

    def _open(self, protocolFactory: Any) -> Any:
        address = (IPv6Address if ":" in self._host else IPv4Address)(
            "UDP", self._host, self._port
        )
        try:
            handle = self._socket()
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EADDRINUSE}:
                # What Linux says when every port is taken.
                error = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            raise getConnectError(error) from error
        protocol = protocolFactory.buildProtocol(address)
        _ConnectedPort(
            self._reactor, handle, (self._host, self._port), protocol
        ).startListening()
        protocol.opened(address)
        return protocol

    def _socket(self) -> socket.socket:
        with ExitStack() as unfit:
            while True:
                handle = self._connected()
                # An echo that guards itself against loops does not answer its own port.
                if handle.getsockname()[1] != self._port:
                    return handle
                # Kept until there is another, or the system might choose it again.
                unfit.enter_context(handle)

    def _connected(self) -> socket.socket:
        with ExitStack() as failing:
            handle = socket.socket(self._family, socket.SOCK_DGRAM)
            failing.enter_context(handle)
            handle.setblocking(False)
            makeRoom(handle)
            if self._source is not None:
                handle.bind(_withZone(self._source, 0))
            handle.connect(_withZone(self._host, self._port))
            failing.pop_all()
            return handle


def _withZone(host: str, port: int) -> Any:
    """
    Return an address as a socket takes it: with the number of the link that C{%eth0}
    names.

    @raise OSError: if there is no such link.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][-1]
