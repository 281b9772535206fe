"""
The client over UDP: its targets, its report, and how it is interrupted.
"""

import json
import signal
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from datagrams import answering, begun, serving
from peers import FakeTimeReactor, eventually, portOf
from programs import CLIENT, running
from pytest_twisted import ensureDeferred
from runs import balanced
from schema import FACTS, validate
from twisted.logger import capturedLogs, formatEvent

from echofactory import (
    EchoClientFactory,
    EchoFactory,
    EchoService,
    Results,
    Trace,
    Workload,
    probe,
)
from echofactory.cli.client import main
from echofactory.client.target import Target
from echofactory.net.endpoints import EndpointError
from echofactory.results.merge import merged
from echofactory.results.path import Datagrams
from echofactory.workload.datagrams import (
    MAX_DATAGRAM_SIZE,
)

pytestmark = pytest.mark.reactors


@ensureDeferred
async def test_interrupted_with_faults(reactor: Any) -> None:
    """What is known to be wrong is told; what is out is unanswered, and not lost."""
    fake: Any = FakeTimeReactor(reactor)
    with answering([1, 1], [2]) as (target, _):
        factory, running = begun(fake, target, Workload(size=64, count=100, window=2))
        await eventually(reactor, lambda: factory.results.verified == 2)
        factory.interrupt()
        results = await running
    assert results.verdict == "interrupted"
    assert results.failures == {"extra-bytes": 1}
    assert (results.verified, results.datagrams) == (2, Datagrams(repeated=1))
    assert balanced(results)


def test_an_interrupt(served: str) -> None:
    """Ctrl-C: the report, exit 130, the books balanced."""
    arguments = ["--connect", served, "-n", "3", "--size", "64", "--count", "999999999"]
    told = ["--json", "-", "--trace", "connections"]
    with running([*CLIENT, *arguments, *told]) as program:
        program.waitFor(r"starting connection 3 to udp 127\.0\.0\.1:\d+", program.err)
        assert program.end(signal.SIGINT) == 130
    results = validate(json.loads("\n".join(program.out)))
    assert results["verdict"] == "interrupted"
    assert results["connections"]["completed"] == results["connections"]["failed"] == 0
    assert program.err[-1] == "verdict        interrupted: 3 connections not done"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ("udp:127.0.0.1:7 --size 65508", "--size: 65,508 bytes are more than a datagram holds"),
        ("udp:127.0.0.1", "--connect: udp:127.0.0.1: not udp:HOST:PORT"),
        ("udp::7", "--connect: udp::7: not udp:HOST:PORT"),
        ("udp:127.0.0.1:7 --message-file FILE", "--message-file: 70,000 bytes are more than"),
        ("udp:127.0.0.1:7 --half-close", "--half-close: over UDP there is no stream to end"),
    ],
)
def test_bad_usage(
    refusal: Callable[..., str], arguments: str, line: str, tmp_path: Path
) -> None:
    """One line that says what is wrong; exit 2."""
    path = tmp_path / "file"
    path.write_bytes(bytes(70_000))
    told = refusal(main, "--connect", *arguments.replace("FILE", str(path)).split())
    assert told.startswith(f"echofactory.client: {line}")


