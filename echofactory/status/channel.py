"""
HTTP connections with bounds, for untrusted peers. A connection carries one request.

The stages of a connection:

 - C{READING}: the server reads the head of a request. The head's end leads to C{ANSWERING}. A
   head that is too long leads to C{CLOSING}.
 - C{ANSWERING}: the request waits for its turn, and then for its response. The response leads
   to C{CLOSING}.
 - C{CLOSING}: the server waits for the peer to read the response and to close. The peer's end
   leads to C{CLOSED}.
 - C{CLOSED}: the connection is closed. From any stage, a reset by the peer or the deadline
   leads to C{CLOSED}. From C{READING} and C{CLOSING}, so does the peer's end, or a new
   connection that needs the slot (L{ConnectionSlots}).

The bounds:

 - A head is at most L{MAX_HEAD_SIZE} bytes. Bytes after the head are dropped, because no
   method that is served has a body.
 - Requests are parsed and answered one after the other (L{TaskQueue}). If the time slice of a
   reactor pass is used up, the other requests wait for the next pass.
 - A connection has one deadline for all its stages. Traffic does not extend it.

Twisted's channel parses the head and writes the response. It does not keep these bounds: it
answers all requests that have arrived in one pass, even if the peer does not read.

The undocumented names of Twisted that this module uses are listed in
C{tests/test_undocumented_names.py}, with the reasons.
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
from echofactory.status.admission import GRACE_S, ConnectionSlots
from echofactory.status.taskqueue import TaskQueue

_log = Logger()

MAX_HEAD_SIZE = 8192
"""Maximum bytes of a request's head."""

_CLOSING_S = 1.0
"""Seconds that a stop waits for responses to be sent and read."""

_END = b"\r\n\r\n"

TEXT = "text/plain; charset=utf-8"

