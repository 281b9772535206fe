"""
TCP keepalive: a peer that has vanished is not waited for without end.
"""

import select
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peers import (
    LOOPBACK,
    TRANSPORTS,
    Certificates,
    Connect,
    Transport,
    eventually,
    portOf,
    serving,
)
from programs import LIMIT
from pytest_twisted import ensureDeferred

from echofactory import Echo, EchoClientFactory, EchoFactory, Limits, Patience, Workload
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.server import ServerOptions
from echofactory.express.socketfilter import NOTHING, attachFilter
from echofactory.net.transport import lowestTransport

OVER_TCP = [each for each in TRANSPORTS if "unix" not in each.name]
overTCP = pytest.mark.parametrize("transport", OVER_TCP, ids=str)


def vanish(peer: socket.socket) -> None:
    """
    Have the kernel throw away all that comes for a socket, so that it answers as little as
    a machine without power.
    """
    attachFilter(peer, NOTHING)


def settings(transport: Any) -> tuple[int, ...]:
    """Return whether the kernel probes, first when, how far apart, and how often."""
    handle = lowestTransport(transport).getHandle()
    return (
        handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        *(
            handle.getsockopt(socket.IPPROTO_TCP, option)
            for option in (
                socket.TCP_KEEPIDLE,
                socket.TCP_KEEPINTVL,
                socket.TCP_KEEPCNT,
            )
        ),
    )


def isProbing(transport: Any) -> None:
    """The settings are the default ones."""
    on, first, between, probes = settings(transport)
    assert (on, between, probes) == (1, 15, 4)
    assert 30 <= first <= 60


@overTCP
@ensureDeferred
async def test_the_server_probes(
    reactor: Any,
    connect: Connect,
    transport: Transport,
    certificates: Certificates,
    folder: Path,
) -> None:
    """After half a minute to a minute, every 15 s, 4 times."""
    async with serving(reactor, transport.listen(certificates, folder)) as service:
        peer = await connect(transport.connect(certificates, service.addresses[0]))
        peer.transport.write(transport.header)
        await eventually(reactor, lambda: service.factory.connections)
        (echo,) = service.factory.connections
        isProbing(echo.transport)


@overTCP
@ensureDeferred
async def test_the_client_probes(
    reactor: Any, transport: Transport, certificates: Certificates, folder: Path
) -> None:
    """The client does as the server does."""
    async with serving(reactor, transport.listen(certificates, folder)) as service:
        target = transport.connect(certificates, service.addresses[0])
        looked = []

        class Looking(EchoClientFactory):
            def connectionUp(self, connection: Any, tookNs: int | None) -> None:
                isProbing(connection.transport)
                looked.append(connection)
                super().connectionUp(connection, tookNs)

        await Looking(reactor, Workload(), 1).run(target)
    assert len(looked) == 1


@pytest.mark.parametrize("prefix", ["", "express:"])
@ensureDeferred
async def test_silent_connections_send_their_probes_one_after_the_other(
    reactor: Any, prefix: str
) -> None:
    """Five connections that are opened together have several times, at both ends."""
    factory = EchoFactory(Limits(keepAlive=8.0))
    times: list[int] = []
    theirs: list[int] = []

    class Accepting(Echo):
        def connectionMade(self) -> None:
            super().connectionMade()
            theirs.append(settings(self.transport)[1])

    factory.protocol = Accepting

    class Looking(EchoClientFactory):
        def connectionUp(self, connection: Any, tookNs: int | None) -> None:
            times.append(settings(connection.transport)[1])
            super().connectionUp(connection, tookNs)

    async with serving(reactor, f"{prefix}{LOOPBACK}", factory=factory) as service:
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        client = Looking(reactor, Workload(count=1), 5, Patience(keepAlive=8.0))
        await client.run(target)
    for each in times, theirs:
        assert len(each) == 5
        assert set(each) <= {4, 5, 6, 7, 8}
        # The ends in this process share the turns.
        assert len(set(each)) >= 3


