"""
Which of several addresses the connections use.
"""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from peers import Certificates, NamesReactor, portOf, serving
from pytest_twisted import ensureDeferred
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.task import Clock

from echofactory import EchoClientFactory, Patience, Workload
from echofactory.client.race import ATTEMPT_DELAY_S, AddressChoice, interleaved
from echofactory.client.target import Target
from echofactory.results.failures import FailureKind

A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Network:
    """
    Connects on paper: a test decides which attempts end, and how.

    @ivar attempts: those under way, with their addresses, in order.
    """

    def __init__(self, *addresses: str, preferred: str | None = None) -> None:
        self.clock = Clock()
        self.choice = AddressChoice(self.clock, addresses, preferred)
        self.attempts: list[tuple[str, Deferred[Any]]] = []
        self.begun = 0

    def connect(self) -> "Outcome":
        """Ask for a connection."""

        def attempt(address: str) -> Deferred[Any]:
            made: Deferred[Any] = Deferred()
            self.attempts.append((address, made))
            return made

        def begins() -> None:
            self.begun += 1

        return Outcome(self.choice.connect(attempt, begins))

    @property
    def tried(self) -> list[str]:
        """The addresses of all attempts, in order."""
        return [address for address, _ in self.attempts]

    def attempt(self, address: str) -> "Deferred[Any]":
        """Return the first attempt at an address."""
        return next(made for each, made in self.attempts if each == address)


class Outcome:
    """What a connection that was asked for came to; C{None}: nothing yet."""

    def __init__(self, connecting: "Deferred[Any]") -> None:
        self.connecting = connecting
        self.value: Any = None
        connecting.addBoth(lambda value: setattr(self, "value", value))


@pytest.mark.parametrize(
    ("given", "ordered"),
    [
        ([], []),
        ([A], [A]),
        ([A, B, C], [A, C, B]),
        ([C, A, B], [C, A, B]),
        ([A, B], [A, B]),
    ],
)
def test_families_take_turns(given: list[str], ordered: list[str]) -> None:
    """The first address stays the first."""
    assert interleaved(given) == ordered


def test_one_address_is_not_raced_for() -> None:
    """Each connection goes there at once."""
    network = Network(A)
    network.connect(), network.connect()
    assert network.tried == [A, A]
    assert not network.clock.getDelayedCalls()


def test_a_silent_address() -> None:
    """The next is tried beside it after a while; the first to answer is for everyone."""
    network = Network(A, B)
    first, second = network.connect(), network.connect()
    network.clock.advance(ATTEMPT_DELAY_S - 0.01)
    assert network.tried == [A]
    network.clock.advance(0.02)
    assert network.tried == [A, B]
    network.attempt(B).callback("connected")
    assert first.value == "connected"
    # The other attempt was given up.
    assert network.attempt(A).called
    assert network.begun == 0
    network.clock.advance(0)
    assert network.tried == [A, B, B]
    assert network.begun == 1
    network.attempts[2][1].callback("too")
    assert second.value == "too"
    network.connect()
    assert network.tried == [A, B, B, B]
    assert not network.clock.getDelayedCalls()


def test_a_slow_first_address_still_wins() -> None:
    """The first to answer is chosen, not the last that was tried."""
    network = Network(A, B)
    first = network.connect()
    network.clock.advance(ATTEMPT_DELAY_S)
    network.attempt(A).callback("connected")
    assert (first.value, network.choice.chosen) == ("connected", A)
    assert network.attempt(B).called


def test_an_address_that_refuses() -> None:
    """The next one is tried at once."""
    network = Network(A, B)
    first = network.connect()
    network.attempt(A).errback(ValueError("refused"))
    assert network.tried == [A, B]
    network.attempt(B).callback("connected")
    assert first.value == "connected"
    assert not network.clock.getDelayedCalls()


def test_no_address_answers() -> None:
    """All that waited have the last error; the next connection tries again."""
    network = Network(A, B)
    first, second = network.connect(), network.connect()
    network.attempt(A).errback(ValueError("no"))
    network.attempt(B).errback(ValueError("neither"))
    network.clock.advance(0)
    assert [str(each.value.value) for each in (first, second)] == ["neither"] * 2
    network.connect()
    assert network.tried == [A, B, A]


def test_the_racing_connection_is_given_up() -> None:
    """Its attempts end, and the next that waits takes over."""
    network = Network(A, B)
    first, second, third = network.connect(), network.connect(), network.connect()
    network.clock.advance(ATTEMPT_DELAY_S)
    second.connecting.cancel()
    first.connecting.cancel()
    assert first.value.check(CancelledError)
    assert second.value.check(CancelledError)
    assert all(made.called for _, made in network.attempts)
    network.clock.advance(0)
    assert network.tried == [A, B, A]
    network.attempts[2][1].callback("connected")
    assert third.value == "connected"