_HEADERS = {
    "Cache-Control": "no-store",
    # The page loads only its own files and data, and no other page may frame it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""The headers of every response."""


@dataclass(frozen=True)
class Response:
    """
    A response.

    @ivar code: the status code.
    @ivar body: the body.
    @ivar kind: the media type of the body. Default: plain text.
    @ivar headers: headers besides those of every response. Default: none.
    """

    code: HTTPStatus
    body: bytes
    kind: str = TEXT
    headers: dict[str, str] = field(default_factory=dict)


Handler = Callable[[str, str, Iterable[str], str], Awaitable[Response]]
"""Returns the response to a request: its method, its path, its C{Host} headers, and its
C{Accept} headers, joined with commas."""


class _Stage(Enum):
    """The stage of a connection: see the module."""

    READING = auto()
    ANSWERING = auto()
    CLOSING = auto()
    CLOSED = auto()


class _Request(Request):
    """A request. The factory's L{Handler} answers it."""

    channel: "_Channel"

    def gotLength(self, length: int | None) -> None:
        """Keep Twisted from opening a temporary file for a body of unknown length."""
        self.content = BytesIO()

    def process(self) -> None:
        Deferred.fromCoroutine(self._respond())

    async def _respond(self) -> None:
        over = self.notifyFinish()
        over.addErrback(lambda _: None)
        try:
            answer = await self.channel.factory.handle(
                self.method.decode("latin-1"),
                self.path.decode("latin-1"),
                [host.decode("latin-1") for host in self._headers("Host")],
                b",".join(self._headers("Accept")).decode("latin-1"),
            )
        except Exception:
            _log.failure("cannot answer a status request")
            answer = Response(
                HTTPStatus.INTERNAL_SERVER_ERROR, b"internal error, see the server's log\n"
            )
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
        self._stage = _Stage.READING
        self._head = b""
        self._peerEnded = False
        self._deadline: IDelayedCall | None = None

    def abort(self) -> None:
        """See L{SlotHolder<echofactory.status.admission.SlotHolder>}."""
        self.transport.abortConnection()

    def connectionMade(self) -> None:
        super().connectionMade()
        self._deadline = self.callLater(self.factory.deadlineS, self._late)
        self.factory.slots.wait(self)

    def _late(self) -> None:
        self._deadline = None
        self.abort()

    def dataReceived(self, data: bytes) -> None:
        if self._stage is not _Stage.READING:
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
            # A body or further requests can follow. They are dropped.
            self._head = self._head[: end + len(_END)]
            self._stage = _Stage.ANSWERING
            self.factory.slots.serve(self)
            Deferred.fromCoroutine(self._parse()).addErrback(self._failed)

    async def _parse(self) -> None:
        await self.factory.tasks.turn()
        head, self._head = self._head, b""
        if self._stage is _Stage.ANSWERING:
            super().dataReceived(head)

    def _failed(self, reason: Failure) -> None:
        _log.failure("cannot read a status request", reason)
        self.abort()

    def lineReceived(self, line: bytes) -> bool:
        """Parse a line of the head, unless an earlier line was refused."""
        if self._stage is _Stage.ANSWERING:
            super().lineReceived(line)
        return self._stage is not _Stage.ANSWERING

    def allHeadersReceived(self) -> None:
        """Response without waiting for a body."""
        super().allHeadersReceived()
        self.length = 0

    def checkPersistence(self, request: Request, version: bytes) -> bool:
        """Close the connection after the response."""
        request.responseHeaders.setRawHeaders(b"Connection", [b"close"])
        return False

    def loseConnection(self) -> None:
        """
        End the response, and wait for the peer's end. If bytes of the peer were unread at a
        close, the kernel would reset the connection, and the peer could lose the response.
        """
        self._stage = _Stage.CLOSING
        self.factory.slots.wait(self)
        self.transport.unregisterProducer()
        # TLS itself waits for the peer's end.
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

    def closeIfIdle(self) -> None:
        """Close the connection, unless it has a request that is not answered yet."""
        if self._stage is _Stage.CLOSING or (self._stage is _Stage.READING and not self._head):
            self._close()

    def _close(self) -> None:
        """Close the connection when the written bytes are sent."""
        self.transport.unregisterProducer()
        self.transport.loseConnection()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stage = _Stage.CLOSED
        self.factory.connectionClosed(self)
        if self._deadline is not None:
            self._deadline.cancel()
        super().connectionLost(reason)


@implementer(IProtocolNegotiationFactory)
class BoundedHTTPFactory(HTTPFactory):
    """
    Makes HTTP connections with the bounds that the module describes.

    @ivar handle: answers the requests.
    @ivar tasks: the queue in which requests are parsed and answered.
    @ivar slots: the slots of the connections.
    @ivar deadlineS: seconds after which a connection is aborted, from when it is accepted.
    """

    noisy = False
    protocol = _Channel  # type: ignore[assignment]

    def __init__(
        self,
        reactor: IReactorTime,
        handle: Handler,
        tasks: TaskQueue,
        connections: int,
        deadlineS: float,
    ) -> None:
        """
        @param reactor: the clock of the deadlines.
        @param handle: answers the requests.
        @param tasks: the queue in which requests are parsed and answered.
        @param connections: maximum number of open connections.
        @param deadlineS: seconds after which a connection is aborted, from when it is
            accepted.
        """
        super().__init__(reactor=reactor)
        # Every byte would extend Twisted's own timeout.
        self.timeOut = None
        self.handle = handle
        self.slots: ConnectionSlots[_Channel] = ConnectionSlots(connections)
        self.deadlineS = deadlineS
        self.tasks = tasks
        self._empty: Deferred[None] = succeed(None)

    def acceptableProtocols(self) -> list[bytes]:
        """Accept HTTP/1.1. Without this, TLS clients that offer protocols, as browsers do,
        fail."""
        return [b"http/1.1"]

    def startFactory(self) -> None:
        """Start no access log, and not its clock."""

    def stopFactory(self) -> None:
        """See L{startFactory}."""

    def log(self, request: Request) -> None:
        """Log nothing per request."""

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # type: ignore[override]
        if not self.slots.makeRoom():
            return ClosingProtocol()
        return cast(Protocol, super().buildProtocol(addr))

    def connectionClosed(self, channel: _Channel) -> None:
        """Called when a connection is closed."""
        self.slots.release(channel)
        if not self.slots and not self._empty.called:
            self._empty.callback(None)

    async def close(self) -> None:
        """
        Close the connections. A connection with a request is closed after its response.
        Connections that take too long are aborted.
        """
        # A request can be on its way.
        await self._untilEmpty(GRACE_S)
        for channel in self.slots:
            channel.closeIfIdle()
        await self._untilEmpty(_CLOSING_S)
        for channel in self.slots:
            channel.abort()
        await self._untilEmpty(None)

    async def _untilEmpty(self, seconds: float | None) -> None:
        """Wait until no connection is open, for at most C{seconds}."""
        if not self.slots:
            return
        self._empty = Deferred()
        if seconds is not None:
            self._empty.addTimeout(seconds, self.reactor)
        with suppress(TimeoutError):
            await self._empty
