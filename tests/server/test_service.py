"""
The services: started, stopped, combined.
"""

import re
import socket
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from peers import (
    LOOPBACK,
    TRANSPORTS,
    Certificates,
    Connect,
    eventually,
    openDescriptors,
    portOf,
    serving,
)
from programs import LIMIT
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import LogEvent, capturedLogs, formatEvent
from zope.interface import implementer

from echofactory import (
    EchoFactory,
    EchoService,
    OrderedServices,
    Patience,
    Trace,
    Workload,
    probe,
)
from echofactory.net.endpoints import EndpointError, ListenError

pytestmark = [pytest.mark.reactors, pytest.mark.oldest]


def ours(events: Sequence[LogEvent]) -> list[str]:
    """Return the texts of what echofactory, not Twisted, has logged."""
    return [
        formatEvent(event)
        for event in events
        if event["log_namespace"].startswith("echofactory.")
    ]


def taken() -> tuple[socket.socket, str]:
    """Return a listening socket, and the server endpoint that it stands in the way of."""
    listening = socket.create_server(("127.0.0.1", 0))
    return listening, f"tcp:{listening.getsockname()[1]}:interface=127.0.0.1"


@ensureDeferred
async def test_several_endpoints_share_a_factory(
    reactor: Any, certificates: Certificates, folder: Path
) -> None:
    """TCP, IPv6, a UNIX socket and TLS at once, with one set of counts."""
    listen = [transport.listen(certificates, folder) for transport in TRANSPORTS]
    async with serving(reactor, *listen) as service:
        assert len(service.addresses) == len(TRANSPORTS)
        for transport, address in zip(TRANSPORTS, service.addresses, strict=True):
            target = transport.target(certificates, address)
            results = await probe(reactor, target, Workload(), connections=3)
            assert results.verdict == "ok", results.examples
        assert service.factory.counts().accepted == 3 * len(TRANSPORTS)


@ensureDeferred
async def test_an_endpoint_object_is_taken_too(reactor: Any) -> None:
    """Not only strings: any IStreamServerEndpoint."""
    endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    service = EchoService(reactor, [endpoint], EchoFactory())
    service.startService()
    results = await probe(reactor, f"tcp:127.0.0.1:{portOf(service.addresses[0])}", Workload())
    assert results.verdict == "ok"
    await service.stopService()


@ensureDeferred
async def test_a_taken_port_is_an_error_at_start(reactor: Any) -> None:
    """It raises, names the endpoint, and leaves the other endpoints closed."""
    listening, endpoint = taken()
    before = openDescriptors()
    with listening:
        service = EchoService(reactor, [LOOPBACK, endpoint], EchoFactory())
        with pytest.raises(ListenError) as caught:
            service.startService()
        assert str(caught.value) == f"cannot listen on {endpoint}: Address already in use"
        assert not service.running
        assert service.addresses == []
        await eventually(reactor, lambda: openDescriptors() <= before)
    # The way is free: the same service starts now.
    service.startService()
    assert len(service.addresses) == 2
    await service.stopService()


@ensureDeferred
async def test_privileged_start_binds_once(reactor: Any) -> None:
    """twistd starts a service twice, before and after it sheds its privileges."""
    service = EchoService(reactor, [LOOPBACK], EchoFactory())
    service.privilegedStartService()
    (address,) = service.addresses
    service.startService()
    assert service.addresses == [address]
    await service.stopService()


@pytest.mark.parametrize(
    "description",
    ["nonsense", "nonsense:1", "tcp", "tcp:x", "tcp:1:2:3:4:5", "ssl:0:privateKey=/none",
     "systemd:INET:index=7", "unix", "stdio:", "haproxy", "haproxy:tcp", "express:stdio:",
     "port=7"],
)  # fmt: skip
def test_a_bad_endpoint_string_is_an_error_at_once(reactor: Any, description: str) -> None:
    """One line, which begins with the string, and is not Python's."""
    with pytest.raises(EndpointError) as caught:
        EchoService(reactor, [description], EchoFactory())
    assert str(caught.value).startswith(f"{description}: ")
    assert not re.search(r"\n|Error|\(\)", str(caught.value))


@implementer(IStreamServerEndpoint)
class Slow:
    """A server endpoint that does not know at once, as none of Twisted's own."""

    def __init__(self) -> None:
        self.listening: Deferred[IListeningPort] = Deferred()

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.listening