@pytest.mark.parametrize(
    ("description", "line"),
    [
        ("udp:127.0.0.1", "not udp:HOST:PORT, with or without :bindAddress=ADDRESS"),
        ("udp:127.0.0.1:7:timeout=3", "not udp:HOST:PORT"),
        ("udp:127.0.0.1:7:127.0.0.1:5:6", "not udp:HOST:PORT"),
        ("udp:::1:7", "not udp:HOST:PORT"),
        ("udp:[fe80::1:7", "not udp:HOST:PORT"),
        ("udp::7", "not udp:HOST:PORT"),
        ("udp:", "not udp:HOST:PORT"),
        ("udp:127.0.0.1:0", "port 0 is not from 1 to 65535"),
        ("udp:127.0.0.1:65536", "port 65536 is not from 1 to 65535"),
        ("udp:127.0.0.1:abc", "port 'abc' is not from 1 to 65535"),
        ("udp:127.0.0.1:-7", "port '-7' is not from 1 to 65535"),
        ("udp:127.0.0.1:7:bindAddress=foo", "bindAddress 'foo' is not an IPv4 or IPv6 address"),
        ("udp:127.0.0.1:7:bindAddress=", "bindAddress '' is not an IPv4 or IPv6 address"),
        ("express:udp:127.0.0.1:7", "the fast lane carries no datagrams"),
    ],
)
def test_bad_targets(reactor: Any, description: str, line: str) -> None:
    """One line, which begins with the string."""
    with pytest.raises(EndpointError) as caught:
        Target(reactor, description, 1.0)
    assert str(caught.value).startswith(f"{description}: {line}")


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        (
            Workload(size=MAX_DATAGRAM_SIZE + 1),
            "size: 65,508 bytes; a datagram has at most",
        ),
        (Workload(messages=(b"x" * 70_000,)), "messages: 70,000 bytes; a datagram has"),
        (Workload(halfClose=True), "halfClose: UDP has no stream to close"),
    ],
)
@ensureDeferred
async def test_workloads_that_do_not_fit(reactor: Any, workload: Workload, text: str) -> None:
    """The same from a program: a mistake in the call raises."""
    with pytest.raises(ValueError, match=text):
        await probe(reactor, "udp:127.0.0.1:7", workload)


@ensureDeferred
async def test_brackets_and_escapes(reactor: Any) -> None:
    """
    An IPv6 address may stand in brackets, with its zone if it has one, or with its
    colons escaped.
    """
    async with serving(reactor, "::1") as (_, port):
        for host in ("[::1]", "[::1%1]", r"\:\:1"):
            results = await probe(reactor, f"udp:{host}:{port}", Workload())
            assert results.verdict == "ok", results.examples


def ofALink() -> str:
    """Return an address of this machine's that is one on a link only, with its zone."""
    for line in Path("/proc/net/if_inet6").read_text().splitlines():
        digits, _, _, scope, _, name = line.split()
        if scope == "20":
            return f"{ip_address(bytes.fromhex(digits))}%{name}"
    pytest.skip("this machine has no address of a link")


@pytest.mark.parametrize("served", ["own", "::"])
@ensureDeferred
async def test_an_address_of_a_link(reactor: Any, served: str) -> None:
    """It is asked on its link, and answers from there."""
    host = ofALink()
    async with serving(reactor, host if served == "own" else served) as (_, port):
        for target in (f"udp:[{host}]:{port}", f"udp:[{host}]:{port}:bindAddress=[{host}]"):
            results = await probe(reactor, target, Workload(), 1)
            assert results.verdict == "ok", results.examples


@pytest.mark.parametrize("host", ["fe80::1%eth0", "fe80::aBc%r1", "fe80::1%wg-a.7"])
def test_zones(reactor: Any, host: str) -> None:
    """That of an address is the name of an interface, whatever that is."""
    for text in (f"[{host}]", host.replace(":", r"\:")):
        assert Target(reactor, f"udp:{text}:7007", 1.0).text == f"udp [{host}]:7007"


@ensureDeferred
async def test_the_trace(reactor: Any) -> None:
    """What goes out and comes in is told as over TCP."""
    service = EchoService(reactor, [], EchoFactory(), datagrams=[("127.0.0.1", 0)])
    service.startService()
    port = portOf(service.addresses[0])
    with capturedLogs() as events:
        factory = EchoClientFactory(reactor, Workload(messages=(b"hi",)), 1, trace=Trace.DATA)
        await factory.run(f"udp:127.0.0.1:{port}")
    assert [formatEvent(e) for e in events if e["log_namespace"].startswith("echof")] == [
        f"starting connection 1 to udp 127.0.0.1:{port}",
        "sending b'hi' to connection 1",
        "received b'hi' from connection 1",
        "closing connection 1",
    ]
    await service.stopService()


def test_runs_merged() -> None:
    """Their counts add up; a run of streams does not belong to them."""

    def run(target: str, datagrams: Datagrams | None) -> Results:
        return Results(
            target=target, workload=FACTS, requested=0, elapsedNs=10**9, datagrams=datagrams
        )

    runs = [run("udp:127.0.0.1:7", Datagrams(lost=n)) for n in (1, 2)]
    assert merged(runs).datagrams == Datagrams(lost=3)
    streams = run("tcp:127.0.0.1:7", None)
    with pytest.raises(ValueError, match="some of the runs are over UDP"):
        merged([*runs, streams])
