"""
The check of received datagrams. Bytes go in, facts come out.
"""

from enum import Enum
from itertools import islice
from typing import NamedTuple

from echofactory.workload.script import Script, messageNumber
from echofactory.workload.settings import Workload
from echofactory.workload.verifier import EchoMismatch, ExtraBytes, StreamFault

MAX_DATAGRAM_SIZE = 65_507
"""Bytes of a datagram over IPv4: 65,535 without the headers of IP and UDP."""

KEPT = 1024
"""Answered and lost messages that a verifier remembers, at most."""

_COMPARED = 64
"""Messages with which an altered reply is compared, at most."""


def refuseUnfit(workload: Workload) -> None:
    """
    @raise ValueError: if the workload cannot be sent in datagrams. The message names the
        field and the value.
    """
    if workload.halfClose:
        raise ValueError("halfClose: UDP has no stream to close")
    if workload.longest > MAX_DATAGRAM_SIZE:
        field = "messages" if workload.size is None else "size"
        raise ValueError(
            f"{field}: {workload.longest:,} bytes; a datagram has at most"
            f" {MAX_DATAGRAM_SIZE:,} bytes"
        )


class Sent(NamedTuple):
    """
    The times of an outstanding message, in nanoseconds of the client's clock.

    @ivar sentAt: when it was sent.
    @ivar dueAt: when it was due.
    """

    sentAt: int
    dueAt: int


class Verdict(Enum):
    """What a received datagram is."""

    ANSWER = "the reply to an outstanding message"
    REPEATED = "a reply that arrived before"
    LATE = "the reply to a lost message"
    ALTERED = "equal to no message"
    UNASKED = "equal to no message, and none is outstanding"


class Reply(NamedTuple):
    """
    A received datagram.

    @ivar verdict: what it is.
    @ivar place: the index of its message, from 0; C{None}: there is none, or several messages
        have the same bytes.
    @ivar sent: the times of its message; C{None}: the message was not outstanding.
    @ivar reordered: whether the reply to a later message arrived before (RFC 4737).
    @ivar fault: what is wrong with the datagram; C{None}: nothing.
    """

    verdict: Verdict
    place: int | None = None
    sent: Sent | None = None
    reordered: bool = False
    fault: StreamFault | None = None


def _difference(one: bytes, other: bytes) -> int:
    """Return the number of bits in which two messages differ."""
    size = min(len(one), len(other))
    differing = int.from_bytes(one[:size]) ^ int.from_bytes(other[:size])
    return differing.bit_count() + 8 * (len(one) + len(other) - 2 * size)


class DatagramVerifier:
    """
    Checks the received datagrams of one connection against its script.

     - The content of a reply identifies its message. A generated message of 12 bytes or more
       carries its number.
     - Other messages may have the same bytes. A reply then belongs to the oldest outstanding
       message with these bytes. A repeated reply may therefore count as the reply to a later
       message, and it is not known which message was lost or reordered.
     - A datagram that equals no message is an altered reply. It belongs to the outstanding
       message from which it differs in the fewest bits.
     - The verifier remembers the last L{KEPT} messages that were lost. Of messages without
       numbers, it also remembers answered messages.

    @ivar out: the outstanding messages, by index from 0, the oldest first.
    """

    def __init__(self, script: Script, numbered: bool) -> None:
        """
        @param script: the messages of this connection. Each block is a message.
        @param numbered: whether the messages carry their numbers.
        """
        self.out: dict[int, Sent] = {}
        self._script = script
        self._numbered = numbered
        self._next = 0
        self._highest = -1
        # Outstanding messages without numbers, by their bytes.
        self._alike: dict[bytes, dict[int, None]] = {}
        # The number of lost messages without a late reply, by index; without numbers, by
        # their bytes.
        self._past: dict[int | bytes, int] = {}
        self._forgotten = -1

    def sent(self, sent: Sent) -> None:
        """Record that the next block of the script was sent."""
        if not self._numbered:
            self._alike.setdefault(self._script.block(self._next), {})[self._next] = None
        self.out[self._next] = sent
        self._next += 1

    def giveUp(self, before: int) -> list[int]:
        """
        Count the outstanding messages that were sent before some time as lost, and return
        their indices.

        @param before: the time, in nanoseconds of the client's clock.
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
        """Check a received datagram."""
        index = self._equal(data)
        if index is not None and index in self.out:
            reordered = index < self._highest
            self._highest = max(index, self._highest)
            return Reply(Verdict.ANSWER, index, self._takeBack(index, 0), reordered)
        # If messages have the same bytes, it is not known which reply was repeated.
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
        """Return the index of the sent message that equals the data."""
        if not self._numbered:
            return next(iter(self._alike.get(data, ())), None)
        index = self._named(data)
        return index if index is not None and self._script.block(index) == data else None

    def _named(self, data: bytes) -> int | None:
        """Return the index of the sent message whose number the data carries."""
        number = messageNumber(data) if self._numbered else None
        return number - 1 if number is not None and 0 < number <= self._next else None

    def _takeBack(self, index: int, givenUp: int) -> Sent:
        """
        Remove an outstanding message.

        @param givenUp: 1 if the message is lost; 0 if its reply has arrived.
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
                # A reply to an older message may be late or repeated.
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
