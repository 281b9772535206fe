"""
Misbehaving on purpose: what becomes of the bytes and when they go, pure; and the
faulty echo over real sockets.
"""

import errno
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise
from os import urandom
from pathlib import Path
from random import Random
from socket import SO_RCVBUF, SOL_SOCKET
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from peers import (
    TRANSPORTS,
    Certificates,
    Connect,
    FakeTimeReactor,
    Peer,
    Transport,
    eventually,
    portOf,
    serving,
)
from programs import LIMIT
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.logger import capturedLogs, formatEvent

import echofactory.server.faults.echo
from echofactory import EchoService, Faults, FaultyEchoFactory, Limits, Trace
from echofactory.cli.parsers import parseFault
from echofactory.net.transport import lowestTransport
from echofactory.server.faults.echo import LINGER_TIMEOUT
from echofactory.server.faults.settings import (
    CHUNK_OVERHEAD,
    DAMAGED_PER_STEP,
    MAX_CATCH_UP,
    TICK,
    ConnectionFaults,
    Damage,
    DelayQueue,
    Stall,
)
from echofactory.server.idle import unsent

pytestmark = pytest.mark.reactors

CHANCES = st.sampled_from([0.0, 1e-6, 0.01, 0.3, 1.0])
DAMAGES = st.builds(
    Faults,
    corrupt=CHANCES,
    drop=CHANCES,
    repeat=CHANCES,
    truncate=st.none() | st.integers(1, 3000),
)


def damaged(faults: Faults, seed: int, *chunks: bytes) -> bytes:
    damage = Damage(faults, Random(seed))
    return b"".join(map(damage.feed, chunks))


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


class TestFaults:
    @pytest.mark.parametrize(
        ("field", "value", "said"),
        [
            ("delay", -1.0, "delay: -1.0 is not 0 s or more"),
            ("delay", float("nan"), "delay: nan is not"),
            ("delay", float("inf"), "delay: inf is not"),
            (
                "jitter",
                0.005,
                "jitter: 5ms is more than the delay, which is 0ms. The jitter varies",
            ),
            ("throttle", 0, "throttle: 0 is not 1 byte or more"),
            ("dribble", 0, "dribble: 0 is not"),
            ("truncate", -5, "truncate: -5 is not"),
            ("corrupt", 1.5, "corrupt: 1.5 is not a probability from 0 to 1"),
            ("drop", -0.1, "drop: -0.1 is not"),
            ("repeat", float("nan"), "repeat: nan is not"),
            ("reset", 2, "reset: 2 is not"),
            ("refuse", -1, "refuse: -1 is not"),
        ],
    )
    def test_nonsense(self, field: str, value: Any, said: str) -> None:
        """It is refused, with the field and the value."""
        with pytest.raises(ValueError, match=f"^{field}: ") as caught:
            Faults(**{field: value})
        assert str(caught.value).startswith(said)

    @pytest.mark.parametrize(
        ("lasts", "every"), [(0, 1), (1, 1), (2, 1), (-1, 1), (float("nan"), 1)]
    )
    def test_stalls_that_are_none(self, lasts: float, every: float) -> None:
        """A stall ends before the next."""
        with pytest.raises(ValueError, match=r"^stall: "):
            Stall(lasts, every)

    def test_as_text(self) -> None:
        """It is written as the command line takes it."""
        faults = Faults(
            delay=0.02, jitter=0.0055, throttle=1 << 20, dribble=3, corrupt=1e-6, drop=0.5,
            repeat=1.0, truncate=65536, reset=0.01, stall=Stall(1.0, 10.0), refuse=0.1,
        )  # fmt: skip
        read: dict[str, Any] = dict(map(parseFault, str(faults).split(",")))
        assert len(read) == 11
        assert Faults(**read) == faults
        assert str(Faults()) == ""


