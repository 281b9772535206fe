"""
Two protocols of this process over TLS, each on a reactor that the test chooses, and the
options of both sides.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from peers import Certificates, Peer, eventually, portOf
from twisted.internet.interfaces import IAddress, IHandshakeListener
from twisted.internet.protocol import ClientFactory, Protocol
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    PrivateCertificate,
    TLSVersion,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from zope.interface import implementer

VERSIONS = (TLSVersion.TLSv1_2, TLSVersion.TLSv1_3)

Handler = Callable[..., object] | None


@implementer(IHandshakeListener)
class Scripted(Peer):
    """
    A L{Peer} that does what a test says when it is called.

    @ivar made: is called in C{connectionMade}.
    @ivar completed: is called in C{handshakeCompleted}.
    @ivar data: is called with each piece of data.
    @ivar gone: is called in C{connectionLost}.
    @ivar calls: the number of pieces of data.
    """

    lost: Any

    def __init__(
        self,
        made: Handler = None,
        completed: Handler = None,
        data: Handler = None,
        gone: Handler = None,
    ) -> None:
        super().__init__()
        self.made = made
        self.completed = completed
        self.data = data
        self.gone = gone
        self.calls = 0
        self.isMade = False
        self.isOpen = False

    def connectionMade(self) -> None:
        self.isMade = True
        if self.made is not None:
            self.made(self)
        self._tell()

    def handshakeCompleted(self) -> None:
        self.isOpen = True
        if self.completed is not None:
            self.completed(self)
        self._tell()

    def dataReceived(self, data: bytes) -> None:
        self.calls += 1
        super().dataReceived(data)
        if self.data is not None:
            self.data(self, data)

    def connectionLost(self, reason: Any = None) -> None:
        if self.gone is not None:
            self.gone(self)
        super().connectionLost(reason)


class Building(ClientFactory):
    """Builds what a function returns."""

    noisy = False

    def __init__(self, build: Callable[[], Any]) -> None:
        self.build = build

    def buildProtocol(self, addr: IAddress | None) -> Protocol:
        built: Protocol = self.build()
        return built


class Options:
    """
    The options of both sides.

    @ivar server: those of a server that is localhost.
    @ivar client: those of a client that trusts it.
    """

    def __init__(
        self, certificates: Certificates, version: Any = None, protocols: Any = None
    ) -> None:
        """
        @param version: the only version of TLS that the client speaks. C{None}: any.
        @param protocols: what both sides accept as application protocols.
        """
        self.pem = certificates.pem.read_bytes()
        own = PrivateCertificate.loadPEM(self.pem)
        self.server: Any = CertificateOptions(
            privateKey=own.privateKey.original,
            certificate=own.original,
            acceptableProtocols=protocols,
        )
        authority = (certificates.trust / "authority.pem").read_bytes()
        self.authority = Certificate.loadPEM(authority)
        self.client = self.clientOf("localhost", version, protocols)

    def clientOf(self, name: str, version: Any = None, protocols: Any = None) -> Any:
        """Return the options of a client that expects a server of a name."""
        extra: dict[str, Any] = {}
        if version is not None:
            extra = {"insecurelyLowerMinimumTo": version, "lowerMaximumSecurityTo": version}
        return optionsForClientTLS(
            name,
            trustRoot=trustRootFromCertificates([self.authority]),
            acceptableProtocols=protocols,
            extraCertificateOptions=extra,
        )


@asynccontextmanager
async def listening(reactor: Any, factory: Any, options: Any = None) -> AsyncIterator[int]:
    """
    Listen on the loopback interface, over TLS if there are options.

    @return: the port.
    """
    if options is None:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    else:
        port = reactor.listenSSL(0, factory, options, interface="127.0.0.1")
    try:
        yield portOf(port.getHost())
    finally:
        await port.stopListening()


@asynccontextmanager
async def pair(
    reactor: Any,
    serverReactor: Any,
    clientReactor: Any,
    server: Scripted,
    client: Scripted,
    options: Options,
) -> AsyncIterator[None]:
    """
    Connect two protocols over TLS. Both are connected when this returns. In the end both are
    aborted, and hear that they are lost.

    @param reactor: the one that runs.
    """
    async with listening(serverReactor, Building(lambda: server), options.server) as port:
        clientReactor.connectSSL("127.0.0.1", port, Building(lambda: client), options.client)
        await eventually(reactor, lambda: server.isMade and client.isMade)
        try:
            yield
        finally:
            for each in (server, client):
                if each.lost is None:
                    each.transport.abortConnection()
            await eventually(reactor, lambda: server.lost and client.lost)


versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
sides = pytest.mark.parametrize("isServer", [True, False], ids=["server", "client"])


def echo(protocol: Scripted, data: bytes) -> None:
    """Send back what comes."""
    protocol.transport.write(data)


def close(protocol: Scripted, *_: object) -> None:
    """Close the connection."""
    protocol.transport.loseConnection()


class Streaming:
    """
    A streaming producer that writes until it is paused, up to a number of bytes.

    @ivar pauses: how often it was paused.
    """

    def __init__(self, transport: Any, size: int, part: int = 1000) -> None:
        self._transport = transport
        self._left = size
        self._part = part
        self._paused = False
        self.pauses = 0
        self.stopped = False

    def resumeProducing(self) -> None:
        self._paused = False
        while self._left and not self._paused:
            part = min(self._left, self._part)
            self._left -= part
            self._transport.write(bytes([self._left % 251]) * part)
        if not self._left:
            self._left = 0
            self._transport.unregisterProducer()

    def pauseProducing(self) -> None:
        self._paused = True
        self.pauses += 1

    def stopProducing(self) -> None:
        self.stopped = self._paused = True


class Pulled(Streaming):
    """A pull producer: it writes a part each time that it is asked."""

    def resumeProducing(self) -> None:
        part = min(self._left, self._part)
        self._left -= part
        self._transport.write(bytes([self._left % 251]) * part)
        if not self._left:
            self._transport.unregisterProducer()


class OverTLS:
    """What a contract needs: the reactor of an implementation, and connected protocols."""

    def subjects(self, reactor: Any) -> Any:
        """Return the reactor of the implementation."""
        raise NotImplementedError

    def pair(
        self, reactor: Any, subject: Scripted, peer: Scripted, options: Options, isServer: bool
    ) -> Any:
        """Connect the subject, which is the server or the client, with its peer."""
        own = self.subjects(reactor)
        if isServer:
            return pair(reactor, own, reactor, subject, peer, options)
        return pair(reactor, reactor, own, peer, subject, options)

    @asynccontextmanager
    async def opened(
        self, reactor: Any, options: Options, isServer: bool
    ) -> AsyncIterator[tuple[Scripted, Scripted]]:
        """Connect a subject and its peer, and wait until both handshakes are complete."""
        subject, peer = Scripted(), Scripted()
        async with self.pair(reactor, subject, peer, options, isServer):
            await eventually(reactor, lambda: subject.isOpen and peer.isOpen)
            yield subject, peer
