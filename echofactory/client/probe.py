"""
A run of the client in one call.
"""

from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from echofactory.client.factory import EchoClientFactory
from echofactory.client.settings import Patience
from echofactory.results.books import Results
from echofactory.workload.settings import Workload


async def probe(
    reactor: IReactorTime,
    endpoint: str | IStreamClientEndpoint,
    workload: Workload,
    connections: int = 2,
    patience: Patience | None = None,
    spin: bool = False,
) -> Results:
    """
    Open connections to an echo server, send each a workload, check every byte
    that comes back, and return the books.

    What fails is counted in the books, by kind; only a mistake in the call raises.

    @param endpoint: a client endpoint string, or an endpoint.
    @param workload: what each connection sends.
    @param connections: how many, 1 or more.
    @param patience: the timeouts; C{None}: their defaults.
    @param spin: whether to keep a core awake, so that the messages of a rate are sent within
        microseconds of when they are due.
    @raise EndpointError: if the string describes no endpoint.
    @raise TypeError: if an argument is of another type.
    @raise ValueError: if C{connections} is less than 1, or C{spin} is set without a rate.
    """
    factory = EchoClientFactory(reactor, workload, connections, patience, spin=spin)
    return await factory.run(endpoint)
