"""
What is sent, and the check of what came back: pure, fed in every way.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.workload.script import BLOCK_SIZE, generatedBlock
from echofactory.workload.settings import DEFAULT_MESSAGES, Workload
from echofactory.workload.verifier import (
    KEPT_SIZE,
    EchoMismatch,
    ExtraBytes,
    StreamFault,
    StreamVerifier,
)


def blocksOf(workload: Workload, connection: int = 1) -> list[bytes]:
    script = workload.script(connection)
    messages = workload.messagesPerConnection
    assert messages is not None
    return [script.block(index) for index in range(script.end(messages))]


def sent(workload: Workload, connection: int = 1) -> bytes:
    return b"".join(blocksOf(workload, connection))


def verifierOf(workload: Workload, connection: int = 1) -> StreamVerifier:
    """Return a verifier of which everything went out."""
    verifier = StreamVerifier(workload.script(connection))
    for block in blocksOf(workload, connection):
        verifier.sent(block)
    return verifier


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


class TestWorkload:
    def test_default_is_the_tutorials_two_messages(self) -> None:
        """Each is sent once, without waiting for the other."""
        workload = Workload()
        assert sent(workload) == b"Message 1 from client.Message 2 from client."
        assert workload.messagesPerConnection == workload.outstanding == 2

    def test_count_goes_round_the_list(self) -> None:
        """A count beyond the list begins the list again."""
        workload = Workload(messages=(b"a", b"bc"), count=5)
        assert sent(workload) == b"abcabca"
        assert workload.bytesPerConnection == 7

    def test_generated_messages_have_their_size(self) -> None:
        """Sizes below, at and above a block's, and below the numbers' own."""
        for size in (1, 11, 12, 13, BLOCK_SIZE, BLOCK_SIZE + 1, 3 * BLOCK_SIZE + 7):
            workload = Workload(size=size, count=2)
            blocks = blocksOf(workload, 3)
            assert sum(len(block) for block in blocks) == 2 * size
            assert workload.bytesPerConnection == 2 * size
            assert max(len(block) for block in blocks) <= BLOCK_SIZE
            script = workload.script(3)
            assert script.whole == (size <= BLOCK_SIZE)
            assert [script.end(n) for n in (0, 2)] == [0, len(blocks)]
            places = [script.place(index) for index in range(len(blocks))]
            assert [message for message, offset in places if not offset] == [1, 2]
            for index, (message, offset) in enumerate(places):
                assert script.begins(index) == (offset == 0)
                assert script.ends(index) == (offset + len(blocks[index]) == size)
                assert sum(map(len, blocks[:index])) == (message - 1) * size + offset

    def test_a_long_message_of_the_list_is_cut(self) -> None:
        """A file of any length goes out in blocks."""
        message = bytes(range(256)) * 1024
        workload = Workload(messages=(b"short", message), count=3)
        blocks = blocksOf(workload)
        assert b"".join(blocks) == b"short" + message + b"short"
        script = workload.script(1)
        assert [script.place(index) for index in range(len(blocks))] == [
            (1, 0),
            *((2, at) for at in range(0, len(message), BLOCK_SIZE)),
            (3, 0),
        ]
        assert [script.ends(index) for index in range(len(blocks))] == [
            True,
            *[False] * 3,
            True,
            True,
        ]
        assert not script.whole

    def test_generated_content_is_the_same_everywhere(self) -> None:
        """Two processes agree on what message 2 of connection 1 is."""
        block = generatedBlock(1, 2, 0, 32)
        assert block.hex() == (
            "000000010000000200000000fca352ff943f91335154138dd610a58b4bee1b83"
        )

    @given(
        st.sampled_from([1, 7919, (1 << 32) - 1, 1 << 32]),
        st.sampled_from([0, 1, 65520, (1 << 32) - 2, (1 << 32) - 1, 1 << 33]),
        st.sampled_from([1, 11, 12, 13, 64, BLOCK_SIZE, BLOCK_SIZE + 12, 3 * BLOCK_SIZE]),
    )
    def test_a_script_is_of_generated_blocks(
        self, connection: int, index: int, size: int
    ) -> None:
        """Whatever the size and the numbers, a block of a script is the generated block."""
        script = Workload(size=size, count=1).script(connection)
        message, offset = script.place(index)
        length = min(size - offset, BLOCK_SIZE)
        block = generatedBlock(connection, message, offset // BLOCK_SIZE, length)
        assert script.block(index) == block

    def test_generated_messages_differ_everywhere(self) -> None:
        """No two blocks of the same size are the same, nor shifted the same."""
        blocks = [
            generatedBlock(connection, message, block, 256)
            for connection in range(1, 30)
            for message in range(1, 10)
            for block in range(3)
        ]
        assert len(set(blocks)) == len(blocks)
        assert len({block[12:] for block in blocks}) == len(blocks)

    @pytest.mark.parametrize(
        ("settings", "text"),
        [
            ({"messages": ()}, "messages: empty"),
            ({"messages": (b"a", b"")}, "messages: number 2 is empty"),
            ({"size": 0}, "size: 0"),
            ({"size": -1}, "size: -1"),
            ({"count": 0}, "count: 0"),
            ({"window": 0}, "window: 0"),
            ({"duration": 0.0}, "duration: 0.0 is not more than 0 s"),
            ({"hold": -1.0}, "hold: -1.0"),
            ({"count": 1, "duration": 1.0}, "duration: give duration= or count="),
            ({"churn": True, "window": 2}, "window: not with churn="),
            ({"hold": 1.0, "halfClose": True}, "hold: not with halfClose="),
        ],
    )
    def test_refuses_nonsense(self, settings: dict[str, Any], text: str) -> None:
        """The message names the field and the value."""
        with pytest.raises(ValueError, match=text):
            Workload(**settings)


class TestStreamVerifier:
    @given(
        st.lists(st.integers(0, 3 * 1024), max_size=20),
        st.sampled_from([Workload(), Workload(size=1, count=40), Workload(size=1000, count=3)]),
    )
    def test_any_split_of_the_echo_verifies(self, cuts: list[int], workload: Workload) -> None:
        """However the bytes are cut, each message is counted once, and all are."""
        verifier = verifierOf(workload)
        completed = [verifier.feed(piece) for piece in split(sent(workload), cuts)]
        assert sum(completed) == verifier.verified == workload.messagesPerConnection

    def test_one_byte_at_a_time(self) -> None:
        """A message counts with its last byte, not before."""
        verifier = verifierOf(Workload())
        data = sent(Workload())
        completed = [verifier.feed(data[at : at + 1]) for at in range(len(data))]
        assert [at for at, n in enumerate(completed, 1) if n] == [22, 44]

    def test_blocks_of_a_message_count_once(self) -> None:
        """A message of several blocks is one message."""
        workload = Workload(size=2 * BLOCK_SIZE + 5, count=2)
        verifier = verifierOf(workload)
        assert sum(verifier.feed(block) for block in blocksOf(workload)) == 2

    @given(
        st.integers(0, 2 * (BLOCK_SIZE + 100) - 1),
        st.integers(1, 255),
        st.lists(st.integers(0, 2 * (BLOCK_SIZE + 100)), max_size=5),
    )
    def test_an_altered_byte_is_found(self, at: int, flip: int, cuts: list[int]) -> None:
        """One altered byte anywhere is reported with message, offset and both bytes."""
        size = BLOCK_SIZE + 100
        workload = Workload(size=size, count=2)
        good = sent(workload)
        bad = bytearray(good)
        bad[at] ^= flip
        verifier = verifierOf(workload)
        completed = 0
        with pytest.raises(EchoMismatch) as caught:  # noqa: PT012 - whichever piece it is
            for piece in split(bytes(bad), cuts):
                completed += verifier.feed(piece)
        completed += caught.value.completed
        assert completed == at // size
        assert (caught.value.message, caught.value.offset) == (at // size + 1, at % size)
        assert caught.value.expected[0] == good[at]
        assert caught.value.received[0] == bad[at]

    @pytest.mark.parametrize("size", [1, 7, 100, BLOCK_SIZE * 2 + 9])
    @pytest.mark.parametrize(
        "damage",
        [
            lambda data, at: data[:at] + data[at + 1 :],
            lambda data, at: data[: at + 1] + data[at:],
            lambda data, at: (
                data[:at] + data[at + 1 : at + 2] + data[at : at + 1] + data[at + 2 :]
            ),
        ],
        ids=["lost", "repeated", "swapped"],
    )
    def test_damage_is_noticed(self, size: int, damage: Callable[[bytes, int], bytes]) -> None:
        """A lost, repeated or swapped byte is a fault or leaves messages open."""
        workload = Workload(size=size, count=20)
        good = sent(workload)
        for at in range(0, len(good) - 1, max(1, len(good) // 50)):
            bad = damage(good, at)
            if bad == good:
                continue  # two equal neighbours swapped: the same stream
            verifier = verifierOf(workload)
            try:
                verifier.feed(bad)
            except StreamFault:
                continue
            assert verifier.verified < 20

    def test_messages_of_another_connection_are_noticed(self) -> None:
        """What belongs to connection 2 does not pass on connection 1."""
        workload = Workload(size=64, count=1)
        with pytest.raises(EchoMismatch) as caught:
            verifierOf(workload, 1).feed(sent(workload, 2))
        assert (caught.value.message, caught.value.offset) == (1, 3)

    def test_in_step_with_what_goes_out(self) -> None:
        """Blocks go out and come back in turns, with more out than is kept."""
        workload = Workload(size=KEPT_SIZE // 4, count=40)
        blocks = blocksOf(workload)
        verifier = StreamVerifier(workload.script(1))
        out = back = 0
        for ahead in [1, 3, 20, 2, 0, 9, 0, 12, 0]:
            while out < len(blocks) and out - back < ahead:
                verifier.sent(blocks[out])
                out += 1
            while back < out - ahead // 3:
                assert verifier.feed(blocks[back]) == 1
                back += 1
        assert (back, verifier.verified) == (40, 40)

    @given(
        st.sampled_from(
            [
                Workload(count=40),
                Workload(size=1, count=40),
                Workload(size=64, count=40),
                Workload(size=BLOCK_SIZE + 1, count=20),
            ]
        ),
        st.integers(0, 39),
        st.sampled_from(["first byte", "last byte", "short", "long", "next", "empty"]),
    )
    def test_an_exchange_is_the_whole_block(
        self, workload: Workload, at: int, damage: str
    ) -> None:
        """Only the block that is out is exchanged. Other data changes nothing."""
        blocks = blocksOf(workload)
        verifier = StreamVerifier(workload.script(1))
        verifier.sent(blocks[0])
        at = min(at, len(blocks) - 2)
        for index in range(at):
            assert verifier.exchange(blocks[index]) == blocks[index + 1]
        block = blocks[at]
        bad = {
            "first byte": bytes([block[0] ^ 1]) + block[1:],
            "last byte": block[:-1] + bytes([block[-1] ^ 1]),
            "short": block[:-1],
            "long": block + b"x",
            "next": blocks[at + 1],
            "empty": b"",
        }[damage]
        before = verifier.verified
        if bad != block:
            assert verifier.exchange(bad) is None
        assert verifier.verified == before
        verifier.feed(block)
        with pytest.raises(ExtraBytes):
            verifier.feed(b"x")

    def test_an_exchange_needs_the_whole_block_at_once(self) -> None:
        """The rest of a block is not a block, even if it has the same bytes."""
        verifier = StreamVerifier(Workload(messages=(b"aa", b"a")).script(1))
        verifier.sent(b"aa")
        assert verifier.feed(b"a") == 0
        assert verifier.exchange(b"a") is None
        assert verifier.exchange(b"aa") is None
        assert verifier.feed(b"a") == 1

    def test_an_exchange_with_more_out(self) -> None:
        """A reply is no exchange while another message is out."""
        verifier = verifierOf(Workload())
        assert verifier.exchange(DEFAULT_MESSAGES[0]) is None
        assert verifier.feed(DEFAULT_MESSAGES[0]) == 1
        assert verifier.exchange(DEFAULT_MESSAGES[1]) == DEFAULT_MESSAGES[0]

    def test_nothing_is_out(self) -> None:
        """What nobody asked for is not exchanged."""
        verifier = StreamVerifier(Workload().script(1))
        assert verifier.exchange(DEFAULT_MESSAGES[0]) is None
        assert verifier.exchange(b"") is None

    def test_what_was_not_sent_yet_is_extra(self) -> None:
        """A peer that knows what comes next has still to wait for it."""
        verifier = StreamVerifier(Workload().script(1))
        verifier.sent(DEFAULT_MESSAGES[0])
        with pytest.raises(ExtraBytes):
            verifier.feed(b"".join(DEFAULT_MESSAGES))

    def test_extra_bytes(self) -> None:
        """More than was sent is a fault of its own, and costs no message."""
        verifier = verifierOf(Workload())
        with pytest.raises(ExtraBytes) as caught:
            verifier.feed(b"".join(DEFAULT_MESSAGES) + b"more")
        assert (caught.value.completed, caught.value.received) == (2, b"more")

    def test_faults_show_bytes_escaped(self) -> None:
        """What a peer sent reaches no terminal as it is."""
        verifier = verifierOf(Workload(messages=(b"hello",)))
        with pytest.raises(EchoMismatch) as caught:
            verifier.feed(b"\x1b[2Jx")
        assert "\x1b" not in str(caught.value)
        assert str(caught.value) == (
            "message 1, offset 0: expected b'hello', received b'\\x1b[2Jx'"
        )


def test_more_bytes_than_the_results_can_count() -> None:
    """They are refused: the JSON would be, when it is read."""
    with pytest.raises(ValueError, match=r"^count: "):
        Workload(size=1 << 40, count=999_999_999)
