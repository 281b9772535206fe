"""
Timeouts: when they are over, on a busy reactor and after a standstill.
"""

from typing import Any

import pytest
from peers import LOOPBACK, portOf, serving
from pytest_twisted import ensureDeferred
from twisted.internet.task import Clock

from echofactory import EchoClientFactory, Patience, Workload
from echofactory.client.watch import Watch


class Waiting:
    """
    Waits for a reply since the beginning.

    @ivar failedAt: when it was too late, in seconds.
    """

    def __init__(self, clock: Clock) -> None:
        self.failedAt: float | None = None
        self._clock = clock
        self._since = round(clock.seconds() * 1e9)

    def sweep(self, connectBefore: int, replyBefore: int) -> bool:
        """See L{echofactory.client.watch.Watched}."""
        if self._since < replyBefore and self.failedAt is None:
            self.failedAt = self._clock.seconds()
        return True


@pytest.mark.parametrize("turn", [0.001, 0.03, 0.2])
def test_a_busy_reactor(turn: float) -> None:
    """Its turns are longer than the time between two looks. That is no reason to be late."""
    clock = Clock()
    patience = Patience(connect=0.1, reply=2.0)
    watch = Watch(clock, patience, lambda: round(clock.seconds() * 1e9))
    watch.start()
    for _ in range(20):
        clock.advance(turn)
    began = clock.seconds()
    found = Waiting(clock)
    watch.add(found)
    while found.failedAt is None and clock.seconds() < began + 10:
        clock.advance(turn)
    assert found.failedAt is not None
    assert 2.0 <= found.failedAt - began <= 2.0 + 2 * turn + 0.01


def test_standstills_do_not_count() -> None:
    """However many there are, and however long each of them is."""
    clock = Clock()
    watch = Watch(clock, Patience(connect=1.0, reply=5.0), lambda: round(clock.seconds() * 1e9))
    watch.start()
    for _ in range(20):
        clock.advance(0.1)
    began = clock.seconds()
    found = Waiting(clock)
    watch.add(found)
    lived = 0.0
    while found.failedAt is None and clock.seconds() < began + 1000:
        for _ in range(10):
            clock.advance(0.1)
            lived += 0.1
            if found.failedAt is not None:
                break
        else:
            clock.advance(60.0)
    assert found.failedAt is not None
    assert 5.0 <= lived <= 5.5


@pytest.mark.parametrize("halfClose", [False, True])
@ensureDeferred
async def test_no_timeout_runs_while_a_connection_waits_for_its_close(
    reactor: Any, halfClose: bool
) -> None:
    """Otherwise each look would visit all connections of a run that ends."""
    runs: list[bool] = []

    class Looking(EchoClientFactory):
        def closeConnection(self, close: Any) -> None:
            runs.append(close.__self__.sweep(0, 0))
            super().closeConnection(close)
            runs.append(close.__self__.sweep(0, 0))

    async with serving(reactor, LOOPBACK) as service:
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        results = await Looking(reactor, Workload(count=2, halfClose=halfClose), 3).run(target)
    assert results.verdict == "ok"
    assert runs == [False] * 6


@ensureDeferred
async def test_a_connection_that_is_lost_while_it_waits_for_its_close(
    reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not watched again."""
    watched: list[Any] = []

    class Losing(EchoClientFactory):
        def closeConnection(self, close: Any) -> None:
            client = close.__self__
            client.transport.abortConnection()
            monkeypatch.setattr(self.watch, "add", watched.append)
            super().closeConnection(close)

    async with serving(reactor, LOOPBACK) as service:
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        results = await Losing(reactor, Workload(count=2), 3).run(target)
    assert results.completed == 3
    assert watched == []
