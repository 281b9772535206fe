"""
DSCP and congestion control of both programs.
"""

import socket
from typing import Any

import pytest
from peers import eventually, portOf, serving
from pytest_twisted import ensureDeferred
from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent

from echofactory import EchoClientFactory, EchoFactory, EchoService, Workload
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.server import ServerOptions
from echofactory.cli.socketoptions import parseDSCP
from echofactory.client.target import Target
from echofactory.net.socketoptions import SocketOptions, checkCongestion
from echofactory.net.transport import lowestTransport
from echofactory.results.connectionfacts import SocketFacts
from echofactory.server.settings import ServerSettings

OPTIONS = SocketOptions(dscp=34, congestion="reno")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("63", 63), ("EF", 46), ("af41", 34), ("AF13", 14), ("CS1", 8), ("LE", 1)],
)
def test_code_points(text: str, value: int) -> None:
    """As numbers and as names."""
    assert parseDSCP(text) == value


@pytest.mark.parametrize("text", ["64", "-1", "AF44", "AF14", "", "1.0", "²", "046"])
def test_no_code_points(text: str) -> None:
    """The text says what there is."""
    with pytest.raises(ValueError, match="neither a number from 0 to 63 nor a name such as"):
        parseDSCP(text)


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_what_the_kernel_has(family: socket.AddressFamily) -> None:
    """It is what was set, for what was set."""
    with socket.socket(family) as handle:
        OPTIONS.setOn(handle)
        assert OPTIONS.readFrom(handle) == OPTIONS
        assert SocketOptions(dscp=0).readFrom(handle) == SocketOptions(dscp=34)
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
        assert OPTIONS.readFrom(handle).congestion == "cubic"


def test_a_congestion_control_that_is_not_there() -> None:
    """The text names those that are."""
    with pytest.raises(ValueError, match=r"^not a congestion control that this kernel has: .*"):
        checkCongestion("nonesuch")


