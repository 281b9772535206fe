"""
What every echo does, whatever it is served by and whatever carries it: one set of tests,
which each implementation inherits.
"""

from os import urandom
from pathlib import Path
from typing import Any

import pytest
from peers import TRANSPORTS, Certificates, Connect, Target, Transport, eventually, serving
from pytest_twisted import ensureDeferred

from echofactory import EchoFactory, EchoService, Limits, Workload, probe
from echofactory.express.epoll import ExpressEPollReactor
from echofactory.express.tls import LaneTLS

halfClosing = pytest.mark.parametrize(
    "transport", [each for each in TRANSPORTS if each.halfCloses], indirect=True, ids=str
)


class EchoContract:
    """The tests. Each of them runs over each transport."""

    def makeFactory(self, reactor: Any, limits: Limits | None = None) -> EchoFactory:
        """Return a factory of the implementation."""
        raise NotImplementedError

    @ensureDeferred
    async def test_every_byte_comes_back_in_order(
        self, reactor: Any, connect: Connect, target: Target
    ) -> None:
        """More than any buffer holds, written at once."""
        peer = await connect(target)
        data = urandom(4 << 20)
        peer.transport.write(data)
        await peer.untilReceived(reactor, len(data))
        assert peer.received == data
        peer.transport.loseConnection()
        await peer.untilLost(reactor)

    @ensureDeferred
    async def test_small_pieces(self, reactor: Any, connect: Connect, target: Target) -> None:
        """A byte at a time, each awaited."""
        peer = await connect(target)
        for size, byte in enumerate(b"echo", 1):
            peer.transport.write(bytes([byte]))
            await peer.untilReceived(reactor, size)
        assert peer.received == b"echo"
        peer.transport.loseConnection()

    @ensureDeferred
    async def test_counts(
        self, reactor: Any, connect: Connect, target: Target, service: EchoService
    ) -> None:
        """Accepted = open + lost; the bytes of open connections are counted too."""
        peers = [await connect(target) for _ in range(3)]
        for peer in peers:
            peer.transport.write(b"12345")
            await peer.untilReceived(reactor, 5)
        counts = service.factory.counts()
        assert (counts.accepted, counts.open, counts.lost) == (3, 3, {})
        assert (counts.bytesIn, counts.bytesOut) == (15, 15)

        peers[0].transport.loseConnection()
        peers[1].transport.loseConnection()
        peers[2].transport.abortConnection()
        await eventually(reactor, lambda: not service.factory.connections)
        counts = service.factory.counts()
        assert counts.open == 0
        # How an abort looks from the other side is the transport's affair.
        assert counts.lost["done"] >= 2
        assert sum(counts.lost.values()) == 3
        assert (counts.bytesIn, counts.bytesOut) == (15, 15)

    @ensureDeferred
    async def test_one_stalled_reader_holds_up_nobody(
        self, reactor: Any, connect: Connect, target: Target, service: EchoService
    ) -> None:
        """
        A peer that does not read is not read from, the others are served, and it
        gets all it is owed once it reads.
        """
        stalled = await connect(target)
        stalled.transport.pauseProducing()
        data = urandom(16 << 20)
        stalled.transport.write(data)

        other = await connect(target)
        for size in range(1, 20):
            other.transport.write(b"x")
            await other.untilReceived(reactor, size)
        other.transport.loseConnection()
        assert service.factory.counts().bytesIn < len(data)

        stalled.transport.resumeProducing()
        await stalled.untilReceived(reactor, len(data))
        assert stalled.received == data
        stalled.transport.loseConnection()

    @halfClosing
    @ensureDeferred
    async def test_half_close_loses_nothing(
        self, reactor: Any, connect: Connect, target: Target, service: EchoService
    ) -> None:
        """The end of input is not the end of output: the whole tail comes, then the end."""
        peer = await connect(target)
        peer.transport.pauseProducing()
        data = urandom(8 << 20)
        peer.transport.write(data)
        peer.transport.loseWriteConnection()
        await eventually(reactor, lambda: service.factory.counts().bytesIn > 1 << 16)
        peer.transport.resumeProducing()
        await peer.until(reactor, lambda: peer.ended)
        assert peer.received == data
        peer.transport.loseConnection()
        await eventually(reactor, lambda: not service.factory.connections)
        assert service.factory.counts().lost == {"done": 1}

    @halfClosing
    @ensureDeferred
    async def test_half_close_at_once(
        self, reactor: Any, connect: Connect, target: Target, service: EchoService
    ) -> None:
        """A peer that sends nothing but the end of its stream gets just that."""
        peer = await connect(target)
        peer.transport.loseWriteConnection()
        await peer.until(reactor, lambda: peer.ended)
        assert peer.received == b""
        peer.transport.loseConnection()
        await eventually(reactor, lambda: not service.factory.connections)

    @pytest.mark.parametrize(
        "workload",
        [
            Workload(),
            Workload(size=1, count=100, window=7),
            Workload(size=1 << 20, count=3),
            Workload(size=1000, count=50, window=50),
        ],
        ids=["default", "bytes", "large", "windowed"],
    )
    @ensureDeferred
    async def test_the_probe_verifies(
        self, reactor: Any, target: Target, workload: Workload
    ) -> None:
        """Our client, over the same transport, finds every byte back."""
        results = await probe(reactor, target, workload, connections=10)
        assert results.verdict == "ok", results.examples
        assert results.completed == results.established == 10
        assert workload.messagesPerConnection is not None
        assert workload.bytesPerConnection is not None
        assert results.verified == 10 * workload.messagesPerConnection
        assert results.bytesSent == results.bytesReceived == 10 * workload.bytesPerConnection
        assert results.response.count == results.verified
        assert results.service is None
        assert results.connect.count == 10

    @ensureDeferred
    async def test_the_probe_half_closes(
        self, reactor: Any, target: Target, transport: Transport
    ) -> None:
        """Every byte and then the end of the stream; Twisted's TLS, which has none, says so."""
        workload = Workload(size=300_000, count=2, halfClose=True)
        results = await probe(reactor, target, workload, connections=3)
        # On the express reactor, all connections are on the lane.
        if transport.halfCloses or isinstance(reactor, ExpressEPollReactor):
            assert results.verdict == "ok", results.examples
            assert results.verified == 6
        else:
            assert results.failures == {"tls": 3}
            assert results.sent == 0

    @ensureDeferred
    async def test_a_close_while_paused(
        self, reactor: Any, connect: Connect, target: Target, service: EchoService
    ) -> None:
        """
        A transport that is told to close while its queue is full closes when the
        queue is empty. TLS does that by itself, when the peer's closing alert comes
        in with the data that fill the queue.
        """
        peer = await connect(target)
        peer.transport.write(b"x")
        await peer.until(reactor, lambda: peer.received == b"x")
        (echo,) = service.factory.connections
        peer.transport.pauseProducing()
        peer.transport.write(urandom(16 << 20))
        if isinstance(echo.transport, LaneTLS):
            # It is one transport, and the peer's alert is all that can close it.
            await eventually(reactor, lambda: service.factory.counts().bytesIn > 1 << 16)
            peer.transport.loseConnection()
        else:
            lowest: Any = getattr(echo.transport, "transport", echo.transport)
            await eventually(reactor, lambda: lowest.producerPaused)
            lowest.loseConnection()
        peer.transport.resumeProducing()
        await eventually(reactor, lambda: not service.factory.connections)

    @ensureDeferred
    async def test_a_stop_cuts_what_does_not_end(
        self, reactor: Any, connect: Connect, target: Target, service: EchoService
    ) -> None:
        """Even a peer that never reads is gone when stopService has fired."""
        peer = await connect(target)
        peer.transport.write(b"x")
        await peer.until(reactor, lambda: peer.received == b"x")
        peer.transport.pauseProducing()
        peer.transport.write(urandom(4 << 20))
        await eventually(reactor, lambda: service.factory.counts().bytesIn > 1 << 16)
        await service.stopService()
        assert service.factory.counts().lost == {"aborted": 1}
        peer.transport.resumeProducing()
        await peer.untilLost(reactor)

    @ensureDeferred
    async def test_the_limit_refuses_at_once(
        self,
        reactor: Any,
        connect: Connect,
        transport: Transport,
        certificates: Certificates,
        folder: Path,
    ) -> None:
        """What comes on top of the limit is closed unserved, and counted; room is reused."""
        factory = self.makeFactory(reactor, Limits(connections=1))
        listen = transport.listen(certificates, folder)
        async with serving(reactor, listen, factory=factory) as limited:
            target = transport.target(certificates, limited.addresses[0])
            first = await connect(target)
            await eventually(reactor, lambda: factory.connections)
            second = await connect(target)
            await second.until(reactor, lambda: second.ended)
            assert factory.counts().refused == {"connections": 1}

            first.transport.loseConnection()
            await eventually(reactor, lambda: not factory.connections)
            third = await connect(target)
            third.transport.write(b"x")
            await third.until(reactor, lambda: third.received == b"x")
            third.transport.loseConnection()
            assert factory.counts().accepted == 2
