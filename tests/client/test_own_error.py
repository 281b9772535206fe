"""
The client's own error: the receive lag of replies that wait in the kernel, and the schedule of
a client that keeps a core awake.
"""

import json
import os
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme
from datagrams import echoingOverUDP
from programs import CLIENT, LIMIT, Program, client, multiecho, running, stateOf, until
from schema import validate
from twisted.internet.task import Clock

from echofactory import EchoClientFactory, Workload
from echofactory.cli.clientoptions import ClientOptions
from echofactory.client.receivelag import ReplySampler
from echofactory.net.timestamps import arrivalOf, stampArrivals
from echofactory.results.books import Results
from echofactory.workload.schedule import Rate

pytestmark = pytest.mark.oldest

MS = 1_000_000
HELD_S = 0.05
ADDRESS = ("127.0.0.1", "0")

linux = pytest.mark.skipif(sys.platform != "linux", reason="timestamps of Linux")


@pytest.fixture(scope="module", autouse=True)
def stamping() -> Iterator[None]:
    """
    Have the kernel note when packets arrive. It begins some time after the first socket asks
    for that, and goes on while there is one.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.bind(("127.0.0.1", 0))
        limit = time.monotonic() + LIMIT
        control: list[Any] = []
        while stampArrivals(SimpleNamespace(socket=asking)) and not arrivalOf(control):
            assert time.monotonic() < limit
            asking.sendto(b"x", asking.getsockname())
            _, control, _, _ = asking.recvmsg(8, 1024)
        yield


def untilItWaits(pid: int) -> None:
    """
    Wait until a process sleeps. Then it has read everything that has arrived. If it stopped in
    the middle of a read, that read would get the reply with the timestamp of what came first.
    """
    until(lambda: stateOf(pid)[0] == "S")


@contextmanager
def stopped(program: Program) -> Iterator[None]:
    """Stop a process, and let it go on after some time."""
    pid = program.process.pid
    untilItWaits(pid)
    os.kill(pid, signal.SIGSTOP)
    until(lambda: stateOf(pid)[0] == "T")
    yield
    time.sleep(HELD_S)
    os.kill(pid, signal.SIGCONT)


def finished(program: Program) -> Any:
    """Return the JSON of a client that has verified everything."""
    assert program.finish() == 0, program.err
    return validate(json.loads("\n".join(program.out)))


def command(target: str, *options: str) -> list[str]:
    return [
        *CLIENT, "--connect", target, "--connections", "1", "--message", "hello",
        "--json", "-", "--quiet", *options,
    ]  # fmt: skip


def overStream(
    target: str, wrap: Callable[[socket.socket], socket.socket], *options: str
) -> Any:
    """Run a client that stands still while its reply arrives."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(LIMIT)
        port = listening.getsockname()[1]
        with running(command(f"{target}:127.0.0.1:{port}", *options)) as program:
            accepted, _ = listening.accept()
            accepted.settimeout(LIMIT)
            # Otherwise the reply over TLS would wait for an acknowledgement of the tickets.
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with wrap(accepted) as connection:
                message = connection.recv(64)
                with stopped(program):
                    connection.sendall(message)
                # Not before the client does, or the end of the stream would come too early.
                assert connection.recv(64) == b""
            return finished(program)


def isOfTheHold(results: Any) -> bool:
    """Tell whether the only sample is the time for which the client stood still, or more."""
    lag = results["receive_lag_ns"]
    assert lag["count"] == 1
    assert results["histograms"]["receive_lag"] is not None
    assert results["client"] == {
        "spin": False, "own_ns": lag["p99"], "receive_lag_dropped": 0,
    }  # fmt: skip
    return bool(
        HELD_S * 1e9 * 0.999 <= lag["min"] <= lag["max"] <= results["response_ns"]["max"]
    )


@linux
@pytest.mark.parametrize("options", [(), ("--no-express",)])
def test_a_reply_over_tcp_that_waits_in_the_kernel(options: tuple[str, ...]) -> None:
    """The time from its arrival to the client's read is receive lag, with and without lane."""
    assert isOfTheHold(overStream("tcp", lambda connection: connection, *options))


@linux
@pytest.mark.parametrize("options", [(), ("--no-express",)])
def test_a_reply_over_tls_that_waits_in_the_kernel(options: tuple[str, ...]) -> None:
    """The same over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    def wrap(connection: socket.socket) -> socket.socket:
        return context.wrap_socket(connection, server_side=True)

    assert isOfTheHold(overStream("ssl", wrap, *options))


@linux
def test_a_datagram_that_waits_in_the_kernel() -> None:
    """The same over UDP."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.settimeout(LIMIT)
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        with running(command(f"udp:127.0.0.1:{port}")) as program:
            message, address = server.recvfrom(64)
            with stopped(program):
                server.sendto(message, address)
            assert isOfTheHold(finished(program))


def test_a_unix_socket_has_no_receive_lag(tmp_path: Path) -> None:
    """The results and the report say so."""
    path = tmp_path / "echo"
    with multiecho("--trace", "none", "--listen", f"unix:{path}"):
        done = client("--connect", f"unix:{path}", "--json", "-")
    assert done.process.returncode == 0
    results = validate(json.loads("\n".join(done.out)))
    assert results["receive_lag_ns"] is None
    assert results["client"]["own_ns"] is None
    assert "client         receive lag not known" in done.err


