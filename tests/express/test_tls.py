"""
TLS on the lane keeps the contract of Twisted's own TLS, and more.
"""

import os
import socket
import struct
from typing import Any

import pytest
from peers import Certificates, eventually
from pytest_twisted import ensureDeferred
from tls_contract import BytesContract
from tls_end_contract import EndContract
from tlspeers import VERSIONS, Options, Pulled, Scripted, Streaming, pair, sides, versions
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.python.failure import Failure
from zope.interface import implementer

from echofactory import ExpressReactor
from echofactory.express.epoll import ExpressEPollReactor
from echofactory.express.tlssession import IHalfClosesTLS

pytestmark = pytest.mark.reactors


@pytest.mark.skipif(
    os.environ.get("ECHOFACTORY_REACTOR") == "express",
    reason="this reactor does not have Twisted's TLS",
)
class TestTwisted(BytesContract, EndContract):
    """Twisted's own: what the contract says is true of it."""

    def subjects(self, reactor: Any) -> Any:
        """See L{OverTLS}."""
        return reactor

    @pytest.mark.skipif(
        os.environ.get("ECHOFACTORY_REACTOR") == "uvloop",
        reason="uvloop reads once after a reset, so Twisted can miss it behind data",
    )
    @sides
    @ensureDeferred
    async def test_a_reset(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """See L{EndContract}."""
        await super().test_a_reset(reactor, certificates, isServer)


@implementer(IHalfClosesTLS)
class HalfClosing(Scripted):
    """Goes on writing after the end of the peer's stream."""

    halves = 0

    def writeConnectionLost(self) -> None:
        self.halves += 1
        self._tell()


class TestLane(BytesContract, EndContract):
    """The lane's, which loses nothing where Twisted's does, and half-closes."""

    def subjects(self, reactor: Any) -> Any:
        """See L{OverTLS}. The express reactor has a lane already."""
        if isinstance(reactor, ExpressEPollReactor):
            return reactor
        return ExpressReactor(reactor)

    @versions
    @sides
    @ensureDeferred
    async def test_closing_as_soon_as_it_is_open(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """Nothing of what was written before is lost."""
        size = 1 << 20

        def made(protocol: Scripted) -> None:
            protocol.transport.write(b"x" * size)

        def completed(protocol: Scripted) -> None:
            protocol.transport.write(b"last")
            protocol.transport.loseConnection()

        subject, peer = Scripted(made=made, completed=completed), Scripted()
        options = Options(certificates, version)
        async with self.pair(reactor, subject, peer, options, isServer):
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert peer.received == b"x" * size + b"last"
        assert subject.lost.check(ConnectionDone), subject.lost
        assert peer.lost.check(ConnectionDone), peer.lost

    @sides
    @ensureDeferred
    async def test_a_pull_producer_and_a_close(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """A close before the first byte waits for the producer."""
        size = 1 << 20

        def made(protocol: Scripted) -> None:
            protocol.transport.write(b"x")
            protocol.transport.registerProducer(Pulled(protocol.transport, size, 5000), False)
            protocol.transport.loseConnection()

        subject, peer = Scripted(made=made), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert len(peer.received) == size + 1
        assert subject.lost.check(ConnectionDone)

    @versions
    @sides
    @ensureDeferred
    async def test_pausing_before_the_handshake(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """The handshake goes on. What the peer sends then waits."""

        def made(protocol: Scripted) -> None:
            protocol.transport.pauseProducing()

        subject, peer = Scripted(made=made), Scripted()
        options = Options(certificates, version)
        async with self.pair(reactor, subject, peer, options, isServer):
            peer.transport.write(b"data")
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            subject.transport.write(b"answer")
            await peer.untilReceived(reactor, 6)
            assert not subject.received
            subject.transport.resumeProducing()
            await subject.untilReceived(reactor, 4)

    @ensureDeferred
    async def test_a_close_while_reading_is_paused(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """The peer's alert is read all the same. The protocol receives nothing more."""
        async with self.opened(reactor, Options(certificates), True) as (subject, peer):
            subject.transport.pauseProducing()
            peer.transport.write(b"data")
            subject.transport.loseConnection()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert subject.received == b""
        assert subject.lost.check(ConnectionDone)

    @ensureDeferred
    async def test_aborting(self, reactor: Any, certificates: Certificates) -> None:
        """The reason says who has aborted."""
        async with self.opened(reactor, Options(certificates), True) as (subject, peer):
            subject.transport.abortConnection()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert subject.lost.check(ConnectionAborted)
        assert peer.lost.check(ConnectionLost)

    @sides
    @ensureDeferred
    async def test_a_peer_that_resets_after_its_alert(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """Everything has arrived, and nothing was queued: the connection is done."""

        class Resetting(HalfClosing):
            def readConnectionLost(self) -> None:
                # Closing with this option resets the connection immediately.
                tcp = peer.transport.transport
                tcp.socket.setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                tcp.connectionLost(Failure(ConnectionLost()))
                self.transport.loseConnection()

        subject, peer = Resetting(), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            peer.transport.write(b"data")
            peer.transport.loseConnection()
            await subject.untilLost(reactor)
        assert subject.received == b"data"
        assert subject.lost.check(ConnectionDone), subject.lost

    @ensureDeferred
    async def test_a_producer_that_writes_until_it_is_paused(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """It is paused, even if the kernel takes everything."""
        async with self.opened(reactor, Options(certificates), True) as (subject, peer):
            producer = Streaming(subject.transport, 3 << 20, 6)
            subject.transport.registerProducer(producer, True)
            producer.resumeProducing()
            assert producer.pauses == 1
            await peer.untilReceived(reactor, 3 << 20)
            assert producer.pauses > 10

    @ensureDeferred
    async def test_what_is_written_while_receiving_goes_together(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """In one record."""

        def answer(protocol: Scripted, data: bytes) -> None:
            for number in range(100):
                protocol.transport.write(b"%02d" % number)

        subject, peer = Scripted(data=answer), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), True):
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            peer.transport.write(b"x")
            await peer.untilReceived(reactor, 200)
            assert peer.calls == 1
            assert peer.received == b"".join(b"%02d" % number for number in range(100))

    @ensureDeferred
    async def test_much_is_written_while_receiving(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """It does not pile up until the call returns."""
        queued: list[int] = []

        def answer(protocol: Scripted, data: bytes) -> None:
            for _ in range(64):
                protocol.transport.write(b"x" * 8192)
                queued.append(protocol.transport.queuedBytes)

        subject, peer = Scripted(data=answer), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), True):
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            peer.transport.write(b"x")
            await peer.untilReceived(reactor, 64 * 8192)
        assert min(queued[32:]) < 1 << 17

    # Half-close

    @sides
    @ensureDeferred
    async def test_half_close(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """Over TLS 1.3, each side ends its own direction, in either order."""
        size = 3 << 20
        server, client = HalfClosing(), HalfClosing()
        lane = self.subjects(reactor)
        options = Options(certificates, VERSIONS[1])
        first, second = (server, client) if isServer else (client, server)
        async with pair(reactor, lane, lane, server, client, options):
            await eventually(reactor, lambda: first.isOpen and second.isOpen)
            first.transport.write(b"x" * size)
            first.transport.loseWriteConnection()
            first.transport.write(b"ignored")
            await second.until(reactor, lambda: second.ended)
            assert len(second.received) == size
            assert (second.lost, first.halves) == (None, 1)
            second.transport.write(b"y" * size)
            await first.untilReceived(reactor, size)
            second.transport.loseWriteConnection()
            await first.untilLost(reactor)
            await second.untilLost(reactor)
        assert first.lost.check(ConnectionDone)
        assert second.lost.check(ConnectionDone)

    @pytest.mark.parametrize(
        ("kind", "version"), [(HalfClosing, VERSIONS[0]), (Scripted, VERSIONS[1])]
    )
    @ensureDeferred
    async def test_no_half_close(
        self, reactor: Any, certificates: Certificates, kind: Any, version: Any
    ) -> None:
        """
        With TLS 1.2, or if the protocol knows only half-close of TCP, an alert ends both
        directions.
        """
        server, client = kind(), kind()
        lane = self.subjects(reactor)
        options = Options(certificates, version)
        async with pair(reactor, lane, lane, server, client, options):
            await eventually(reactor, lambda: server.isOpen and client.isOpen)
            client.transport.write(b"all")
            client.transport.loseWriteConnection()
            await server.untilLost(reactor)
            await client.untilLost(reactor)
        assert server.received == b"all"
        assert server.lost.check(ConnectionDone)
        assert client.lost.check(ConnectionDone)