class TestDamage:
    @given(
        DAMAGES, st.integers(0, 1 << 32), st.binary(max_size=4000),
        st.lists(st.integers(0, 4000), max_size=20),
    )  # fmt: skip
    def test_chunks_make_no_difference(
        self, faults: Faults, seed: int, data: bytes, cuts: list[int]
    ) -> None:
        """The same seed and the same stream give the same output, however it is cut."""
        assert damaged(faults, seed, *pieces(data, cuts)) == damaged(faults, seed, data)

    @given(st.binary(max_size=300))
    def test_a_byte_at_a_time(self, data: bytes) -> None:
        """The same, at its finest."""
        faults = Faults(corrupt=0.1, drop=0.1, repeat=0.1)
        single = [data[at : at + 1] for at in range(len(data))]
        assert damaged(faults, 1, *single) == damaged(faults, 1, data)

    @given(st.binary(max_size=1000), st.integers())
    def test_corrupted_bytes_differ(self, data: bytes, seed: int) -> None:
        """Always: with a chance of 1, every byte does."""
        result = damaged(Faults(corrupt=1), seed, data)
        assert len(result) == len(data)
        assert all(a != b for a, b in zip(data, result, strict=True))

    @given(st.binary(max_size=1000))
    def test_certainties(self, data: bytes) -> None:
        """All dropped, all repeated, or as it was."""
        assert damaged(Faults(drop=1), 0, data) == b""
        assert damaged(Faults(repeat=1), 0, data) == bytes(
            byte for byte in data for _ in range(2)
        )
        assert damaged(Faults(), 0, data) == data

    @given(st.binary(max_size=3000), st.integers(1, 2000), st.integers())
    def test_truncated(self, data: bytes, size: int, seed: int) -> None:
        """What was to come is cut off after so many bytes, other damage included."""
        whole = damaged(Faults(repeat=0.3, drop=0.2), seed, data)
        damage = Damage(Faults(repeat=0.3, drop=0.2, truncate=size), Random(seed))
        assert damage.feed(data) == whole[:size]
        assert damage.truncated == (len(whole) >= size)

    @pytest.mark.parametrize("chance", [0.5, 1e-3, 1e-5])
    def test_as_often_as_asked(self, chance: float) -> None:
        """Within five standard deviations."""
        size = int(min(20_000 / chance, 1 << 22))
        expected = size * chance
        margin = 5 * (expected * (1 - chance)) ** 0.5
        data = bytes(size)
        assert size - len(damaged(Faults(drop=chance), 3, data)) == pytest.approx(
            expected, abs=margin
        )
        longer = len(damaged(Faults(repeat=chance), 4, data)) - size
        assert longer == pytest.approx(expected, abs=margin)
        changed = damaged(Faults(corrupt=chance), 5, data)
        assert size - changed.count(0) == pytest.approx(expected, abs=margin)

    def test_small_chances_cost_little(self) -> None:
        """A gigabyte at one in a hundred million takes few draws, and no copy but those."""

        class Counting(Random):
            drawn = 0

            def random(self) -> float:
                self.drawn += 1
                return super().random()

        counting = Counting(1)
        damage = Damage(Faults(corrupt=1e-8, drop=1e-300), counting)
        block = bytes(1 << 20)
        same = sum(damage.feed(block) is block for _ in range(1024))
        assert 980 < same < 1024
        assert counting.drawn < 50


def holding(faults: Faults) -> DelayQueue:
    return DelayQueue(faults, Random(1), Damage(faults, Random(1)))


