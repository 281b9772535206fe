"""
A run without an end: N connections that are kept up.
"""

from collections import Counter
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import Deferred, TimeoutError
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IAddress, IDelayedCall, IProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from echofactory.client.connection import Connection
from echofactory.client.deadline import addDeadline
from echofactory.client.factory import EchoClientFactory, SingleProtocolFactory
from echofactory.client.settings import Patience
from echofactory.client.target import IProbeReactor, Target
from echofactory.net.tracing import Trace
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.values.quantities import counted
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

_log = Logger()

_FOREVER = 1e9
"""Seconds: thirty years."""

_LASTING_NS = 10_000_000_000
"""Nanoseconds: a connection that was up for longer has not failed to come up."""

_LATE_NS = 1_000_000_000
"""Nanoseconds: a message that is later than this is left out. This process was
stopped, or its machine; all those of the meantime at once would be no low rate."""

_backoff = backoffPolicy()
"""C{ClientService}'s: a second at first, a minute at most, and some chance in it."""


class Keeper(EchoClientFactory):
    """
    Opens N connections, and opens one again that has ended, after a pause that grows
    with each failure; its messages go to those that are up, in turn.

    Its results go on counting: requested are the attempts, and the first failure of
    each kind gives way to the latest. Their intervals stay empty, and so does C{recent}.

    @ivar connections: how many it keeps.
    @ivar latestAt: when the latest failure of each kind was.
    @ivar leftOut: messages that were not sent, for they would have been over a second
        late.
    """

    def __init__(
        self,
        reactor: IProbeReactor,
        connections: int = 1,
        rate: float = 1.0,
        size: int = 64,
        patience: Patience | None = None,
        trace: Trace = Trace.NONE,
    ) -> None:
        """
        @param rate: messages a second, over all connections.
        @param size: of the messages, in bytes.
        @raise ValueError: if one of them is nothing.
        """
        workload = Workload(size=size, rate=Rate(rate, rate), duration=_FOREVER)
        super().__init__(reactor, workload, connections, patience, trace)
        self.connections = connections
        self.results.requested = 0
        self.latestAt: dict[FailureKind, datetime] = {}
        self._failed: Counter[int] = Counter()
        self._upAt: dict[int, int] = {}
        self._again: dict[int, IDelayedCall] = {}
        self._untold: Counter[FailureKind] = Counter()
        self._wereUp = 0
        self._lookingUp = False
        self._waiting: set[Deferred[None]] = set()
        self.leftOut = 0
        self._leftOutTold = 0

    async def _resolve(self, target: Target) -> None:
        """A name is looked up for each attempt: it may come to mean something else."""

    async def _lookUp(self, target: Target) -> None:
        """
        Look up the target's name; attempts that are made meanwhile share the answer.
        A look-up occupies a thread of the reactor's for as long as it takes, and
        cannot be cancelled: there must not be more than one.

        @raise DNSLookupError: if it has no address, or none in time.
        """
        waiting: Deferred[None] = Deferred()
        self._waiting.add(waiting)
        if not self._lookingUp:
            self._lookingUp = True
            Deferred.fromCoroutine(target.resolve()).addBoth(self._lookedUp)
        seconds = self.patience.connect
        addDeadline(waiting, seconds, self.reactor)
        try:
            await waiting
        except TimeoutError:
            raise DNSLookupError(f"no answer within {seconds:g} s") from None
        finally:
            self._waiting.discard(waiting)

    def _lookedUp(self, outcome: Failure | None) -> None:
        self._lookingUp = False
        for each in list(self._waiting):
            # One that is cancelled by what another has done has its answer.
            if not each.called:
                each.callback(outcome)

    def _openSome(self) -> None:
        self._toOpen = 0
        self._beginSending()
        for number in range(1, self.connections + 1):
            self._openAgain(number)

    def _openAgain(self, number: int) -> None:
        self._again.pop(number, None)
        self.results.requested += 1
        client = self._kind(self, number)
        self._enlist(client)
        client.connecting = Deferred.fromCoroutine(self._connect(client))
        client.connecting.addErrback(client.notConnected)

    async def _connect(self, client: Connection) -> IProtocol:
        endpoint: Any = self._endpoint
        if isinstance(endpoint, Target):
            await self._lookUp(endpoint)
        protocol: IProtocol = await endpoint.connect(SingleProtocolFactory(client))
        return protocol

    def _deliver(self, dueAt: int) -> None:
        if perf_counter_ns() - dueAt <= _LATE_NS:
            super()._deliver(dueAt)
        else:
            self.leftOut += 1

    def connectionUp(self, client: Connection, connectNs: int | None) -> None:
        """See L{EchoClientFactory.connectionUp}."""
        super().connectionUp(client, connectNs)
        self._upAt[client.number] = self.clock()

    def _oneIsDecided(self) -> None:
        """Time has begun already, and nobody waits for the last one."""

    def connectionFailed(
        self, number: int, peer: IAddress | None, kind: FailureKind, detail: str
    ) -> None:
        """See L{EchoClientFactory.connectionFailed}."""
        self.results.examples.pop(kind, None)
        self.latestAt[kind] = datetime.now(UTC)
        super().connectionFailed(number, peer, kind, detail)
        # Connected is not served: only one that lasted begins anew.
        lasted = self.clock() - self._upAt.pop(number, self.clock()) > _LASTING_NS
        self._failed[number] = 1 if lasted else self._failed[number] + 1
        self._untold[kind] += 1

    def connectionOver(self, client: Connection) -> None:
        """See L{EchoClientFactory.connectionOver}."""
        super().connectionOver(client)
        number = client.number
        if not self._givenUp and number not in self._again:
            delay = _backoff(self._failed[number])
            self._again[number] = self.reactor.callLater(delay, self._openAgain, number)

    def _closeInterval(self) -> None:
        """Once a second: what is new, in a line or two."""
        results = self.results
        if self._untold:
            *_, latest = self._untold
            example: ConnectionFailure = results.examples[latest]
            _log.warn(
                "{failed} failed ({kinds}), such as connection {number} to {peer}: {detail}",
                failed=counted(self._untold.total(), "connection"),
                kinds=", ".join(f"{kind}: {n}" for kind, n in sorted(self._untold.items())),
                number=example.connection,
                peer=example.peer,
                detail=example.detail,
            )
            self._untold.clear()
        if self.leftOut != self._leftOutTold:
            _log.warn(
                "left out {what}: this process did not run when they were due",
                what=counted(self.leftOut - self._leftOutTold, "message"),
            )
            self._leftOutTold = self.leftOut
        if results.open != self._wereUp:
            _log.info("{up} of {wanted} connections are up", up=results.open,
                      wanted=self.connections)  # fmt: skip
        self._wereUp = results.open

    def _giveUp(self) -> None:
        for call in self._again.values():
            call.cancel()
        self._again.clear()
        super()._giveUp()

    def _checkOver(self) -> None:
        if self._givenUp:
            super()._checkOver()
