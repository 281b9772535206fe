"""
What a transport over TLS does with bytes and producers, whether it is Twisted's own or the
lane's: one set of tests, which each implementation inherits.
The peer is Twisted's own, except on the express reactor.
"""

from os import urandom
from typing import Any

import pytest
from peers import Certificates, eventually
from pytest_twisted import ensureDeferred
from tlspeers import Options, OverTLS, Pulled, Scripted, Streaming, echo, sides, versions
from twisted.internet.error import ConnectionDone


class BytesContract(OverTLS):
    """The tests. The subject is one side, and its peer is on the reactor behind."""

    # Bytes

    @versions
    @sides
    @ensureDeferred
    async def test_every_byte_in_order(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """Both ways at once, in sizes around those of records and buffers."""
        subject, peer = Scripted(), Scripted()
        sizes = [1, 2, 1000, 16383, 16384, 16385, 32768, 65536, 65537, 1 << 20, 4 << 20, 3]
        parts = [urandom(size) for size in sizes]
        options = Options(certificates, version)
        async with self.pair(reactor, subject, peer, options, isServer):
            for part in parts:
                subject.transport.write(part)
                peer.transport.write(part)
            size = sum(sizes)
            await peer.untilReceived(reactor, size)
            await subject.untilReceived(reactor, size)
            assert subject.received == peer.received == b"".join(parts)

    @versions
    @ensureDeferred
    async def test_each_size_alone(
        self, reactor: Any, certificates: Certificates, version: Any
    ) -> None:
        """Each is echoed before the next is sent."""
        subject, peer = Scripted(data=echo), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates, version), True):
            for size in [1, 16384, 65536, 16385, 81920, 98304, 1 << 20]:
                part = urandom(size)
                peer.transport.write(part)
                await peer.untilReceived(reactor, size)
                assert peer.received == part
                peer.received.clear()

    @sides
    @ensureDeferred
    async def test_many_small_writes(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        subject, peer = Scripted(), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await eventually(reactor, lambda: subject.isOpen)
            for number in range(5000):
                subject.transport.write(b"%d." % number)
            expected = b"".join(b"%d." % number for number in range(5000))
            await peer.untilReceived(reactor, len(expected))
            assert peer.received == expected

    @sides
    @ensureDeferred
    async def test_every_kind_of_buffer_in_order(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """What is written is sent as it was then, also if the buffer changes later."""
        subject, peer = Scripted(), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await eventually(reactor, lambda: subject.isOpen)
            transport = subject.transport
            for _ in range(3):
                changing = bytearray(b"bb")
                transport.write(b"a")
                transport.write(changing)
                transport.write(b"c")
                transport.writeSequence([b"d", b"", b"e"])
                transport.write(bytearray(b"ff"))
                transport.write(b"")
                transport.writeSequence(iter([b"g"]))
                changing[:] = b"xx"
            await peer.untilReceived(reactor, 27)
            assert peer.received == b"abbcdeffg" * 3

    @ensureDeferred
    async def test_what_is_no_buffer(self, reactor: Any, certificates: Certificates) -> None:
        """It is refused, and the connection goes on."""
        subject, peer = Scripted(), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), True):
            await eventually(reactor, lambda: subject.isOpen)
            with pytest.raises(TypeError):
                subject.transport.write("text")
            with pytest.raises(TypeError):
                subject.transport.writeSequence(["text"])
            subject.transport.write(b"bytes")
            await peer.untilReceived(reactor, 5)
            assert peer.received == b"bytes"

    @versions
    @sides
    @ensureDeferred
    async def test_before_the_handshake(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """What connectionMade writes goes first, and what handshakeCompleted adds next."""

        def made(protocol: Scripted) -> None:
            protocol.transport.write(b"first.")
            protocol.transport.writeSequence([b"second", b"."])

        def completed(protocol: Scripted) -> None:
            protocol.transport.write(b"third.")

        subject, peer = Scripted(made=made, completed=completed), Scripted()
        options = Options(certificates, version)
        async with self.pair(reactor, subject, peer, options, isServer):
            await peer.untilReceived(reactor, 19)
            assert peer.received == b"first.second.third."

    # Backpressure

    @sides
    @ensureDeferred
    async def test_a_slow_reader(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """A streaming producer is paused and resumed, and every byte comes."""
        size = 12 << 20
        async with self.opened(reactor, Options(certificates), isServer) as (subject, peer):
            peer.transport.pauseProducing()
            producer = Streaming(subject.transport, size)
            subject.transport.registerProducer(producer, True)
            producer.resumeProducing()
            await eventually(reactor, lambda: producer.pauses)
            assert not producer.stopped
            peer.transport.resumeProducing()
            await peer.untilReceived(reactor, size)
            subject.transport.loseConnection()
            await peer.untilLost(reactor)
        assert len(peer.received) == size
        parts = [peer.received[at : at + 1000] for at in range(0, size, 1000)]
        left = size
        for part in parts:
            left -= len(part)
            assert part == bytes([left % 251]) * len(part)

    @sides
    @ensureDeferred
    async def test_a_pull_producer(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """It is asked to the end."""
        size = 2 << 20

        def made(protocol: Scripted) -> None:
            protocol.transport.registerProducer(Pulled(protocol.transport, size, 5000), False)

        subject, peer = Scripted(made=made), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await peer.untilReceived(reactor, size)
            subject.transport.loseConnection()
            await subject.untilLost(reactor)
        assert len(peer.received) == size
        assert subject.lost.check(ConnectionDone)

    @ensureDeferred
    async def test_a_producer_keeps_it_open(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """loseConnection waits until the producer is unregistered. It writes on meanwhile."""
        subject, peer = Scripted(), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), True):
            await eventually(reactor, lambda: subject.isOpen)
            producer = Streaming(subject.transport, 0)
            subject.transport.registerProducer(producer, True)
            subject.transport.write(b"1")
            subject.transport.loseConnection()
            await peer.untilReceived(reactor, 1)
            subject.transport.write(b"2")
            await peer.untilReceived(reactor, 2)
            assert peer.lost is None
            subject.transport.unregisterProducer()
            subject.transport.write(b"3")
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert peer.received == b"12"
        assert subject.lost.check(ConnectionDone)

    @ensureDeferred
    async def test_one_producer_at_a_time(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        subject, peer = Scripted(), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), True):
            first, second = (Streaming(subject.transport, 0) for _ in range(2))
            subject.transport.registerProducer(first, True)
            with pytest.raises(RuntimeError):
                subject.transport.registerProducer(second, True)
            subject.transport.abortConnection()
            await subject.untilLost(reactor)
            assert first.stopped
            assert not second.stopped

    @sides
    @ensureDeferred
    async def test_pausing_and_resuming(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """Nothing comes while reading is paused, and nothing is lost."""

        def pause(protocol: Scripted, data: bytes) -> None:
            protocol.transport.pauseProducing()
            reactor.callLater(0, protocol.transport.resumeProducing)

        subject, peer = Scripted(data=pause), Scripted()
        data = urandom(1 << 20)
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            peer.transport.write(data)
            await subject.untilReceived(reactor, len(data))
            assert subject.received == data