class TestDelayQueue:
    @staticmethod
    def sent(
        queue: DelayQueue, arrivals: list[tuple[float, bytes]]
    ) -> list[tuple[float, bytes]]:
        """Return what goes when, by a clock that stops only where something happens."""
        gone = []
        now = 0.0
        waiting = list(arrivals)
        while waiting or queue.size:
            at = queue.nextAt(now) if queue.size else float("inf")
            if waiting and waiting[0][0] <= max(at, now):
                now, data = waiting.pop(0)
                queue.put(data, now)
                continue
            now = max(at, now)
            piece = queue.take(now)
            assert piece
            gone.append((now, piece))
        return gone

    ARRIVALS = st.lists(
        st.tuples(st.floats(0, 0.1), st.binary(min_size=1, max_size=300)),
        min_size=1, max_size=15,
    )  # fmt: skip

    @given(
        ARRIVALS,
        st.builds(
            Faults,
            delay=st.just(0.05),
            jitter=st.sampled_from([0.0, 0.02, 0.05]),
            throttle=st.sampled_from([None, 1000, 100_000]),
            dribble=st.sampled_from([None, 1, 7]),
            stall=st.sampled_from([None, Stall(0.3, 1.0)]),
        ),
    )
    def test_all_of_it_in_order_and_in_time(
        self, gaps: list[tuple[float, bytes]], faults: Faults
    ) -> None:
        """Every byte goes, in order, none too early, in pieces as small as asked."""
        arrivals = []
        now = 0.0
        for gap, data in gaps:
            now += gap
            arrivals.append((now, data))
        queue = holding(faults)
        gone = self.sent(queue, arrivals)
        assert b"".join(piece for _, piece in gone) == b"".join(data for _, data in arrivals)
        assert queue.size == 0
        first, data = gone[0]
        assert first >= arrivals[0][0] + faults.delay - faults.jitter
        for (earlier, _), (later, _) in pairwise(gone):
            assert earlier <= later
        if faults.dribble:
            assert max(len(piece) for _, piece in gone) <= faults.dribble
        if faults.throttle:
            size = sum(len(piece) for _, piece in gone)
            allowed = faults.throttle * (gone[-1][0] - first + MAX_CATCH_UP + TICK) + 1
            assert size <= allowed
        if faults.stall:
            for time, _ in gone:
                assert time % 1.0 <= 0.7 or time % 1.0 > 1 - 1e-9

    def test_jitter(self) -> None:
        """Chunks that come one at a time are delayed for delay plus or minus jitter, evenly."""
        queue = holding(Faults(delay=0.02, jitter=0.005))
        arrivals = [(float(number), b"x") for number in range(1000)]
        gone = self.sent(queue, arrivals)
        waits = [at - now for (now, _), (at, _) in zip(arrivals, gone, strict=True)]
        assert 0.015 <= min(waits) < 0.0155
        assert 0.0245 < max(waits) <= 0.025
        assert sum(waits) / len(waits) == pytest.approx(0.02, abs=0.001)

    def test_throttled_to_the_byte(self) -> None:
        """A megabyte at 100,000 bytes a second takes ten seconds less the last piece."""
        queue = holding(Faults(throttle=100_000))
        gone = self.sent(queue, [(0.0, bytes(1_000_000))])
        assert gone[-1][0] == pytest.approx(10.0 - TICK)

    def test_no_burst_after_a_wait(self) -> None:
        """Who could not send for long has lost that time."""
        queue = holding(Faults(throttle=1000))
        queue.put(bytes(10_000), 0.0)
        burst = 0
        while piece := queue.take(5.0):
            burst += len(piece)
        assert burst <= 1000 * (MAX_CATCH_UP + 2 * TICK)

    @pytest.mark.parametrize(
        "faults",
        [
            Faults(corrupt=1),
            Faults(drop=1),
            Faults(corrupt=0.7, repeat=0.5, truncate=70_000),
            Faults(repeat=1, dribble=700),
            Faults(drop=0.5, throttle=1_000_000),
        ],
        ids=str,
    )
    def test_damaged_a_little_at_a_time(self, faults: Faults) -> None:
        """What costs much is done in many small parts, and comes to the same."""
        queue = holding(faults)
        data = urandom(50_000)
        queue.put(data[:1], 0.0)
        queue.put(data[1:], 0.0)
        now = 0.0
        pieces = []
        while queue.size:
            now = max(now, queue.nextAt(now))
            pieces.append(queue.take(now))
        assert b"".join(pieces) == damaged(faults, 1, data)
        assert len(pieces) >= 50_000 / 2 / DAMAGED_PER_STEP
        assert max(map(len, pieces)) <= 2 * DAMAGED_PER_STEP

    def test_chunks_have_a_cost(self) -> None:
        """Many small ones take memory in the queue, too."""
        queue = holding(Faults(delay=1.0))
        for _ in range(10):
            queue.put(b"x", 0.0)
        assert queue.size == 10 * (1 + CHUNK_OVERHEAD)

    def test_stall(self) -> None:
        """It is the end of each period, and the same for all."""
        stall = Stall(1.0, 10.0)
        assert stall.after(3.0) == 3.0
        assert stall.after(8.9) == 8.9
        assert stall.after(9.0) == stall.after(9.9) == 10.0
        assert stall.after(19.5) == 20.0