def test_all_are_given_up() -> None:
    """Nothing is tried for nobody."""
    network = Network(A, B)
    for each in [network.connect(), network.connect()]:
        each.connecting.cancel()
    network.clock.advance(ATTEMPT_DELAY_S)
    assert network.tried == [A]
    assert not network.clock.getDelayedCalls()


def test_what_answered_before_is_tried_first() -> None:
    """After another look-up."""
    network = Network(A, B, preferred=B)
    network.connect()
    assert network.tried == [B]


@pytest.fixture
def full() -> Iterator[Callable[[int], None]]:
    """Makes a port of 127.0.0.2 that answers nobody: its queue is full."""
    opened: list[socket.socket] = []

    def fill(port: int) -> None:
        opened.append(socket.create_server(("127.0.0.2", port), backlog=0))
        opened.append(socket.create_connection(("127.0.0.2", port), 60))

    yield fill
    for each in opened:
        each.close()


@ensureDeferred
async def test_a_run_to_a_name_with_a_silent_address(
    reactor: Any, full: Callable[[int], None]
) -> None:
    """
    The first connection finds the address, and no other waits for the silent one: of all,
    only one could have had the delay in its connect time.
    """
    names: Any = NamesReactor(reactor, two=["127.0.0.2", "127.0.0.1"])
    async with serving(reactor) as service:
        port = portOf(service.addresses[0])
        full(port)
        factory = EchoClientFactory(names, Workload(), 50, Patience(connect=60.0))
        results = await factory.run(f"tcp:two.example:{port}")
    assert results.verdict == "ok", results.examples
    assert results.connectionFacts.addresses == {f"127.0.0.1:{port}": 50}
    assert len(service.factory.connections) == 0
    assert service.counts().accepted == 50


@pytest.mark.parametrize(("family", "found"), [(4, "127.0.0.1"), (6, "[::1]")])
@ensureDeferred
async def test_a_family(reactor: Any, family: Any, found: str) -> None:
    """Only its addresses are asked for, and used."""
    names: Any = NamesReactor(reactor, both=["::1", "127.0.0.1"])
    async with serving(reactor, r"tcp:0:interface=\:\:") as service:
        port = portOf(service.addresses[0])
        target = Target(names, f"tcp:both.example:{port}", 10.0, family=family)
        results = await EchoClientFactory(names, Workload(), 3).run(target)
    assert results.verdict == "ok", results.examples
    assert results.connectionFacts.addresses == {f"{found}:{port}": 3}


@ensureDeferred
async def test_a_name_without_an_address_of_the_family(reactor: Any) -> None:
    """The failure says which is missing."""
    names: Any = NamesReactor(reactor, four=["127.0.0.1"])
    target = Target(names, "tcp:four.example:7", 10.0, family=6)
    results = await EchoClientFactory(names, Workload(), 3).run(target)
    assert results.failures == {FailureKind.DNS: 3}
    assert "'four.example' has no IPv6 address" in results.examples[FailureKind.DNS].detail


@ensureDeferred
async def test_an_interrupted_race(reactor: Any, full: Callable[[int], None]) -> None:
    """No connection has failed: their outcome is not known."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    full(port)
    # Two addresses, both silent: the second is another form of the first.
    names: Any = NamesReactor(reactor, two=["127.0.0.2", "::ffff:127.0.0.2"])
    factory = EchoClientFactory(names, Workload(), 20, Patience(connect=60.0))
    running = Deferred.fromCoroutine(factory.run(f"tcp:two.example:{port}"))
    factory.interrupt()
    results = await running
    assert (results.verdict, results.failures) == ("interrupted", {})


@ensureDeferred
async def test_certificates_are_read_once(
    reactor: Any, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each connection."""
    read = []

    def counting(made: Any, description: str) -> Any:
        read.append(description)
        return clientFromString(made, description)

    monkeypatch.setattr("echofactory.client.target.clientFromString", counting)
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    async with serving(reactor, listen) as service:
        port = portOf(service.addresses[0])
        text = f"tls:127.0.0.1:{port}:trustRoots={certificates.trust}"
        results = await EchoClientFactory(reactor, Workload(), 20).run(text)
    assert results.verdict == "ok", results.examples
    # To see whether the string is right, and for the one address.
    assert len(read) == 2