@ensureDeferred
async def test_another_time(reactor: Any, connect: Connect) -> None:
    """The time between two probes is a quarter of the time before the first."""
    factory = EchoFactory(Limits(keepAlive=8.0))
    async with serving(reactor, factory=factory) as service:
        await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        await eventually(reactor, lambda: factory.connections)
        (echo,) = factory.connections
        on, first, between, probes = settings(echo.transport)
        assert (on, between, probes) == (1, 2, 4)
        assert 4 <= first <= 8


@ensureDeferred
async def test_none(reactor: Any, connect: Connect) -> None:
    """0 leaves the socket as it is."""
    factory = EchoFactory(Limits(keepAlive=0))
    async with serving(reactor, factory=factory) as service:
        await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        await eventually(reactor, lambda: factory.connections)
        (echo,) = factory.connections
        assert settings(echo.transport)[0] == 0


@pytest.mark.parametrize("prefix", ["", "express:"])
@ensureDeferred
async def test_a_peer_that_vanishes(reactor: Any, prefix: str) -> None:
    """Its connection is lost, though neither side has anything to send."""
    factory = EchoFactory(Limits(keepAlive=1.0))
    listen = f"{prefix}tcp:0:interface=127.0.0.1"
    async with serving(reactor, listen, factory=factory) as service:
        address = ("127.0.0.1", portOf(service.addresses[0]))
        with socket.create_connection(address, timeout=LIMIT) as peer:
            await eventually(reactor, lambda: factory.connections)
            vanish(peer)
            await eventually(reactor, lambda: factory.counts().lost == {"lost": 1})


@ensureDeferred
async def test_a_peer_that_answers_the_probes_stays(reactor: Any) -> None:
    """While another peer vanishes and is lost, one that only says nothing is not."""
    factory = EchoFactory(Limits(keepAlive=1.0))
    async with serving(reactor, factory=factory) as service:
        address = ("127.0.0.1", portOf(service.addresses[0]))
        with (
            socket.create_connection(address, timeout=LIMIT) as silent,
            socket.create_connection(address, timeout=LIMIT) as vanishing,
        ):
            await eventually(reactor, lambda: len(factory.connections) == 2)
            vanish(vanishing)
            await eventually(reactor, lambda: factory.counts().lost == {"lost": 1})
            silent.sendall(b"x")
            await eventually(reactor, lambda: select.select([silent], [], [], 0)[0])
            assert silent.recv(1) == b"x"


@pytest.mark.parametrize("seconds", [-1.0, 0.5, 40_000.0, float("nan")])
@pytest.mark.parametrize("kind", [Limits, Patience])
def test_times_that_are_none(kind: Any, seconds: float) -> None:
    """The message names the field and the value."""
    with pytest.raises(ValueError, match=rf"^keepAlive: {seconds} is not 0 s, or from 1 s"):
        kind(keepAlive=seconds)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [([], 60.0), (["--keepalive", "0"], 0.0), (["--keepalive", "2m"], 120.0)],
)
def test_the_option(words: list[str], seconds: float) -> None:
    """All three programs have it."""
    server = ServerOptions()
    server.parseOptions(words)
    assert server.settings.limits.keepAlive == seconds
    for options in (ClientOptions(), MonitorOptions()):
        options.parseOptions([*words, "127.0.0.1", "7007"])
        assert options.patience.keepAlive == seconds


@pytest.mark.parametrize("text", ["500ms", "10h", "x", "-1"])
def test_what_is_no_time(refusal: Callable[..., str], text: str) -> None:
    """The line names the option and the value."""
    for options in (ServerOptions(), ClientOptions(), MonitorOptions()):
        line = refusal(options.parseOptions, f"--keepalive={text}", "127.0.0.1", "7007")
        assert line.startswith(f"{options.program}: --keepalive: {text!r} is not ")