class TestConnectionFaults:
    def test_the_same_again(self) -> None:
        """It comes from the seed and the number, and from nothing else."""
        faults = Faults(refuse=0.3, reset=0.3, corrupt=0.1)

        def fates(seed: int) -> list[tuple[bool, bool, bytes]]:
            return [
                (fate.refused, fate.reset, fate.damage.feed(bytes(100)))
                for fate in (ConnectionFaults(faults, seed, number) for number in range(1, 200))
            ]

        assert fates(1) == fates(1) != fates(2)
        assert 30 < sum(refused for refused, _, _ in fates(1)) < 90
        assert 30 < sum(reset for _, reset, _ in fates(1)) < 90
        assert len({data for _, _, data in fates(1)}) == 199


def targetOf(service: EchoService) -> str:
    return f"tcp:127.0.0.1:{portOf(service.addresses[0])}"


def pending(reactor: Any) -> list[Any]:
    """Return the calls of the faulty echo's that the reactor has still to make."""
    return [
        call
        for call in reactor.getDelayedCalls()
        if "FaultyEcho" in getattr(call.func, "__qualname__", "")
    ]


async def turns(reactor: Any, count: int) -> None:
    """Let the reactor turn, a millisecond each."""
    for _ in range(count):
        turn: Deferred[None] = Deferred()
        reactor.callLater(0.001, turn.callback, None)
        await turn


@ensureDeferred
async def test_bytes_out(reactor: Any, connect: Connect) -> None:
    """What is in the queue is not sent; a lost connection leaves no call behind."""
    factory = FaultyEchoFactory(reactor, Faults(delay=3600))
    async with serving(reactor, factory=factory) as service:
        peer = await connect(targetOf(service))
        peer.transport.write(b"12345")
        await eventually(reactor, lambda: factory.counts().bytesIn == 5)
        assert factory.counts().bytesOut == 0
        assert len(pending(reactor)) == 1
        peer.transport.abortConnection()
        await eventually(reactor, lambda: not factory.connections)
        assert (factory.counts().bytesIn, factory.counts().bytesOut) == (5, 0)
        assert pending(reactor) == []


@pytest.mark.parametrize(
    ("drain", "delay", "received", "lost"),
    [(LIMIT, 0.1, b"12345", "done"), (0.0, 3600.0, b"", "aborted")],
    ids=["drained", "cut"],
)
@ensureDeferred
async def test_a_stop_with_something_held(
    reactor: Any, connect: Connect, drain: float, delay: float, received: bytes, lost: str
) -> None:
    """The drain waits for what is owed; without one it is cut, and no call is left behind."""
    factory = FaultyEchoFactory(reactor, Faults(delay=delay))
    async with serving(reactor, factory=factory, drain=drain) as service:
        peer = await connect(targetOf(service))
        peer.transport.write(b"12345")
        peer.transport.loseWriteConnection()
        await eventually(reactor, lambda: factory.counts().bytesIn == 5)
        await service.stopService()
        assert factory.counts().lost == {lost: 1}
        await peer.until(reactor, lambda: peer.ended)
        assert peer.received == received
    assert pending(reactor) == []


@ensureDeferred
async def test_a_stall(reactor: Any, connect: Connect) -> None:
    """While it lasts, nothing is sent on any connection; at its end, all that came."""
    fake: Any = FakeTimeReactor(reactor)
    factory = FaultyEchoFactory(fake, Faults(stall=Stall(0.4, 1.0)))
    async with serving(reactor, factory=factory) as service:
        peers = [await connect(targetOf(service)) for _ in range(2)]
        fake.advance(0.55)
        for peer in peers:
            peer.transport.write(b"in time")
            await peer.untilReceived(reactor, 7)
        fake.advance(0.1)
        for peer in peers:
            peer.transport.write(b", late")
        await eventually(reactor, lambda: factory.counts().bytesIn == 2 * 13)
        fake.advance(0.3)
        await turns(reactor, 20)
        assert factory.counts().bytesOut == 2 * 7
        fake.advance(0.1)
        for peer in peers:
            await peer.untilReceived(reactor, 13)


class Sending:
    """
    A transport's socket, and what the kernel is given at a time.

    @ivar sizes: bytes.
    @ivar full: whether the kernel takes nothing.
    """

    def __init__(self, transport: Any) -> None:
        self._socket = transport.socket
        self.sizes: list[int] = []
        self.full = False
        transport.socket = self

    def send(self, data: bytes) -> int:
        if self.full:
            raise BlockingIOError(errno.EAGAIN, "full")
        sent: int = self._socket.send(data)
        self.sizes.append(sent)
        return sent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)