@ensureDeferred
async def test_a_slow_endpoint_that_fails_is_told(reactor: Any) -> None:
    """What fails after startService has returned is logged as critical."""
    slow = Slow()
    service = EchoService(reactor, [slow], EchoFactory())
    service.startService()
    with capturedLogs() as events:
        slow.listening.errback(OSError("no such luck"))
    (event,) = events
    assert event["log_level"].name == "critical"
    assert "no such luck" in formatEvent(event)
    await service.stopService()


@ensureDeferred
async def test_a_stop_cancels_a_slow_endpoint(reactor: Any) -> None:
    """Nothing begins to listen after the stop."""
    slow = Slow()
    service = EchoService(reactor, [slow], EchoFactory())
    service.startService()
    with capturedLogs() as events:
        await service.stopService()
    assert slow.listening.called
    assert events == []


@ensureDeferred
async def test_a_stop_lets_connections_finish(reactor: Any, connect: Connect) -> None:
    """No new connection, every byte of the old one, and nothing cut."""
    async with serving(reactor, LOOPBACK, drain=3600) as service:
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        peer = await connect(target)
        peer.transport.write(b"before")
        await peer.until(reactor, lambda: peer.received == b"before")
        with capturedLogs() as events:
            stopping = service.stopService()
            await eventually(reactor, lambda: ours(events))
            assert (await probe(reactor, target, Workload(), 1)).failures == {"refused": 1}
            peer.transport.write(b" and after")
            await peer.until(reactor, lambda: peer.received == b"before and after")
            assert not stopping.called
            peer.transport.loseConnection()
            await stopping
        assert ours(events) == ["waiting up to 3600 s for 1 open connection"]
        assert service.factory.counts().lost == {"done": 1}


@ensureDeferred
async def test_a_stop_says_how_many_it_cut(reactor: Any, connect: Connect) -> None:
    """After the drain time the rest is cut, and logged as a warning."""
    async with serving(reactor, LOOPBACK, drain=0.1) as service:
        for _ in range(3):
            await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        await eventually(reactor, lambda: len(service.factory.connections) == 3)
        with capturedLogs() as events:
            await service.stopService()
        aborted = r"aborted 3 connections still open after (\d+\.\d) s"
        found = re.fullmatch(aborted, formatEvent(events[-1]))
        assert found is not None
        assert float(found[1]) >= 0.1
        assert events[-1]["log_level"].name == "warn"
        assert service.factory.counts().lost == {"aborted": 3}


