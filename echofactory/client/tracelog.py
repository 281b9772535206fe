"""
The log lines about each connection of the client.
"""

from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from echofactory.client.target import NOWHERE
from echofactory.express.addresstext import addressText
from echofactory.net.tracing import Trace, dataText
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.values.printable import printable

_log = Logger()


class TraceLog:
    """
    Logs what the level of tracing asks for.

    @ivar destination: where the connections go.
    @ivar data: whether the bytes that go out and come in are logged.
    """

    def __init__(self, trace: Trace) -> None:
        self.destination = NOWHERE
        self.data = trace >= Trace.DATA
        self._connections = trace >= Trace.CONNECTIONS

    def starting(self, number: int) -> None:
        """Log that a connection is asked for."""
        if self._connections:
            # At this level, the lines are those of the tutorial.
            target = self.destination.tutorialName if self.data else self.destination.name
            _log.info("starting connection {number} to {target}", number=number, target=target)

    def closing(self, number: int) -> None:
        """Log that a connection has done its job."""
        if self._connections:
            _log.info("closing connection {number}", number=number)

    def failed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> ConnectionFailure:
        """
        Log that a connection has failed.

        @param peer: at the other end; C{None}: the connection never was established.
        @param detail: may quote the peer, such as its certificate.
        @return: the failure, with nothing in it that does not print.
        """
        told = printable(addressText(peer)) if peer is not None else self.destination.name
        failure = ConnectionFailure(number, told, kind, printable(detail))
        if self._connections:
            _log.info(
                "connection {number} to {peer} failed: {kind}: {detail}",
                number=number,
                peer=failure.peer,
                kind=str(kind),
                detail=failure.detail,
            )
        return failure

    def sending(self, number: int, data: bytes) -> None:
        """Log bytes that go out."""
        _log.info("sending {data} to connection {number}", data=dataText(data), number=number)

    def received(self, number: int, data: bytes) -> None:
        """Log bytes that have come in."""
        _log.info(
            "received {data} from connection {number}", data=dataText(data), number=number
        )
