"""
The check of the datagrams that come back.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory import (
    Workload,
)
from echofactory.workload.datagrams import (
    KEPT,
    DatagramVerifier,
    Sent,
    Verdict,
)


def verifierOf(workload: Workload, messages: int) -> tuple[DatagramVerifier, list[bytes]]:
    """Return a verifier of which so many messages went out, and those."""
    script = workload.script(1)
    verifier = DatagramVerifier(script, workload.numbered)
    for number in range(messages):
        verifier.sent(Sent(number, number))
    return verifier, [script.block(index) for index in range(messages)]


def verdicts(verifier: DatagramVerifier, datagrams: Sequence[bytes]) -> Counter[Verdict]:
    return Counter(verifier.feed(data).verdict for data in datagrams)


NUMBERED = Workload(size=12)


@given(st.lists(st.integers(0, 29), max_size=90), st.integers(30, 40))
def test_any_order_any_loss_any_repetition(arrivals: list[int], sent: int) -> None:
    """The counts are those of the arrivals, and what is left is lost."""
    verifier, blocks = verifierOf(NUMBERED, sent)
    replies = [verifier.feed(blocks[index]) for index in arrivals]
    seen: list[int] = []
    for index, reply in zip(arrivals, replies, strict=True):
        assert reply.place == index
        if index in seen:
            assert reply.verdict is Verdict.REPEATED
            continue
        assert reply.verdict is Verdict.ANSWER
        assert reply.sent == Sent(index, index)
        assert reply.reordered == (index < max(seen, default=-1))
        seen.append(index)
    assert verifier.giveUp(sent) == sorted(set(range(sent)) - set(seen))
    assert verifier.out == {}
    # What comes now is late the first time, and repeated the second.
    for index in range(sent):
        expected = [Verdict.REPEATED if index in seen else Verdict.LATE, Verdict.REPEATED]
        assert [verifier.feed(blocks[index]).verdict for _ in range(2)] == expected


@given(st.lists(st.sampled_from((b"a", b"b", b"c")), min_size=1, max_size=5), st.data())
def test_messages_that_are_alike(messages: list[bytes], data: st.DataObject) -> None:
    """
    Of messages without numbers, as many are answered as came back of each content;
    what came on top was repeated.
    """
    count = data.draw(st.integers(1, 20))
    verifier, blocks = verifierOf(Workload(messages=tuple(messages)), count)
    arrivals = data.draw(st.lists(st.sampled_from(blocks), max_size=40))
    found = verdicts(verifier, arrivals)
    sent, came = Counter(blocks), Counter(arrivals)
    assert found[Verdict.ANSWER] == (sent & came).total()
    assert found[Verdict.REPEATED] == (came - sent).total()
    assert len(verifier.giveUp(count)) == (sent - came).total()
    left = sent - came
    assert verdicts(verifier, list(left.elements())) == Counter({Verdict.LATE: left.total()})
    if left:
        assert verifier.feed(next(iter(left))).verdict is Verdict.REPEATED


@given(st.integers(0, 9), st.binary(min_size=1, max_size=4), st.integers(0, 63), st.data())
def test_an_altered_reply(index: int, other: bytes, at: int, data: st.DataObject) -> None:
    """It is known for what it was, wherever it was altered, its number included."""
    verifier, blocks = verifierOf(Workload(size=64), 10)
    for earlier in data.draw(st.sets(st.integers(0, 9).filter(lambda each: each != index))):
        verifier.feed(blocks[earlier])
    block = blocks[index]
    changed = (block[:at] + other + block[at + len(other) :])[: len(block)]
    reply = verifier.feed(changed)
    if changed == block:
        assert reply.verdict is Verdict.ANSWER
        return
    assert (reply.verdict, reply.place) == (Verdict.ALTERED, index)
    assert index not in verifier.out
    first = next(i for i in range(64) if block[i] != changed[i])
    fault: Any = reply.fault
    assert (fault.message, fault.offset) == (index + 1, first)
    assert fault.expected == block[first : first + fault.SHOWN]
    assert fault.received == changed[first : first + fault.SHOWN]
    # The right one, if it comes as well, is one too many.
    assert verifier.feed(block).verdict is Verdict.REPEATED


def test_replies_cut_short_or_too_long() -> None:
    """They are altered; the offset is where one of them ends."""
    verifier, blocks = verifierOf(Workload(size=64), 2)
    cut, longer = verifier.feed(blocks[0][:50]), verifier.feed(blocks[1] + b"more")
    assert str(cut.fault) == (
        f"message 1, offset 50: expected {blocks[0][50:]!r}, received b''"
    )
    assert str(longer.fault) == "message 2, offset 64: expected b'', received b'more'"


def test_what_nobody_asked_for() -> None:
    """With nothing out, it is too many bytes; an empty datagram is nothing special."""
    for workload in (NUMBERED, Workload()):
        verifier, _ = verifierOf(workload, 0)
        reply = verifier.feed(b"")
        assert (reply.verdict, str(reply.fault)) == (
            Verdict.UNASKED, "after message 0: received b'' unasked",
        )  # fmt: skip


def test_an_altered_reply_that_comes_again() -> None:
    """It takes no message that is out: its number says that it had been answered."""
    verifier, blocks = verifierOf(Workload(size=64), 3)
    verifier.feed(blocks[0])
    reply = verifier.feed(blocks[0][:-1] + b"\0")
    assert (reply.verdict, reply.place, reply.sent) == (Verdict.ALTERED, 0, None)
    assert list(verifier.out) == [1, 2]


@pytest.mark.parametrize("workload", [NUMBERED, Workload(size=4), Workload()])
def test_memory_of_what_is_lost_is_bounded(workload: Workload) -> None:
    """What is too long ago is not called repeated, which it may not be."""
    verifier, blocks = verifierOf(workload, 3 * KEPT)
    assert len(verifier.giveUp(3 * KEPT)) == 3 * KEPT
    assert len(verifier._past) <= KEPT
    assert verifier.feed(blocks[-1]).verdict is Verdict.LATE
    if workload.numbered:
        assert verifier.feed(blocks[0]).verdict is Verdict.LATE
