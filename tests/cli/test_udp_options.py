"""
The options of the echo over UDP.
"""

import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
from datagrams import ask, datagramSocket, echoingOverUDP
from peers import portOf
from programs import TWISTD, Program, running, until
from pytest_twisted import ensureDeferred

from echofactory import (
    EchoFactory,
    EchoService,
    Workload,
    probe,
)
from echofactory.cli.server import ServerOptions
from echofactory.express.addresstext import hostPortText
from echofactory.net.endpoints import ListenError
from echofactory.server.guard import (
    DEFAULT_RATE_PER_SOURCE,
)

pytestmark = pytest.mark.reactors


def test_trace_data_tells_of_each_datagram() -> None:
    """As of what comes over TCP."""
    with echoingOverUDP("--trace", "data") as (server, port), datagramSocket() as peer:
        assert ask(peer, b"\x1b[31m", ("127.0.0.1", port)) == b"\x1b[31m"
        server.waitFor(re.escape(rf"echoing b'\x1b[31m' to 127.0.0.1:{peer.getsockname()[1]}"))


def failing(*arguments: str) -> Program:
    """Run a server that is to end by itself."""
    with running([*TWISTD, "multiecho", *arguments]) as program:
        program.finish()
    return program


def test_a_taken_port() -> None:
    """All or none: one line, exit 1, and the TCP port is not kept either."""
    with datagramSocket() as taken, socket.create_server(("127.0.0.1", 0)) as once:
        port, tcp = taken.getsockname()[1], once.getsockname()[1]
        once.close()
        done = failing("127.0.0.1", str(tcp), "--udp", f"127.0.0.1:{port}")
    assert done.process.returncode == 1
    assert done.err == [
        f"multiecho: --udp: cannot listen on udp 127.0.0.1:{port}: Address already in use"
    ]
    socket.create_server(("127.0.0.1", tcp)).close()


# Twisted leaves the socket that it could not bind to be closed by its destructor.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@ensureDeferred
async def test_a_service_that_cannot_bind_can_be_started_later(reactor: Any) -> None:
    """Nothing is left listening, and a privileged start binds once."""
    with datagramSocket() as taken:
        port = taken.getsockname()[1]
        service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", port)])
        with pytest.raises(ListenError, match=f"udp 127.0.0.1:{port}: .*in use"):
            service.startService()
        assert service.addresses == []
    service.privilegedStartService()
    service.startService()
    (address,) = service.addresses
    results = await probe(reactor, f"udp:127.0.0.1:{portOf(address)}", Workload())
    assert results.verdict == "ok", results.examples
    assert service.datagramCounts.answered == 4
    await service.stopService()


@pytest.mark.parametrize(
    "value", ["", "7", ":7", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "::1:7", "a:b:7",
              "[]:7", "127.0.0.1:-1", "127.0.0.1:x"],
)  # fmt: skip
def test_malformed_addresses(refusal: Callable[..., str], value: str) -> None:
    """One line that names the option, the value and what is accepted."""
    assert refusal(ServerOptions().parseOptions, "--udp", value) == (
        f"multiecho: --udp: {value!r} is not HOST:PORT, such as 127.0.0.1:7007 or [::1]:7007,"
        " with a port from 0 to 65535"
    )


def test_a_host_without_an_address() -> None:
    """It cannot be listened on: one line, exit 1."""
    done = failing("127.0.0.1", "0", "--udp", "nowhere.invalid:7")
    assert done.process.returncode == 1
    (line,) = done.err
    assert line.startswith("multiecho: --udp: cannot listen on udp nowhere.invalid:7: ")


def test_the_help_says_why() -> None:
    """What is not answered, at what rate, and for what reason."""
    text = " ".join(str(ServerOptions()).split())
    assert "A forged source address can turn an echo over UDP into a loop" in text
    assert "Maximum number of datagrams per second that the server answers to one" in text
    assert f"Default: {DEFAULT_RATE_PER_SOURCE / 1000:g}k." in text


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--udp", "127.0.0.1:0", "--udp-rate", value], f"--udp-rate: {value!r} is not a rate")
        for value in ("0", "0.5", "-1", "11M", "fast")
    ]
    + [(["--udp-rate", "5k"], "--udp-rate: give --udp too")],
)
def test_rates_that_are_none(
    refusal: Callable[..., str], arguments: list[str], line: str
) -> None:
    """One line, exit 2."""
    told = refusal(ServerOptions().parseOptions, *arguments)
    assert told.startswith(f"multiecho: {line}")


def foreign() -> str:
    """Return an address of this machine's that is not of the loopback interface."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probing:
        try:
            # Nothing is sent.
            probing.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no other address")
        address: str = probing.getsockname()[0]
    return address


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_the_rate_is_the_operators(workers: list[str]) -> None:
    """The option reaches what echoes, with workers beside it too; the log tells of it."""
    host = foreign()
    with echoingOverUDP("--udp", f"{host}:0", "--udp-rate", "5", *workers) as (server, _):
        port = int(
            server.waitFor(rf"listening on udp {re.escape(hostPortText(host, 0))[:-1]}(\d+)$")[
                1
            ]
        )
        with datagramSocket((host, 0)) as peer:
            # Of those that come at once, the first five are answered.
            for _ in range(5):
                peer.sendto(b"x", (host, port))
                assert peer.recv(9) == b"x"

            def refused() -> bool:
                for _ in range(30):
                    peer.sendto(b"x", (host, port))
                return any("over the rate limit of the source" in line for line in server.out)

            until(refused)


def test_a_service_with_no_rate(reactor: Any) -> None:
    """It is refused when it is made."""
    with pytest.raises(ValueError, match=r"datagramRate: 0\.5 is not 1 or more"):
        EchoService(reactor, [], EchoFactory(), datagramRate=0.5)