@linux
@pytest.mark.parametrize("options", [(), ("--churn",), ("--rate", "2k"), ("--window", "8")])
def test_one_reply_in_64(options: tuple[str, ...]) -> None:
    """On average. Connections that last for one message have their share."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        done = client(
            "127.0.0.1", str(port), "5", "--size", "64", "--count", "200", "--json", "-",
            "--quiet", *options,
        )  # fmt: skip
    results = validate(json.loads("\n".join(done.out)))
    assert results["messages"]["verified"] == 1000
    # The gaps are from 1 to 127, so that 7 or more are chosen. Some of these can be the reply
    # after another one of the same connection. One in ten million runs has more than 50.
    assert 4 <= results["receive_lag_ns"]["count"] <= 50


class Readable:
    """A transport whose reads complete a reply each."""

    def __init__(self, made: socket.socket, results: Results) -> None:
        self.socket = made
        self._results = results

    def doRead(self) -> None:
        assert self.socket.recv(64)
        self._results.verified += 1
        self._results.lastAt = time.perf_counter_ns()


@contextmanager
def sampling(wallClock: Callable[[], int]) -> Iterator[tuple[Results, Callable[[], None]]]:
    """
    Sample the replies of a connection.

    @return: the results, and what has the next reply arrive and be read.
    """
    results = Results(target="", workload=Workload().facts(), requested=1)
    sampler = ReplySampler(results, time.perf_counter_ns, wallClock, lambda: 1)
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as made,
        listening.accept()[0] as peer,
    ):
        made.settimeout(LIMIT)
        transport = Readable(made, results)
        sampler.connected(transport)

        def reply() -> None:
            peer.sendall(b"x")
            transport.doRead()
            if results.verified >= sampler.nextAt:
                sampler.sample(transport)

        yield results, reply


@linux
def test_the_wall_clock_is_set_while_a_reply_is_awaited() -> None:
    """Its receive lag is dropped and counted, and that of the next one is not."""
    offset = 0
    with sampling(lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) + offset) as (
        results, reply,
    ):  # fmt: skip
        for change in (0, 0, 5_000 * MS, 0, -3_000 * MS):
            offset += change
            reply()
    assert results.verified == 5
    assert results.receiveLag is not None
    # Preemption between the two clocks can look like a change.
    assert results.receiveLagDropped >= 2
    assert results.receiveLag.count + results.receiveLagDropped == 5


@linux
def test_a_reply_that_arrives_after_it_was_read() -> None:
    """This wall clock is behind the kernel's. Nothing negative is recorded."""
    with sampling(lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) - 1_000 * MS) as (
        results, reply,
    ):  # fmt: skip
        reply()
        reply()
    assert results.receiveLag is not None
    assert (results.receiveLag.count, results.receiveLagDropped) == (0, 2)


@linux
def test_receive_lag_is_the_difference_of_the_clocks() -> None:
    """This wall clock is ahead of the kernel's, as if the reply had waited for 10 s."""
    with sampling(lambda: time.clock_gettime_ns(time.CLOCK_REALTIME) + 10_000 * MS) as (
        results, reply,
    ):  # fmt: skip
        for _ in range(20):
            reply()
    assert results.receiveLag is not None
    least = results.receiveLag.asJSON()["min"]
    assert least is not None
    assert least >= 9_990 * MS


# Spinning


@pytest.mark.parametrize("kind", ["tcp", "udp", "tcp --no-express"])
def test_a_client_that_spins(kind: str) -> None:
    """It sends every message of the schedule, and says that it kept a core awake."""
    transport, *options = kind.split()
    with echoingOverUDP() as (_, udp), multiecho("--trace", "none", *ADDRESS) as (_, tcp):
        port = udp if transport == "udp" else tcp
        done = client(
            "--connect", f"{transport}:127.0.0.1:{port}", "--connections", "5", "--size", "64",
            "--rate", "500", "--count", "40", "--spin", "--json", "-", *options,
        )  # fmt: skip
    results = validate(json.loads("\n".join(done.out)))
    assert done.process.returncode == 0, done.err
    assert results["messages"]["verified"] == 200
    assert results["send_lag_ns"]["count"] == 200
    assert results["client"]["spin"]
    assert any(line.startswith("client         a core is kept awake") for line in done.err)


def test_spinning_needs_a_core_of_its_own() -> None:
    """If there is only one, a warning says so, and the run goes on."""
    alone = (
        "import os, sys; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]);"
        " os.execv(sys.executable, sys.argv[1:])"
    )
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        words = [
            sys.executable, "-c", alone, *CLIENT, "127.0.0.1", str(port), "1", "--size", "64",
            "--rate", "100", "--count", "5", "--spin", "--json", "-", "--quiet",
        ]  # fmt: skip
        with running(words) as program:
            results = finished(program)
    advice = (
        "spinning needs a core of its own, and this process can use only one: whatever else"
        " runs there waits for the client"
    )
    assert advice in results["warnings"]
    assert f"echofactory.client: warning: {advice}" in program.err


def test_a_search_spins() -> None:
    """So does each of its rates."""
    with multiecho("--trace", "none", *ADDRESS) as (_, port):
        done = client(
            "127.0.0.1", str(port), "2", "--size", "64", "--find-rate", "max<1us", "--duration",
            "100ms", "--spin", "--json", "-", "--quiet",
        )  # fmt: skip
    assert done.process.returncode == 1, done.err
    assert validate(json.loads("\n".join(done.out)))["client"]["spin"]


def test_spinning_without_a_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    """No message has a time to be sent at: it is refused, in one line."""
    with pytest.raises(SystemExit) as refused:
        ClientOptions().parseOptions(["127.0.0.1", "7", "--spin"])
    assert refused.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("echofactory.client: --spin: it needs --rate or --find-rate")
    with pytest.raises(ValueError, match="spin: without a rate"):
        EchoClientFactory(Clock(), Workload(size=64), spin=True)
    scheduled = Workload(size=64, count=1, rate=Rate(1, 1))
    with pytest.raises(TypeError, match="spin"):
        EchoClientFactory(Clock(), scheduled, spin=1)  # type: ignore[arg-type]
