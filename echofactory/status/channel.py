"""
HTTP connections that strangers may open: one request each, all of it bounded.

A connection goes through these stages:

 - C{ASKING}: the peer is to send the head of a request. Then C{ANSWERING}; C{LEAVING} if the
   head is too long.
 - C{ANSWERING}: the request waits for its turn, and then for its answer. Then C{LEAVING}.
 - C{LEAVING}: the peer is to take the answer and to close. Then C{GONE}.
 - C{GONE}: the connection is closed. From any stage, a reset by the peer and the deadline
   lead here. From C{ASKING} and C{LEAVING}, the peer's end leads here, and another connection
   that needs the place (L{Places}).

The bounds:

 - A head is at most L{MAX_HEAD_SIZE} bytes. What a peer sends after its head is dropped: no
   request that is answered has a body.
 - Requests are parsed and answered one after the other (L{Turns}). If that takes too long in
   a pass of the reactor, the others wait for the next pass.
 - A connection has one deadline for all stages, which no byte puts off.

Twisted's channel parses the head and writes the answer. Alone, it would not keep the bounds:
it answers all requests that have come, even if the peer does not read, and parses them in
one pass.

What is touched of Twisted's channel that is not documented, each with its reason:

 - C{HTTPChannel.allHeadersReceived}: the head is complete.
 - C{HTTPChannel.checkPersistence}: whether the connection stays for a second request.
 - C{HTTPChannel.length}: the bytes of the body that the channel still waits for.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from io import BytesIO
from typing import Any, cast

from twisted.internet.defer import Deferred, TimeoutError, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHalfCloseableProtocol,
    IProtocolNegotiationFactory,
    IReactorTime,
)
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel, HTTPFactory, Request, datetimeToString
from zope.interface import implementer

from echofactory.server.factory import ClosingProtocol
from echofactory.status.admission import GRACE_S, Places
from echofactory.status.turns import Turns

_log = Logger()

MAX_HEAD_SIZE = 8192
"""Bytes."""

_CLOSING_S = 1.0
"""Seconds that a stop leaves to requests to come to their end, and to answers to be taken."""

_END = b"\r\n\r\n"

TEXT = "text/plain; charset=utf-8"

_HEADERS = {
    "Cache-Control": "no-store",
    # The page fetches nothing but its own files and figures, and nobody frames it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""What every answer has."""


@dataclass(frozen=True)
class Answer:
    """
    What a request is answered with.

    @ivar kind: of the body: a media type.
    @ivar headers: besides those that every answer has.
    """

    code: HTTPStatus
    body: bytes
    kind: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)


Respond = Callable[[str, str, Iterable[str]], Awaitable[Answer]]
"""Answers a request: its method, its path and the C{Host} headers."""


class _Stage(Enum):
    """See the module."""

    ASKING = auto()
    ANSWERING = auto()
    LEAVING = auto()
    GONE = auto()


class _Request(Request):
    """A request, answered by the factory's L{Respond}."""

    channel: "_Channel"

    def gotLength(self, length: int | None) -> None:
        """Twisted would open a file for a body whose length is not told."""
        self.content = BytesIO()

    def process(self) -> None:
        Deferred.fromCoroutine(self._respond())

    async def _respond(self) -> None:
        over = self.notifyFinish()
        over.addErrback(lambda _: None)
        try:
            answer = await self.channel.factory.respond(
                self.method.decode("latin-1"),
                self.path.decode("latin-1"),
                [host.decode("latin-1") for host in self._headers("Host")],
            )
        except Exception:
            _log.failure("while the status was asked for")
            answer = Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"the log says why\n")
        if over.called:
            return
        self.setResponseCode(answer.code.value, answer.code.phrase.encode())
        for name, value in {
            "Date": datetimeToString().decode(),
            "Content-Type": answer.kind,
            "Content-Length": str(len(answer.body)),
            **_HEADERS,
            **answer.headers,
        }.items():
            self.setHeader(name, value)
        self.write(answer.body)
        self.finish()

    def _headers(self, name: str) -> list[bytes]:
        return list(self.requestHeaders.getRawHeaders(name.encode(), []))


