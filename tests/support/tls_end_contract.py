"""
How a connection over TLS ends, and what its transport tells, whether it is Twisted's own or the
lane's: one set of tests, which each implementation inherits.
The peer is Twisted's own, except on the express reactor.
"""

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import trustme
from OpenSSL import SSL
from peers import Certificates, eventually, misbehaving
from programs import LIMIT
from pytest_twisted import ensureDeferred
from tlspeers import (
    VERSIONS,
    Building,
    Options,
    OverTLS,
    Scripted,
    Streaming,
    close,
    echo,
    listening,
    sides,
    versions,
)
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import INegotiated, ISSLTransport, ISystemHandle
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    VerificationError,
)
from twisted.internet.threads import deferToThread
from twisted.logger import capturedLogs


class EndContract(OverTLS):
    """The tests. The subject is one side, and its peer is on the reactor behind."""

    # The end

    @versions
    @sides
    @ensureDeferred
    async def test_closing_with_data_queued(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """The peer reads slowly, gets all of it, and both connections are done."""
        size = 8 << 20
        async with self.opened(reactor, Options(certificates, version), isServer) as (
            subject,
            peer,
        ):
            peer.transport.pauseProducing()
            subject.transport.write(b"x" * size)
            subject.transport.loseConnection()
            subject.transport.write(b"ignored")
            await eventually(reactor, lambda: True)
            peer.transport.resumeProducing()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert peer.received == b"x" * size
        assert peer.lost.check(ConnectionDone)
        assert subject.lost.check(ConnectionDone)

    @versions
    @sides
    @ensureDeferred
    async def test_the_peer_closes(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """Its alert is answered, after what is still queued."""
        size = 4 << 20
        async with self.opened(reactor, Options(certificates, version), isServer) as (
            subject,
            peer,
        ):
            subject.transport.write(b"x" * size)
            peer.transport.loseConnection()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert len(peer.received) == size
        assert peer.lost.check(ConnectionDone)
        assert subject.lost.check(ConnectionDone)

    @versions
    @sides
    @ensureDeferred
    async def test_the_peer_closes_with_nothing_queued(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        async with self.opened(reactor, Options(certificates, version), isServer) as (
            subject,
            peer,
        ):
            peer.transport.write(b"data")
            peer.transport.loseConnection()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert subject.received == b"data"
        assert peer.lost.check(ConnectionDone)
        assert subject.lost.check(ConnectionDone)

    @versions
    @sides
    @ensureDeferred
    async def test_a_stream_that_is_cut(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """An end of TCP without the closing alert is a loss, after the data before it."""
        async with self.opened(reactor, Options(certificates, version), isServer) as (
            subject,
            peer,
        ):
            peer.transport.write(b"data")
            await subject.untilReceived(reactor, 4)
            peer.transport.transport.socket.shutdown(socket.SHUT_WR)
            await subject.untilLost(reactor)
        assert subject.received == b"data"
        assert subject.lost.check(ConnectionLost)
        assert not subject.lost.check(SSL.Error)

    @sides
    @ensureDeferred
    async def test_closing_the_transport_below(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """It ends the connection too, after what was written before."""
        async with self.opened(reactor, Options(certificates), isServer) as (subject, peer):
            subject.transport.write(b"data")
            await peer.untilReceived(reactor, 4)
            subject.transport.transport.loseConnection()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert peer.received == b"data"

    @sides
    @ensureDeferred
    async def test_a_reset(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """The same. The transport ignores what is written afterwards."""

        def gone(protocol: Scripted) -> None:
            protocol.transport.write(b"late")
            protocol.transport.loseConnection()

        subject, peer = Scripted(gone=gone), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            peer.transport.transport.abortConnection()
            await subject.untilLost(reactor)
            subject.transport.write(b"later")
            subject.transport.abortConnection()
        assert subject.lost.check(ConnectionLost)

    @sides
    @ensureDeferred
    async def test_a_loss_with_data_queued(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """Also if the peer stops reading and resets. The producer is stopped."""
        async with self.opened(reactor, Options(certificates), isServer) as (subject, peer):
            peer.transport.pauseProducing()
            producer = Streaming(subject.transport, 1 << 30, 1 << 16)
            subject.transport.registerProducer(producer, True)
            producer.resumeProducing()
            await eventually(reactor, lambda: producer.pauses)
            peer.transport.transport.abortConnection()
            await subject.untilLost(reactor)
        assert producer.stopped
        assert subject.lost.check(ConnectionLost)

    @sides
    @ensureDeferred
    async def test_the_peer_aborts(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """What the peer aborts is not done, whatever it is."""
        async with self.opened(reactor, Options(certificates), isServer) as (subject, peer):
            subject.transport.abortConnection()
            subject.transport.abortConnection()
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert not peer.lost.check(ConnectionDone)

    @sides
    @ensureDeferred
    async def test_closing_before_the_handshake(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """It ends at once, and the peer does not wait."""
        subject, peer = Scripted(made=close), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert not subject.lost.check(ConnectionDone)

    @sides
    @ensureDeferred
    async def test_writing_and_closing_before_the_handshake(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        """The handshake goes on, until what was written is sent."""

        def made(protocol: Scripted) -> None:
            protocol.transport.write(b"all")
            protocol.transport.loseConnection()

        subject, peer = Scripted(made=made), Scripted()
        async with self.pair(reactor, subject, peer, Options(certificates), isServer):
            await peer.untilLost(reactor)
            await subject.untilLost(reactor)
        assert peer.received == b"all"
        assert subject.lost.check(ConnectionDone)

    @ensureDeferred
    async def test_a_handshake_that_is_interrupted(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """A server that closes in the middle of it: a loss, as that of a client."""
        client = Scripted()
        options = Options(certificates)

        def closes(connection: Any) -> None:
            connection.recv(10)

        with misbehaving(closes) as port:
            self.subjects(reactor).connectSSL(
                "127.0.0.1", port, Building(lambda: client), options.client
            )
            await client.untilLost(reactor)
        assert client.lost.check(ConnectionLost)
        assert not client.isOpen

    @pytest.mark.parametrize(
        "what", [b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b"\0" * 100]
    )
    @ensureDeferred
    async def test_what_is_not_tls(
        self, reactor: Any, certificates: Certificates, what: bytes
    ) -> None:
        """The reason is OpenSSL's, and the protocol receives nothing."""
        server, raw = Scripted(), Scripted()
        options = Options(certificates)
        factory = Building(lambda: server)
        async with listening(self.subjects(reactor), factory, options.server) as port:
            raw.made = lambda peer: peer.transport.write(what)
            reactor.connectTCP("127.0.0.1", port, Building(lambda: raw))
            await server.untilLost(reactor)
            await raw.until(reactor, lambda: raw.ended)
            raw.transport.loseConnection()
        assert server.lost.check(SSL.Error), server.lost
        assert server.received == b""

    @sides
    @ensureDeferred
    async def test_no_version_in_common(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        subject, peer = Scripted(), Scripted()
        options = Options(certificates, VERSIONS[0])
        options.server = PrivateCertificate.loadPEM(options.pem).options()
        options.server.getContext().set_options(SSL.OP_NO_TLSv1_2)
        async with self.pair(reactor, subject, peer, options, isServer):
            await subject.untilLost(reactor)
            await peer.untilLost(reactor)
        assert subject.lost.check(SSL.Error), subject.lost
        assert peer.lost.check(SSL.Error), peer.lost

    @sides
    @ensureDeferred
    async def test_no_cipher_in_common(
        self, reactor: Any, certificates: Certificates, isServer: bool
    ) -> None:
        subject, peer = Scripted(), Scripted()
        options = Options(certificates, VERSIONS[0])
        options.server = PrivateCertificate.loadPEM(options.pem).options()
        # The certificate's key is of another kind.
        options.server.getContext().set_cipher_list(b"ECDHE-RSA-AES128-GCM-SHA256")
        async with self.pair(reactor, subject, peer, options, isServer):
            await subject.untilLost(reactor)
            await peer.untilLost(reactor)
        assert subject.lost.check(SSL.Error), subject.lost

    @versions
    @ensureDeferred
    async def test_a_name_that_does_not_match(
        self, reactor: Any, certificates: Certificates, version: Any
    ) -> None:
        """The client's reason is that of the verification. The server is told."""
        server, client = Scripted(), Scripted()
        options = Options(certificates)
        options.client = options.clientOf("elsewhere.example", version)
        async with self.pair(reactor, client, server, options, False):
            await client.untilLost(reactor)
            await server.untilLost(reactor)
        assert client.lost.check(VerificationError, SSL.Error), client.lost
        assert not client.lost.check(ConnectionLost)
        assert not client.isOpen

    @versions
    @ensureDeferred
    async def test_an_unknown_authority(
        self, reactor: Any, certificates: Certificates, version: Any
    ) -> None:
        """The client's reason is OpenSSL's, and the server's is the client's alert."""
        server, client = Scripted(), Scripted()
        options = Options(certificates)
        options.client = CertificateOptions(
            trustRoot=Certificate.loadPEM(trustme.CA().cert_pem.bytes()),
            insecurelyLowerMinimumTo=version,
            lowerMaximumSecurityTo=version,
        )
        async with self.pair(reactor, client, server, options, False):
            await client.untilLost(reactor)
            await server.untilLost(reactor)
        assert client.lost.check(SSL.Error), client.lost
        assert "certificate verify failed" in str(client.lost.value)
        assert server.lost.check(SSL.Error), server.lost
        assert "alert" in str(server.lost.value)

    # Interfaces

    @versions
    @sides
    @ensureDeferred
    async def test_what_the_transport_tells(
        self, reactor: Any, certificates: Certificates, version: Any, isServer: bool
    ) -> None:
        """The handle, the peer's certificate and the protocol, until connectionLost returns."""
        told: list[Any] = []

        def tell(protocol: Scripted) -> None:
            transport = protocol.transport
            told.append(
                (
                    transport.getHandle().get_protocol_version_name(),
                    transport.getPeerCertificate() is not None,
                    transport.negotiatedProtocol,
                )
            )

        subject, peer = Scripted(completed=tell, gone=tell), Scripted()
        options = Options(certificates, version, [b"echo", b"other"])
        async with self.pair(reactor, subject, peer, options, isServer):
            for interface in (ISSLTransport, INegotiated, ISystemHandle):
                assert interface.providedBy(subject.transport)
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            peer.transport.loseConnection()
            await subject.untilLost(reactor)
        assert told == [(version.name.replace("_", "."), not isServer, b"echo")] * 2

    @versions
    @pytest.mark.parametrize("has", [True, False])
    @ensureDeferred
    async def test_a_client_certificate(
        self, reactor: Any, certificates: Certificates, version: Any, has: bool
    ) -> None:
        """It is required, and the server's protocol sees it."""
        server, client = Scripted(), Scripted()
        options = Options(certificates, version)
        own = PrivateCertificate.loadPEM(options.pem)
        options.server = own.options(options.authority)
        if has:
            options.client = CertificateOptions(
                privateKey=own.privateKey.original,
                certificate=own.original,
                insecurelyLowerMinimumTo=version,
                lowerMaximumSecurityTo=version,
            )
        async with self.pair(reactor, server, client, options, True):
            if has:
                await eventually(reactor, lambda: server.isOpen)
                certificate = server.transport.getPeerCertificate()
                assert certificate.digest("sha256") == own.original.digest("sha256")
                server.transport.write(b"welcome")
                await client.untilReceived(reactor, 7)
            else:
                await server.untilLost(reactor)
                await client.untilLost(reactor)
        if not has:
            assert server.lost.check(SSL.Error)
            assert client.lost.check(SSL.Error)
            assert "alert" in str(client.lost.value)
            assert not server.isOpen

    @versions
    @ensureDeferred
    async def test_a_session_is_resumed(
        self, reactor: Any, certificates: Certificates, folder: Path, version: Any
    ) -> None:
        """A client of OpenSSL comes back with the ticket that it got."""
        options = Options(certificates)
        own = PrivateCertificate.loadPEM(options.pem)
        server = CertificateOptions(
            privateKey=own.privateKey.original,
            certificate=own.original,
            enableSessions=True,
            enableSessionTickets=True,
        )

        def come(port: int, *words: str) -> bytes:
            command = [
                "openssl", "s_client", "-connect", f"127.0.0.1:{port}",
                "-" + version.name.lower().replace("v", ""), "-ign_eof", *words,
            ]  # fmt: skip
            done = subprocess.run(
                command, input=b"", capture_output=True, timeout=LIMIT, check=True
            )
            return done.stdout

        def greet(protocol: Scripted) -> None:
            protocol.transport.write(b"hi")
            protocol.transport.loseConnection()

        factory = Building(lambda: Scripted(made=greet))
        async with listening(self.subjects(reactor), factory, server) as port:
            session = str(folder / "session")
            first = await deferToThread(come, port, "-sess_out", session)
            again = await deferToThread(come, port, "-sess_in", session)
        assert b"New, TLS" in first
        assert b"Reused, TLS" in again

    @ensureDeferred
    async def test_a_certificate_by_name(
        self, reactor: Any, certificates: Certificates
    ) -> None:
        """A callback changes the context for the name that the client sends."""
        options = Options(certificates)
        names: list[bytes | None] = []
        right: SSL.Context = options.server.getContext()

        def choose(name: bytes | None) -> SSL.Context:
            names.append(name)
            if name == b"localhost":
                return right
            raise ZeroDivisionError

        other = trustme.CA().issue_cert("other.example")
        wrong = PrivateCertificate.loadPEM(other.private_key_and_cert_chain_pem.bytes())
        options.server = CertificateOptions(
            privateKey=wrong.privateKey.original,
            certificate=wrong.original,
            contextForServerName=choose,
        )
        server, client = Scripted(data=echo), Scripted()
        async with self.pair(reactor, server, client, options, True):
            client.transport.write(b"x")
            await client.untilReceived(reactor, 1)
        server, client = Scripted(), Scripted()
        options.client = options.clientOf("unknown.example")
        with capturedLogs():
            async with self.pair(reactor, server, client, options, True):
                await client.untilLost(reactor)
                await server.untilLost(reactor)
        assert not client.isOpen
        assert names == [b"localhost", b"unknown.example"]
