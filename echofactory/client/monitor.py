"""
The monitor as a Twisted service: N connections that are kept up and checked.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger

from echofactory.client.persistent import PersistentConnections
from echofactory.client.settings import Patience
from echofactory.client.target import Target, checkClientEndpoint
from echofactory.net.endpoints import EndpointError
from echofactory.net.tracing import Trace
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.values.checks import checkType

_log = Logger()


class ProbeService(Service):
    """
    Keeps N connections to a target while it runs, sends messages at a low rate, and checks
    every byte. It can be started again; then the counts begin at 0.

    Its timers are those of the reactor, which follow the wall clock. To prevent that, call
    L{useMonotonicTime} before.

    @ivar results: the books since the last start.
    @ivar skipped: messages that were not sent, because they would have been over a second
        late: this process or its machine was stopped.
    @ivar latestAt: when the latest failure of each kind was.
    @ivar connections: how many are kept.
    @ivar rate: messages a second, over all connections.
    @ivar size: of each message, in bytes.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        endpoint: str | IStreamClientEndpoint,
        connections: int = 1,
        rate: float = 1.0,
        size: int = 64,
        patience: Patience | None = None,
        trace: Trace = Trace.NONE,
    ) -> None:
        """
        @param endpoint: a client endpoint string, or an endpoint.
        @param connections: 1 or more.
        @param rate: messages a second, over all connections in turn.
        @param size: of each message, in bytes.
        @raise EndpointError: if the string describes no endpoint, or one of UDP.
        @raise TypeError: if an argument is of another type.
        @raise ValueError: if a number is out of its range.
        """
        checkClientEndpoint(endpoint)
        if patience is not None:
            checkType("patience", patience, Patience)
        patience = patience or Patience()
        if isinstance(endpoint, str):
            endpoint = Target(reactor, endpoint, patience.connect)
        if isinstance(endpoint, Target) and endpoint.datagrams:
            reason = ValueError("over UDP there are no connections to keep")
            raise EndpointError(endpoint.description, reason)
        self.connections = connections
        self.rate = rate
        self.size = size
        self._endpoint = endpoint
        self._arguments: tuple[Any, ...] = (
            *(reactor, connections, rate, size, patience, trace),
        )
        self._keeper = PersistentConnections(*self._arguments)
        self._over: Deferred[Results | None] = succeed(None)

    @property
    def results(self) -> Results:
        """See the class."""
        return self._keeper.results

    @property
    def skipped(self) -> int:
        """See the class."""
        return self._keeper.skipped

    @property
    def latestAt(self) -> Mapping[FailureKind, datetime]:
        """See the class."""
        return self._keeper.latestAt

    def startService(self) -> None:
        """Start opening the connections."""
        super().startService()
        self._keeper = PersistentConnections(*self._arguments)
        self._over = Deferred.fromCoroutine(self._keeper.run(self._endpoint))
        self._over.addErrback(lambda reason: _log.failure("the monitor failed", reason))

    def stopService(self) -> Deferred[Results | None]:
        """
        Cut what is open.

        @return: fires when every connection is closed.
        """
        super().stopService()
        self._keeper.interrupt()
        return self._over