@asynccontextmanager
async def dribbling(
    reactor: Any, connect: Connect, lane: str
) -> AsyncIterator[tuple[Any, Any, Sending]]:
    """Dribble 3 bytes at a time. Yield the peer, the echo, and what the echo sends."""
    factory = FaultyEchoFactory(reactor, Faults(dribble=3))
    async with serving(reactor, f"{lane}tcp:0:interface=127.0.0.1", factory=factory) as service:
        peer = await connect(targetOf(service))
        await eventually(reactor, lambda: factory.connections)
        (echo,) = factory.connections
        yield peer, echo, Sending(echo.transport)


@pytest.mark.parametrize("lane", ["", "express:"], ids=["plain", "express"])
@ensureDeferred
async def test_dribble(reactor: Any, connect: Connect, lane: str) -> None:
    """No more goes to the kernel at a time, whatever comes while some of it is still to go."""
    async with dribbling(reactor, connect, lane) as (peer, _, sending):
        for arrival in range(1, 11):
            peer.transport.write(bytes(10))
            await peer.untilReceived(reactor, 10 * arrival)
        assert sending.sizes == [3, 3, 3, 1] * 10
        for _ in range(50):
            peer.transport.write(bytes(10))
            await turns(reactor, 1)
        await peer.untilReceived(reactor, 600)
        assert sum(sending.sizes) == 600
        assert max(sending.sizes) == 3


@pytest.mark.parametrize("lane", ["", "express:"], ids=["plain", "express"])
@ensureDeferred
async def test_dribble_to_a_peer_that_is_slow(
    reactor: Any, connect: Connect, lane: str
) -> None:
    """While the kernel takes nothing, no more than one piece waits for it."""
    async with dribbling(reactor, connect, lane) as (peer, echo, sending):
        sending.full = True
        peer.transport.write(bytes(30))
        await eventually(reactor, lambda: echo.bytesOut)
        await turns(reactor, 20)
        assert echo.bytesOut == 3
        sending.full = False
        await peer.untilReceived(reactor, 30)
        assert sending.sizes == [3] * 10


@pytest.mark.parametrize("lane", ["", "express:"], ids=["plain", "express"])
@ensureDeferred
async def test_much_damage_holds_up_nobody(reactor: Any, connect: Connect, lane: str) -> None:
    """While one connection's bytes are damaged, another is served."""
    factory = FaultyEchoFactory(reactor, Faults(corrupt=1))
    async with serving(reactor, f"{lane}tcp:0:interface=127.0.0.1", factory=factory) as service:
        one, other = [await connect(targetOf(service)) for _ in range(2)]
        one.transport.write(bytes(1 << 20))
        await eventually(reactor, lambda: factory.counts().bytesIn)
        for asked in range(1, 4):
            before = factory.counts().bytesOut
            other.transport.write(b"x")
            await other.untilReceived(reactor, asked)
            assert factory.counts().bytesOut - before < 20 * DAMAGED_PER_STEP
        assert len(one.received) < 1 << 19


@pytest.mark.parametrize(
    "faults", [Faults(throttle=1), Faults(delay=3600), Faults(dribble=1, stall=Stall(9, 9.1))],
    ids=str,
)  # fmt: skip
@ensureDeferred
async def test_bounded(reactor: Any, connect: Connect, faults: Faults) -> None:
    """A peer that sends and does not get its bytes yet is not read from."""
    factory = FaultyEchoFactory(reactor, faults)
    async with serving(reactor, factory=factory) as service:
        peer = await connect(targetOf(service))
        peer.transport.write(bytes(32 << 20))
        # What a chunk costs beside its bytes counts too.
        await eventually(reactor, lambda: factory.counts().bytesIn > 700_000)
        await turns(reactor, 50)
        assert factory.counts().bytesIn < 5 << 18