@ensureDeferred
async def test_a_stop_that_is_hurried_before_it_waits(reactor: Any, connect: Connect) -> None:
    """It does not wait at all; the next stop does again."""
    async with serving(reactor, LOOPBACK, drain=3600) as service:
        for _ in range(2):
            await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
            await eventually(reactor, lambda: service.factory.connections)
            stopping = service.stopService()
            service.cut()
            await stopping.addTimeout(LIMIT, reactor)
            service.startService()
        peer = await connect(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        await eventually(reactor, lambda: service.factory.connections)
        with capturedLogs() as events:
            stopping = service.stopService()
            await eventually(reactor, lambda: ours(events))
        assert ours(events) == ["waiting up to 3600 s for 1 open connection"]
        peer.transport.loseConnection()
        await stopping


@ensureDeferred
async def test_a_start_during_the_drain(reactor: Any, connect: Connect, folder: Path) -> None:
    """The stop cuts the connections of its time, not those of the new start."""
    service = EchoService(reactor, [f"unix:{folder}/echo.sock"], EchoFactory(), 0.2)
    service.startService()
    await connect(f"unix:{folder}/echo.sock")
    await eventually(reactor, lambda: service.factory.connections)
    stopping = service.stopService()
    await eventually(reactor, lambda: not service.addresses)
    await eventually(reactor, lambda: not Path(f"{folder}/echo.sock").exists())
    service.startService()
    fresh = await connect(f"unix:{folder}/echo.sock")
    await stopping
    fresh.transport.write(b"x")
    await fresh.until(reactor, lambda: fresh.received == b"x")
    assert service.factory.counts().lost == {"aborted": 1}
    await service.stopService()


@ensureDeferred
async def test_a_port_that_fails_to_close(
    reactor: Any, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged, and the connections drain."""
    slow, factory = Slow(), EchoFactory()
    service = EchoService(reactor, [slow], factory, 3600)
    service.startService()
    port = reactor.listenTCP(0, factory, interface="127.0.0.1")
    stopListening = port.stopListening

    async def fail() -> None:
        await stopListening()
        raise OSError("no such luck")

    monkeypatch.setattr(port, "stopListening", lambda: Deferred.fromCoroutine(fail()))
    slow.listening.callback(port)
    peer = await connect(f"tcp:127.0.0.1:{portOf(port.getHost())}")
    await eventually(reactor, lambda: factory.connections)
    with capturedLogs() as events:
        stopping = service.stopService()
        await eventually(reactor, lambda: len(ours(events)) == 2)
    assert ours(events)[0].startswith("while closing ")
    assert ours(events)[1] == "waiting up to 3600 s for 1 open connection"
    peer.transport.loseConnection()
    await stopping


def test_a_service_refuses_nonsense(reactor: Any) -> None:
    """The message names the field and the value."""
    with pytest.raises(ValueError, match="drain: -1 is not 0 s or more"):
        EchoService(reactor, [LOOPBACK], EchoFactory(), -1)


@ensureDeferred
async def test_two_services_in_one_process(reactor: Any) -> None:
    """Each with its own factory, counts and stop."""
    async with serving(reactor, LOOPBACK) as one, serving(reactor, LOOPBACK) as two:
        target = f"tcp:127.0.0.1:{portOf(two.addresses[0])}"
        await one.stopService()
        results = await probe(reactor, target, Workload(), 2)
        assert results.verdict == "ok"
        assert (one.factory.counts().accepted, two.factory.counts().accepted) == (0, 2)


@ensureDeferred
async def test_server_trace(reactor: Any) -> None:
    """The tutorial's events, in its order; what a peer sends is escaped and bounded."""
    factory = EchoFactory(trace=Trace.DATA)
    with capturedLogs() as events:
        async with serving(reactor, LOOPBACK, factory=factory) as service:
            port = portOf(service.addresses[0])
            message = b"\x1b[31m" + b"x" * 1000
            workload = Workload(messages=(message,))
            await probe(reactor, f"tcp:127.0.0.1:{port}", workload, 1, Patience())
            await eventually(reactor, lambda: not factory.connections)
    lines = ours(events)
    assert lines[0] == f"listening on ('127.0.0.1', {port})"
    assert lines[1].startswith("accepted connection from ('127.0.0.1', ")
    assert lines[2].startswith(r"echoing b'\x1b[31mxxx")
    assert lines[-1].startswith("closing connection to ('127.0.0.1', ")
    # The lane reads a few bytes at first.
    pattern = r"echoing b'.*\.\.\. \(([\d,]+) bytes\) to \('127\.0\.0\.1', \d+\)"
    echoed = [re.fullmatch(pattern, each) for each in lines[2:-1]]
    assert all(echoed), lines
    assert sum(int(each[1].replace(",", "")) for each in echoed if each is not None) == 1005


def sentAgain(connection: socket.socket) -> int:
    """Return how many segments the kernel has sent again, the first one included."""
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    return int.from_bytes(info[100:104], sys.byteorder)


@ensureDeferred
async def test_the_backlog_holds_a_crowd(reactor: Any) -> None:
    """200 clients connect to a server that is busy elsewhere, and none has to retry."""
    async with serving(reactor, LOOPBACK) as service:
        address = ("127.0.0.1", portOf(service.addresses[0]))
        crowd = []
        # The reactor does not run meanwhile: the kernel alone answers.
        for _ in range(200):
            one = socket.create_connection(address, timeout=LIMIT)
            crowd.append(one)
        assert [sentAgain(one) for one in crowd] == [0] * 200
        for one in crowd:
            one.close()


def test_the_former_name_of_ordered_services() -> None:
    """C{echofactory.service.InTurn} still works, with a warning; no other name is there."""
    module = import_module("echofactory.service")
    with pytest.warns(DeprecationWarning, match=r"use echofactory\.OrderedServices"):
        assert module.InTurn is OrderedServices
    with pytest.raises(AttributeError, match="OutOfTurn"):
        module.OutOfTurn  # noqa: B018