@pytest.mark.parametrize("options", [ClientOptions, ServerOptions])
@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--dscp", "64"], "--dscp: '64' is neither a number from 0 to 63"),
        (["--congestion", "nonesuch"], "--congestion: 'nonesuch' is not a congestion control"),
    ],
)
def test_bad_usage(
    options: Any, words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit status 2."""
    with pytest.raises(SystemExit) as caught:
        options().parseOptions([*words, "127.0.0.1", "7007"])
    assert caught.value.code == 2
    (text,) = capsys.readouterr().err.splitlines()
    assert line in text


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--congestion", "reno", "--connect", "udp:127.0.0.1:7"], "UDP has no congestion"),
        (["--dscp", "EF", "--connect", "unix:/a"], "--dscp: a UNIX socket has none"),
        (["--congestion", "reno", "--connect", "unix:@a"], "--congestion: a UNIX socket"),
    ],
)
def test_where_there_is_none(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The option is refused."""
    with pytest.raises(SystemExit):
        ClientOptions().parseOptions(words)
    assert line in capsys.readouterr().err


@ensureDeferred
@pytest.mark.parametrize("prefix", ["", "express:"])
@pytest.mark.parametrize("interface", ["127.0.0.1", "::1"])
async def test_the_clients_sockets(reactor: Any, prefix: str, interface: str) -> None:
    """They have the options, and the books say so."""
    quoted = interface.replace(":", r"\:")
    async with serving(reactor, f"tcp:0:interface={quoted}") as service:
        text = f"{prefix}tcp:{quoted}:{portOf(service.addresses[0])}"
        target = Target(reactor, text, 10.0, socketOptions=OPTIONS)
        results = await EchoClientFactory(reactor, Workload(), 3).run(target)
    assert results.verdict == "ok", results.examples
    assert results.connectionFacts.sockets == {SocketFacts(34, "reno"): 3}


@ensureDeferred
async def test_the_clients_sockets_of_udp(reactor: Any) -> None:
    """They have the code point alone."""
    service = EchoService(reactor, [], EchoFactory(), 0, [("127.0.0.1", 0)])
    service.startService()
    text = f"udp:127.0.0.1:{portOf(service.addresses[0])}"
    target = Target(reactor, text, 10.0, socketOptions=SocketOptions(dscp=10))
    results = await EchoClientFactory(reactor, Workload(size=64), 2).run(target)
    await service.stopService()
    assert results.verdict == "ok", results.examples
    assert results.connectionFacts.sockets == {SocketFacts(10, None): 2}


@ensureDeferred
@pytest.mark.parametrize("prefix", ["", "express:", "haproxy:"])
async def test_the_servers_sockets(reactor: Any, prefix: str) -> None:
    """Accepted connections have the options; the log has one line about them."""
    factory = EchoFactory()
    factory.socketOptions = OPTIONS
    listen = [f"{prefix}tcp:0:interface=127.0.0.1"] * 2
    with capturedLogs() as events:
        async with serving(reactor, *listen, factory=factory) as service:
            with socket.create_connection(("127.0.0.1", portOf(service.addresses[1]))) as peer:
                if prefix == "haproxy:":
                    peer.sendall(b"PROXY UNKNOWN\r\n")
                await eventually(reactor, lambda: factory.connections)
                (echo,) = factory.connections
                handle = lowestTransport(echo.transport).getHandle()
                assert OPTIONS.readFrom(handle) == OPTIONS
    lines = [formatEvent(event) for event in events]
    assert lines.count("sockets have DSCP 34, congestion control reno") == 1


@ensureDeferred
async def test_a_listening_socket_of_another_process(reactor: Any) -> None:
    """Each connection has the options, though the port was made without them."""
    factory = EchoFactory()
    factory.socketOptions = OPTIONS
    with socket.create_server(("127.0.0.1", 0)) as passed:
        passed.setblocking(False)
        port: Any = reactor.adoptStreamPort(passed.fileno(), socket.AF_INET, factory)
        with capturedLogs() as events, socket.create_connection(passed.getsockname()):
            await eventually(reactor, lambda: factory.connections)
            (echo,) = factory.connections
            assert OPTIONS.readFrom(lowestTransport(echo.transport).getHandle()) == OPTIONS
            echo.abort()
            closed: Deferred[None] = factory.whenClosed({echo})
            await closed
        await port.stopListening()
    lines = [formatEvent(event) for event in events]
    assert "sockets have DSCP 34, congestion control reno" in lines


@ensureDeferred
async def test_the_servers_socket_of_udp(reactor: Any) -> None:
    """Its answers have the code point, which the receiver reads."""
    factory = EchoFactory()
    factory.socketOptions = SocketOptions(dscp=46)
    service = EchoService(reactor, [], factory, 0, [("127.0.0.1", 0)])
    service.startService()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_RECVTOS", 13), 1)
        peer.setblocking(False)
        peer.sendto(b"x", ("127.0.0.1", portOf(service.addresses[0])))
        received: list[Any] = []

        def arrived() -> bool:
            try:
                received.append(peer.recvmsg(64, 64))
            except BlockingIOError:
                return False
            return True

        await eventually(reactor, arrived)
    await service.stopService()
    (datagram, ((_, _, tos),), *_), *_ = received
    assert (datagram, tos[0] >> 2) == (b"x", 46)


def test_workers_receive_them() -> None:
    """The settings travel as JSON."""
    settings = ServerSettings(sockets=OPTIONS)
    assert ServerSettings.fromJSON(settings.asJSON()).sockets == OPTIONS


def test_the_servers_options() -> None:
    """The command line sets them."""
    options = ServerOptions()
    options.parseOptions(["--dscp", "AF41", "--congestion", "reno"])
    assert options.settings.sockets == OPTIONS


def test_fields_are_checked() -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match="dscp: 64"):
        SocketOptions(dscp=64)