@ensureDeferred
async def test_a_peer_that_does_not_read(reactor: Any, connect: Connect) -> None:
    """What the transport does not take stays in the queue. It is all sent later."""
    factory = FaultyEchoFactory(reactor, Faults())
    async with serving(reactor, factory=factory) as service:
        peer = await connect(targetOf(service))
        peer.transport.pauseProducing()
        data = urandom(32 << 20)
        peer.transport.write(data)

        def queue() -> int:
            counts = factory.counts()
            return counts.bytesIn - counts.bytesOut

        await eventually(reactor, lambda: queue() > 700_000)
        await turns(reactor, 50)
        assert queue() < 5 << 18
        peer.transport.resumeProducing()
        await peer.untilReceived(reactor, len(data))
        assert peer.received == data


@ensureDeferred
async def test_half_close(reactor: Any, connect: Connect) -> None:
    """Everything that is owed is sent before closing, however slowly."""
    faults = Faults(throttle=100_000, dribble=50, delay=0.01, jitter=0.01)
    factory = FaultyEchoFactory(reactor, faults)
    async with serving(reactor, factory=factory) as service:
        peer = await connect(targetOf(service))
        data = urandom(20_000)
        peer.transport.write(data)
        peer.transport.loseWriteConnection()
        await peer.until(reactor, lambda: peer.ended)
        assert peer.received == data
        peer.transport.loseConnection()
        await eventually(reactor, lambda: not factory.connections)
        assert factory.counts().lost == {"done": 1}
        assert factory.counts().bytesOut == len(data)


each = pytest.mark.parametrize(
    "transport", [each for each in TRANSPORTS if "6" not in each.name], ids=str
)


@each
@ensureDeferred
async def test_truncated_in_order(
    reactor: Any,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
) -> None:
    """
    So many bytes and then the end of the stream; no reset, though the peer was still
    sending, which could overtake them.
    """
    monkeypatch.setattr(echofactory.server.faults.echo, "LINGER_TIMEOUT", LIMIT)
    factory = FaultyEchoFactory(reactor, Faults(truncate=100_000, delay=0.01))
    async with serving(
        reactor, transport.listen(certificates, folder), factory=factory
    ) as service:
        peer = await connect(transport.target(certificates, service.addresses[0]))
        data = urandom(2 << 20)
        peer.transport.write(data)
        await peer.until(reactor, lambda: peer.ended)
        assert peer.received == data[:100_000]
        peer.transport.loseConnection()
        await peer.untilLost(reactor)
        assert peer.lost is not None
        assert peer.lost.check(ConnectionDone)
        await eventually(reactor, lambda: not factory.connections)
        assert factory.counts().bytesOut == 100_000
        assert pending(reactor) == []


@pytest.mark.parametrize("stops", [False, True], ids=["reads", "stops"])
@pytest.mark.parametrize(
    "transport",
    [each for each in TRANSPORTS if each.name.endswith(("tcp", "ssl"))], ids=str,
)  # fmt: skip
@ensureDeferred
async def test_truncated_for_a_slow_reader(
    reactor: Any,
    connect: Connect,
    stops: bool,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
) -> None:
    """It gets all that it is owed, however long it takes; one that stops reading is cut off."""
    fake: Any = FakeTimeReactor(reactor)
    size = 1 << 20
    factory = FaultyEchoFactory(fake, Faults(truncate=size))
    async with serving(
        reactor, transport.listen(certificates, folder), factory=factory
    ) as service:
        peer = await connect(transport.target(certificates, service.addresses[0]))
        # Most of what it is owed waits on the other side.
        lowestTransport(peer.transport).socket.setsockopt(SOL_SOCKET, SO_RCVBUF, 1 << 15)
        peer.transport.write(bytes(size))
        await eventually(reactor, lambda: factory.connections)
        (echo,) = factory.connections
        while not (peer.ended or (stops and factory.counts().bytesOut == size)):
            waited = unsent(echo)
            while not peer.ended and unsent(echo) == waited:
                had = len(peer.received)
                peer.transport.resumeProducing()
                await peer.until(reactor, partial(readOn, peer, had))
                peer.transport.pauseProducing()
            if not peer.ended:
                # It has read some of it, in the last moment.
                fake.advance(LINGER_TIMEOUT)
        if stops:
            fake.advance(LINGER_TIMEOUT)
            fake.advance(LINGER_TIMEOUT)
            await eventually(reactor, lambda: factory.counts().lost == {"aborted": 1})
        else:
            assert fake.seconds() > LINGER_TIMEOUT
            assert len(peer.received) == size
            peer.transport.loseConnection()
            await eventually(reactor, lambda: factory.counts().lost == {"done": 1})
        assert pending(fake) == []


