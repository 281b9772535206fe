"""
The check of datagrams that come back. Bytes go in, facts come out.
"""

from enum import Enum
from itertools import islice
from typing import NamedTuple

from echofactory.workload.script import Script, messageNumber
from echofactory.workload.settings import Workload
from echofactory.workload.verifier import EchoMismatch, ExtraBytes, StreamFault

MAX_DATAGRAM_SIZE = 65_507
"""Of a datagram over IPv4: 65,535 without the headers of IP and UDP."""

KEPT = 1024
"""Messages that are not out any more, of which a verifier remembers what became."""

_COMPARED = 64
"""Messages that an altered reply is compared with, at most."""


def refuseUnfit(workload: Workload) -> None:
    """
    @raise ValueError: if a workload cannot go in datagrams, naming the field and the
        value.
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