@implementer(IHalfCloseableProtocol)
class _Channel(HTTPChannel):
    """An HTTP connection."""

    factory: "BoundedHTTPFactory"
    requestFactory = _Request
    maxHeaders = 100
    transport: Any

    def __init__(self) -> None:
        super().__init__()
        self._stage = _Stage.ASKING
        self._head = b""
        self._peerEnded = False
        self._deadline: IDelayedCall | None = None

    def cut(self) -> None:
        """See L{Guest<echofactory.status.admission.Guest>}."""
        self.transport.abortConnection()

    def connectionMade(self) -> None:
        super().connectionMade()
        self._deadline = self.callLater(self.factory.deadlineS, self._late)
        self.factory.places.wait(self)

    def _late(self) -> None:
        self._deadline = None
        self.cut()

    def dataReceived(self, data: bytes) -> None:
        if self._stage is not _Stage.ASKING:
            return
        self._head += data
        end = self._head.find(_END)
        size = len(self._head) if end < 0 else end
        if size > MAX_HEAD_SIZE:
            self.transport.write(
                b"HTTP/1.1 431 Request Header Fields Too Large\r\nConnection: close\r\n\r\n"
            )
            self.loseConnection()
        elif end >= 0:
            # Other requests, or a body, may follow. They are not looked at.
            self._head = self._head[: end + len(_END)]
            self._stage = _Stage.ANSWERING
            self.factory.places.serve(self)
            Deferred.fromCoroutine(self._inTurn()).addErrback(self._failed)

    async def _inTurn(self) -> None:
        await self.factory.turns.next()
        head, self._head = self._head, b""
        if self._stage is _Stage.ANSWERING:
            super().dataReceived(head)

    def _failed(self, reason: Failure) -> None:
        _log.failure("while a request was read", reason)
        self.cut()

    def lineReceived(self, line: bytes) -> bool:
        """Parse a line of the head, unless the lines before it have been refused."""
        if self._stage is _Stage.ANSWERING:
            super().lineReceived(line)
        return self._stage is not _Stage.ANSWERING

    def allHeadersReceived(self) -> None:
        """Answer without waiting for a body."""
        super().allHeadersReceived()
        self.length = 0

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Have no connection stay for a second request."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def loseConnection(self) -> None:
        """
        End the answer, and wait for the peer's end. If the connection were closed at once,
        with bytes of the peer unread, the kernel would reset it, and the peer might lose the
        answer.
        """
        self._stage = _Stage.LEAVING
        self.factory.places.wait(self)
        self.transport.unregisterProducer()
        # TLS waits for the peer's end by itself.
        if self._peerEnded or self.isSecure():
            self.transport.loseConnection()
        else:
            self.transport.loseWriteConnection()

    def readConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol}."""
        self._peerEnded = True
        if self._stage is not _Stage.ANSWERING:
            self._close()

    def writeConnectionLost(self) -> None:
        """See L{IHalfCloseableProtocol}."""

    def closeUnlessAsked(self) -> None:
        """Close the connection, unless a request of it is to be answered."""
        if self._stage is _Stage.LEAVING or (self._stage is _Stage.ASKING and not self._head):
            self._close()

    def _close(self) -> None:
        """Close the connection when the peer has taken what was written."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stage = _Stage.GONE
        self.factory.left(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connectionLost(reason)


@implementer(IProtocolNegotiationFactory)
class BoundedHTTPFactory(HTTPFactory):
    """
    Makes HTTP connections, within the bounds that the module describes.

    @ivar respond: what answers the requests.
    @ivar turns: in which requests are parsed and answered.
    @ivar places: the places for connections.
    @ivar deadlineS: seconds from when a connection is accepted until it is cut.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(
        self,
        reactor: IReactorTime,
        respond: Respond,
        turns: Turns,
        connections: int,
        deadlineS: float,
    ) -> None:
        """
        @param connections: most that are open at once.
        """
        super().__init__(reactor=reactor)
        # Every byte would put Twisted's own deadline off.
        self.timeOut = None
        self.respond = respond
        self.places: Places[_Channel] = Places(connections)
        self.deadlineS = deadlineS
        self.turns = turns
        self._empty: Deferred[None] = succeed(None)

    def acceptableProtocols(self) -> list[bytes]:
        """Without this, a TLS client that asks for a protocol, as browsers do, fails."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Not even an empty access log, nor its clock."""

    def stopFactory(self) -> None:
        """See L{startFactory}."""

    def log(self, request: Request) -> None:
        """Nothing, for each request."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # type: ignore[override]
        if not self.places.makeRoom():
            return ClosingProtocol()
        return cast(Protocol, super().buildProtocol(addr))

    def left(self, channel: _Channel) -> None:
        """A connection is closed."""
        self.places.leave(channel)
        if not self.places and not self._empty.called:
            self._empty.callback(None)

    async def close(self) -> None:
        """
        Close the connections, those with a request after its answer. Connections that take
        too long are cut.
        """
        # A request may be on its way.
        await self._untilEmpty(GRACE_S)
        for channel in self.places:
            channel.closeUnlessAsked()
        await self._untilEmpty(_CLOSING_S)
        for channel in self.places:
            channel.cut()
        await self._untilEmpty(None)

    async def _untilEmpty(self, seconds: float | None) -> None:
        """Wait until no connection is open, for at most C{seconds}."""
        if not self.places:
            return
        self._empty = Deferred()
        if seconds is not None:
            self._empty.addTimeout(seconds, self.reactor)
        with suppress(TimeoutError):
            await self._empty