def readOn(peer: Peer, had: int) -> bool:
    return peer.ended or len(peer.received) > had


@ensureDeferred
async def test_a_peer_that_lingers(reactor: Any, connect: Connect) -> None:
    """One that does not close after its stream was cut off is cut off itself."""
    fake: Any = FakeTimeReactor(reactor)
    factory = FaultyEchoFactory(fake, Faults(truncate=1))
    async with serving(reactor, factory=factory) as service:
        peer = await connect(targetOf(service))
        peer.transport.write(b"xyz")
        await peer.until(reactor, lambda: peer.ended)

        def isCut() -> bool:
            # An acknowledgement may be late, by the real clock.
            fake.advance(LINGER_TIMEOUT)
            return not factory.connections

        await eventually(reactor, isCut)
        assert peer.received == b"x"
        assert factory.counts().lost == {"aborted": 1}


@pytest.mark.parametrize("size", [1, 100_000])
@each
@ensureDeferred
async def test_reset(
    reactor: Any,
    connect: Connect,
    size: int,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
) -> None:
    """
    Its first bytes cost the connection; over TLS too it is no orderly end. A UNIX
    socket knows no reset: that it is gone is all.
    """
    factory = FaultyEchoFactory(reactor, Faults(reset=1))
    async with serving(
        reactor, transport.listen(certificates, folder), factory=factory
    ) as service:
        peer = await connect(transport.target(certificates, service.addresses[0]))
        peer.transport.write(bytes(size))
        await peer.until(reactor, lambda: peer.ended)
        assert peer.received == b""
        if "unix" not in transport.name:
            assert peer.lost is not None
            assert peer.lost.check(ConnectionLost)
        await eventually(reactor, lambda: factory.counts().lost == {"aborted": 1})


def answered(peer: Peer) -> bool:
    return peer.ended or len(peer.received) > 0


@ensureDeferred
async def test_refused(reactor: Any, connect: Connect) -> None:
    """
    Some are closed at once, and counted; so are those over a limit, which take
    nobody's number.
    """
    factory = FaultyEchoFactory(reactor, Faults(refuse=0.5), 1, Limits(connections=3))
    refused: list[bool] = []
    while refused.count(False) < 3:
        refused.append(ConnectionFaults(factory.faults, 1, len(refused) + 1).refused)
    assert True in refused
    async with serving(reactor, factory=factory) as service:
        peers = []
        for _ in refused:
            peer = await connect(targetOf(service))
            peer.transport.write(b"x")
            await peer.until(reactor, partial(answered, peer))
            assert peer.ended == (peer.received == b"")
            peers.append(peer)
        assert [peer.ended for peer in peers] == refused
        over = await connect(targetOf(service))
        await over.until(reactor, lambda: over.ended)
        assert factory.counts().accepted == 3
        assert factory.counts().refused == {"fault": refused.count(True), "connections": 1}


@ensureDeferred
async def test_trace(reactor: Any, connect: Connect) -> None:
    """Each write is told as it goes out, and none has more than a dribble's bytes."""
    faults = Faults(dribble=3, repeat=1.0)
    factory = FaultyEchoFactory(reactor, faults, 9, trace=Trace.DATA)
    with capturedLogs() as events:
        async with serving(reactor, factory=factory) as service:
            peer = await connect(targetOf(service))
            peer.transport.write(b"hello")
            await peer.untilReceived(reactor, 10)
            assert peer.received == b"hheelllloo"
            peer.transport.loseConnection()
            await eventually(reactor, lambda: not factory.connections)
    told = [
        formatEvent(event)
        for event in events
        if event["log_namespace"].startswith("echofactory.")
    ]
    assert told[0] == ("misbehaving on purpose: --fault dribble=3,repeat=1.0 --fault-seed 9")
    echoed = [line.split(" to (")[0] for line in told if line.startswith("echoing")]
    assert echoed == ["echoing b'hhe'", "echoing b'ell'", "echoing b'llo'", "echoing b'o'"]


def test_any_seed(reactor: Any) -> None:
    """Unless it is given, it is another each time."""
    seeds = {FaultyEchoFactory(reactor, Faults()).seed for _ in range(10)}
    assert len(seeds) > 5
