"""
A program of somebody who checks types: C{mypy --strict} has nothing to say about it, with
and without C{mypy-zope}.
"""

from twisted.internet import reactor
from twisted.internet.interfaces import IReactorTime

from echofactory import (
    EchoFactory,
    EchoService,
    Expectation,
    Faults,
    FaultyEchoFactory,
    Limits,
    OrderedServices,
    Patience,
    ProbeService,
    Rate,
    Results,
    Workload,
    judge,
    onExpress,
    probe,
    useMonotonicTime,
)
from echofactory.status import ServerStatus, StatusService

useMonotonicTime(reactor)
factory = EchoFactory(Limits(perHost=3), reactor=reactor)
echo = EchoService(reactor, ["tcp:7007:interface=127.0.0.1"], factory)
fast = EchoService(onExpress(reactor), ["tcp:7008:interface=127.0.0.1"], factory)
faulty = FaultyEchoFactory(reactor, Faults(delay=0.1))
monitor = ProbeService(reactor, "tcp:127.0.0.1:7007")
status = StatusService(reactor, "tcp:9465:interface=127.0.0.1", ServerStatus(echo))
services = OrderedServices()


async def main(chosen: IReactorTime) -> float | None:
    """Return the rate that came back."""
    workload = Workload(size=64, rate=Rate(100, 200), duration=1.0)
    results: Results = await probe(chosen, "tcp:127.0.0.1:7007", workload, 3, Patience(reply=2))
    assert results.service is not None
    met = all(judgement.met for judgement in judge(results, [Expectation("p99<5ms")]))
    return results.achieved if results.verdict == "ok" and met else None
