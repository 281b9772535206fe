"""
Serves the status of a server that is not there: with workers, one of them down and one
that is starting, a peer whose name is HTML, and five minutes of history. Prints the port.
"""

from collections.abc import Sequence
from itertools import count

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from echofactory.server.counts import Counts, PeerCounts, WorkerState
from echofactory.server.settings import Limits

NAME = "<img src=x onerror=\"document.title='pwned'\">"


class Strange:
    """See L{CountsSource<echofactory.server.counts.CountsSource>}."""

    draining = False
    limits = Limits(connections=10_000, idle=600.0)
    addresses: Sequence[IAddress] = (
        IPv6Address("TCP", "2001:db8:1111:2222:3333:4444:5555:6666", 7007),
        IPv4Address("UDP", "192.0.2.1", 7007),
        UNIXAddress(NAME.encode()),
    )

    def counts(self) -> Counts:
        return Counts(accepted=12_345_678, open=1234, bytesIn=3 << 40, refused={"rain": 7})

    async def peers(self, most: int = 10) -> Sequence[PeerCounts]:
        long = "2001:db8:1111:2222:3333:4444:5555:6666"
        return [PeerCounts(NAME, 1, 5 << 20), PeerCounts(long, 1, 99), PeerCounts("", 1, 0)]

    def workers(self) -> Sequence[WorkerState]:
        return [
            WorkerState(1, 4711, 0, 1234, True),
            WorkerState(2, None, 3, 0, False),
            WorkerState(3, 4713, 1, 0, False),
        ]


def main() -> None:
    from twisted.internet import reactor

    from echofactory.status import ServerStatus, StatusService

    # A clock by which a second passes from one look to the next.
    status = ServerStatus(Strange(), clock=count().__next__)
    for _ in range(301):
        status.sample()
    service = StatusService(reactor, "tcp:0:interface=127.0.0.1", status)
    service.startService()
    assert isinstance(service.address, IPv4Address)
    print("listening on", service.address.port, flush=True)
    reactor.run()


if __name__ == "__main__":
    main()
