"""
The client in this process: what it does on every kind of peer and failure.
"""

import errno
import socket
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from OpenSSL.SSL import Error as TLSError
from peers import (
    Certificates,
    FakeTimeReactor,
    Handler,
    NamesReactor,
    Peer,
    alters,
    closesAtOnce,
    closesHalfway,
    eventually,
    holdsOn,
    misbehaving,
    neverAnswers,
    neverEnds,
    neverReads,
    portOf,
    resets,
    sendsExtra,
    serving,
)
from programs import LIMIT
from pytest_twisted import ensureDeferred
from runs import balanced
from schema import FACTS
from service_identity import VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import (
    ConnectBindError,
    ConnectError,
    ConnectionDone,
    ConnectionLost,
    ConnectionRefusedError,
    DNSLookupError,
    NoRouteError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure

from echofactory import (
    Echo,
    EchoClientFactory,
    EchoFactory,
    FailureKind,
    Limits,
    Patience,
    Results,
    Trace,
    Workload,
    probe,
)
from echofactory.client.failures import classify
from echofactory.client.target import Target
from echofactory.net.endpoints import EndpointError
from echofactory.workload.schedule import Rate

pytestmark = [pytest.mark.reactors, pytest.mark.oldest]

# For a peer that never answers: the timeout fires however fast the machine is.
HASTY = Patience(connect=LIMIT, reply=0.2)


def fakeTimeRun(
    fake: Any, endpoint: Any, workload: Workload, patience: Patience
) -> tuple[EchoClientFactory, Deferred[Results]]:
    """Begin a run of two connections whose time is that of the fake clock."""
    factory = EchoClientFactory(fake, workload, 2, patience, clock=fake.ns)
    return factory, Deferred.fromCoroutine(factory.run(endpoint))


EARLY = "the peer closed before every byte was back"


@pytest.mark.parametrize(
    ("handler", "kind", "verified", "detail"),
    [
        (closesAtOnce, "closed-early", 0, EARLY),
        (closesHalfway, "closed-early", 1, EARLY),
        (resets, "reset", 0, "the connection was reset"),
        (sendsExtra, "extra-bytes", 2, r"after message 2: received b'\x1b[31mextra' unasked"),
        (neverAnswers, "reply-timeout", 0, "nothing came for 0.2 s; 2 messages outstanding"),
        (
            alters(30),
            "mismatch",
            1,
            "message 2, offset 8: expected b'2 from client.', received b'3 from client.'",
        ),
    ],
)
@ensureDeferred
async def test_a_misbehaving_peer(
    reactor: Any, handler: Handler, kind: str, verified: int, detail: str
) -> None:
    """Each fault has its kind, its first example, and balanced books."""
    patience = HASTY if handler is neverAnswers else Patience()
    with misbehaving(handler) as port:
        results = await probe(reactor, f"tcp:127.0.0.1:{port}", Workload(), 5, patience)
    assert results.failures == {kind: 5}
    example = results.examples[FailureKind(kind)]
    assert (example.detail, example.kind) == (detail, kind)
    assert results.verdict == "failed"
    assert balanced(results)
    assert results.verified == 5 * verified
    assert results.mismatched == (5 if kind == "mismatch" else 0)


@ensureDeferred
async def test_a_dribbling_peer_is_patience_enough(reactor: Any) -> None:
    """The reply timeout is for the next byte, not for the message."""
    fake: Any = FakeTimeReactor(reactor)
    peers: list[Peer] = []

    def accepted(_: object) -> Peer:
        peers.append(Peer())
        return peers[-1]

    accepting = Factory()
    accepting.buildProtocol = accepted  # type: ignore[method-assign,assignment]
    port = reactor.listenTCP(0, accepting, interface="127.0.0.1")
    factory, running = fakeTimeRun(
        fake, f"tcp:127.0.0.1:{portOf(port.getHost())}", Workload(size=20), Patience(reply=1.0)
    )
    await eventually(reactor, lambda: len(peers) == 2)
    for peer in peers:
        await peer.untilReceived(reactor, 20)
    for at in range(20):
        fake.advance(0.9)
        for peer in peers:
            peer.transport.write(bytes(peer.received[at : at + 1]))
        await eventually(reactor, partial(hasReceived, factory, 2 * (at + 1)))
    results = await running
    assert results.verdict == "ok", results.examples
    assert results.elapsedNs > 17e9
    # A peer does not close because the other end has.
    for peer in peers:
        peer.transport.abortConnection()
        await peer.untilLost(reactor)
    await port.stopListening()


def hasReceived(factory: EchoClientFactory, size: int) -> bool:
    return factory.results.bytesReceived == size


@ensureDeferred
async def test_a_peer_that_does_not_read(reactor: Any) -> None:
    """The client's own backpressure: it hands over no more than the path takes."""
    with misbehaving(neverReads) as port:
        workload = Workload(size=1 << 30)
        results = await probe(reactor, f"tcp:127.0.0.1:{port}", workload, 1, HASTY)
    assert results.failures == {"reply-timeout": 1}
    assert results.bytesSent < 64 << 20


@ensureDeferred
async def test_a_peer_that_does_not_let_go(reactor: Any, certificates: Certificates) -> None:
    """All is verified, TLS's closing alert is not answered: complete, and cut in time."""
    fake: Any = FakeTimeReactor(reactor)
    with misbehaving(holdsOn(certificates)) as port:
        target = f"tls:localhost:{port}:trustRoots={certificates.trust}"
        factory, running = fakeTimeRun(fake, target, Workload(), Patience(reply=0.5))
        await eventually(reactor, lambda: factory.results.completed == 2)
        # They begin to close in the reactor's next turn.
        await deferLater(reactor, 0)
        fake.advance(0.45)
        assert not running.called
        fake.advance(0.1)
        results = await running
    assert results.verdict == "ok", results.examples
    assert balanced(results)


@ensureDeferred
async def test_what_the_clock_says(reactor: Any) -> None:
    """Times are differences of the clock, in nanoseconds; peak and open are counts."""
    tick = 1 << 20  # a step of the histogram
    ticks = count(step=tick)
    async with serving(reactor) as service:
        factory = EchoClientFactory(
            reactor, Workload(size=10, count=5), 1, clock=lambda: next(ticks)
        )
        results = await factory.run(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        # The clock is read as a connection is asked for, as it is there, at each
        # write and at each read.
        assert results.connect.asJSON()["min"] == tick
        assert results.response.count == 5
        assert results.response.asJSON()["min"] == tick
        assert results.response.asJSON()["p50"] == pytest.approx(tick, rel=0.001)

        results = await probe(
            reactor, f"tcp:127.0.0.1:{portOf(service.addresses[0])}", Workload(), 100
        )
        assert 1 <= results.peakOpen <= 100
        assert results.open == 0


@ensureDeferred
async def test_one_connection_after_the_other(reactor: Any) -> None:
    """The most that were open at once, not all that ever were."""
    results = Results(target="", workload=FACTS, requested=2)
    for _ in range(2):
        results.connectionEstablished(1)
        results.open -= 1
    assert (results.established, results.peakOpen) == (2, 1)


@ensureDeferred
async def test_nagle_is_off_at_both_ends(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small message waits for no acknowledgement."""
    ends: list[Any] = []
    up = EchoClientFactory.connectionUp

    def established(factory: EchoClientFactory, client: Any, connectNs: int | None) -> None:
        ends.append(client.transport.getTcpNoDelay())
        up(factory, client, connectNs)

    monkeypatch.setattr(EchoClientFactory, "connectionUp", established)
    async with serving(reactor) as service:
        opened = service.factory.connectionOpened

        def open_(echo: Echo) -> None:
            opened(echo)
            ends.append(echo.transport.getTcpNoDelay())

        monkeypatch.setattr(service.factory, "connectionOpened", open_)
        await probe(reactor, f"tcp:127.0.0.1:{portOf(service.addresses[0])}", Workload(), 1)
    assert ends == [True, True]


class Raising:
    """A client endpoint that does not even return a Deferred."""

    def connect(self, factory: object) -> Deferred[Any]:
        raise RuntimeError("out of order")


@ensureDeferred
async def test_an_endpoint_that_raises(reactor: Any) -> None:
    """It fails its connections, and no more."""
    endpoint: Any = Raising()
    results = await probe(reactor, endpoint, Workload(), 50)
    assert results.failures == {"unreachable": 50}
    assert results.examples[FailureKind.UNREACHABLE].detail == "out of order"
    assert balanced(results)


@ensureDeferred
async def test_a_factory_serves_one_run(reactor: Any) -> None:
    """A second run is refused, not answered with the first one's results."""
    endpoint: Any = Raising()
    factory = EchoClientFactory(reactor, Workload(), 1)
    await factory.run(endpoint)
    with pytest.raises(RuntimeError, match="one run"):
        await factory.run(endpoint)


@ensureDeferred
async def test_a_look_up_without_an_answer(reactor: Any) -> None:
    """The time for connecting covers it."""
    silent = NamesReactor(reactor)
    patience = Patience(connect=0.1)
    results = await probe(cast(Any, silent), "tcp:slow.example:7", Workload(), 3, patience)
    assert results.failures == {"dns": 3}
    assert results.examples[FailureKind.DNS].detail == "no answer within 0.1 s"


@ensureDeferred
async def test_a_standstill_is_not_the_look_ups(reactor: Any) -> None:
    """This process was stopped for longer than a look-up may take; the answer still counts."""
    names = NamesReactor(reactor)
    async with serving(reactor) as service:
        fake: Any = FakeTimeReactor(names)
        target = f"tcp:echo.example:{portOf(service.addresses[0])}"
        _, running = fakeTimeRun(fake, target, Workload(), Patience(connect=2.0))
        fake.advance(1.0)
        fake.standStill(60.0)
        names.answer("echo.example", ["127.0.0.1"])
        assert (await running).verdict == "ok"


@ensureDeferred
async def test_a_standstill_is_no_part_of_a_long_timeout(reactor: Any) -> None:
    """A timeout of any length is over only after it was looked at often enough."""
    with misbehaving(neverAnswers) as port:
        fake: Any = FakeTimeReactor(reactor)
        factory, running = fakeTimeRun(
            fake, f"tcp:127.0.0.1:{port}", Workload(), Patience(connect=1.0, reply=25.0)
        )
        await eventually(reactor, lambda: factory.results.sent == 4)
        for _ in range(12):
            fake.advance(1.0)
        fake.standStill(15.0)
        for _ in range(12):
            fake.advance(1.0)
        assert factory.results.failed == 0
        for _ in range(4):
            fake.advance(1.0)
        assert (await running).failures == {"reply-timeout": 2}


@ensureDeferred
async def test_a_run_that_is_cancelled_while_a_name_is_looked_up(reactor: Any) -> None:
    """It is cancelled, and not a failure of the look-up's."""
    silent = NamesReactor(reactor)
    running = Deferred.fromCoroutine(probe(cast(Any, silent), "tcp:slow.example:7", Workload()))
    running.cancel()
    with pytest.raises(CancelledError):
        await running


@pytest.mark.parametrize("rate", [None, Rate(10.0, 10.0)])
@ensureDeferred
async def test_churn_that_is_interrupted_while_a_name_is_looked_up(
    reactor: Any, rate: Rate | None
) -> None:
    """It ends at once, and asks for no connection."""
    silent: Any = NamesReactor(reactor)
    workload = Workload(size=8, churn=True, duration=LIMIT, rate=rate)
    factory = EchoClientFactory(silent, workload, 2)
    running = Deferred.fromCoroutine(factory.run("tcp:slow.example:7"))
    factory.interrupt()
    results = await running.addTimeout(LIMIT / 2, reactor)
    assert (results.verdict, results.requested) == ("interrupted", 0)


@ensureDeferred
async def test_the_clock_is_set_forward_during_a_run(reactor: Any) -> None:
    """The timers of the reactor fire an hour early; the run lasts its duration."""
    async with serving(reactor) as service:
        fake: Any = FakeTimeReactor(reactor)
        elapsed = 1.0

        def steady() -> int:
            return round(elapsed * 1e9)

        factory = EchoClientFactory(
            fake, Workload(size=64, duration=3.0, warmUp=2.0), 1, Patience(), clock=steady
        )
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        running = Deferred.fromCoroutine(factory.run(target))
        await eventually(reactor, lambda: factory.results.verified > 10)
        for elapsed in (1.5, 5.9):
            fake.standStill(3600.0)
            beyond = factory.results.verified + 1
            await eventually(reactor, partial(lambda n: factory.results.verified >= n, beyond))
            # What was sent in the first two seconds does not count.
            assert factory.results.warmingUp == (elapsed < 3.0)
            factory.soFar()
            assert bool(factory.results.counted) == (elapsed > 3.0)
        elapsed = 6.0
        fake.standStill(3600.0)
        assert (await running).verdict == "ok"


@ensureDeferred
async def test_a_name_whose_first_address_swallows(reactor: Any) -> None:
    """The next one is tried after a quarter of a second, and then for all connections."""
    names = NamesReactor(reactor, two=["127.0.0.2", "127.0.0.1"])
    async with serving(reactor) as service:
        port = portOf(service.addresses[0])
        with (
            socket.create_server(("127.0.0.2", port), backlog=0) as swallowing,
            # As many as its queue holds: what comes now gets no answer.
            socket.create_connection(swallowing.getsockname(), LIMIT),
        ):
            fake: Any = FakeTimeReactor(names)
            _, running = fakeTimeRun(
                fake, f"tcp:two.example:{port}", Workload(), Patience(connect=2.0)
            )
            fake.advance(0.26)
            results = await running
    assert results.verdict == "ok", results.examples


@ensureDeferred
async def test_tls_that_is_broken_off(reactor: Any) -> None:
    """A peer that closes during the handshake has failed at TLS."""
    with misbehaving(closesHalfway) as port:
        results = await probe(reactor, f"tls:localhost:{port}", Workload(), 2)
    assert results.failures == {"tls": 2}
    assert results.established == 0


@ensureDeferred
async def test_the_end_of_the_stream_is_waited_for(reactor: Any) -> None:
    """With half-close, every byte back is not enough."""
    fake: Any = FakeTimeReactor(reactor)
    with misbehaving(neverEnds) as port:
        factory, running = fakeTimeRun(
            fake, f"tcp:127.0.0.1:{port}", Workload(halfClose=True), Patience(reply=1.0)
        )
        await eventually(reactor, lambda: factory.results.verified == 4)
        fake.advance(1.2)
        results = await running
    assert results.failures == {"reply-timeout": 2}
    assert results.verified == 4
    assert "not the end of the stream" in results.examples[FailureKind.REPLY_TIMEOUT].detail


@ensureDeferred
async def test_one_altered_byte_in_a_megabyte(reactor: Any) -> None:
    """Found at its offset, after the messages that were right."""
    size = 1 << 20
    at = 2 * size + 777_777
    with misbehaving(alters(at)) as port:
        workload = Workload(size=size, count=4)
        results = await probe(reactor, f"tcp:127.0.0.1:{port}", workload, 1)
    detail = results.examples[FailureKind.MISMATCH].detail
    assert detail.startswith("message 3, offset 777,777: expected b")
    assert (results.verified, results.mismatched, results.unanswered) == (2, 1, 0)
    assert balanced(results)


@ensureDeferred
async def test_refused(reactor: Any) -> None:
    """Nobody listens: every connection says so, and nothing was sent."""
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    results = await probe(reactor, f"tcp:127.0.0.1:{port}", Workload(), 100)
    assert results.failures == {"refused": 100}
    assert (results.established, results.sent) == (0, 0)
    assert balanced(results)


@ensureDeferred
async def test_a_socket_file_that_is_not_there(reactor: Any, folder: Path) -> None:
    """There is no way there."""
    results = await probe(reactor, f"unix:{folder}/none", Workload())
    assert results.failures == {"unreachable": 2}


@ensureDeferred
async def test_a_target_with_characters_that_do_not_print(reactor: Any, folder: Path) -> None:
    """The report and the JSON have them escaped."""
    results = await probe(reactor, f"unix:{folder}/\x1b[2J\r\u202e\udcff", Workload(), 1)
    assert results.target == rf"unix:{folder}/\x1b[2J\r\u202e\udcff"
    (example,) = results.examples.values()
    assert example.peer == results.target
    assert example.detail.isprintable()


@ensureDeferred
@pytest.mark.parametrize("prefix", ["", "express:"])
async def test_a_path_that_is_too_long(reactor: Any, folder: Path, prefix: str) -> None:
    """It is told at once, and not by a traceback: 107 bytes are the most."""
    path = str(folder / ("x" * 108))[:108]
    results = await probe(reactor, f"{prefix}unix:{path}", Workload(), 3)
    assert results.failures == {FailureKind.UNREACHABLE: 3}
    detail = results.examples[FailureKind.UNREACHABLE].detail
    assert "the path has 108 bytes, and a UNIX socket's has 107 at most" in detail
    fits = await probe(reactor, f"{prefix}unix:{path[:107]}", Workload(), 1)
    assert "No such file" in fits.examples[FailureKind.UNREACHABLE].detail


@ensureDeferred
async def test_a_full_queue(reactor: Any, folder: Path) -> None:
    """
    A UNIX socket refuses what its listener cannot queue. Twisted's asyncio
    reactor does not hear of it, so that there the time runs out.
    """
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{folder}/full")
        listening.listen(1)
        fake: Any = FakeTimeReactor(reactor)
        factory = EchoClientFactory(
            fake, Workload(), 10, Patience(connect=1.0, reply=2.0), clock=fake.ns
        )
        running = Deferred.fromCoroutine(factory.run(f"unix:{folder}/full"))
        await eventually(reactor, lambda: factory.results.established == 2)
        fake.advance(1.2)
        fake.advance(1.2)
        results = await running
    failures = results.failures
    assert failures[FailureKind.REFUSED] + failures[FailureKind.CONNECT_TIMEOUT] == 8
    assert failures[FailureKind.REPLY_TIMEOUT] == 2
    if failures[FailureKind.REFUSED]:
        assert "queue" in results.examples[FailureKind.REFUSED].detail
    assert balanced(results)


@pytest.mark.parametrize(
    ("host", "detail"),
    [
        ("nowhere.invalid", "'nowhere.invalid' has no address."),
        ("a..b", "'a..b' is not a host's name"),
        ("x" * 64, f"'{'x' * 64}' is not a host's name"),
    ],
    ids=["nobody", "empty", "long"],
)
@ensureDeferred
async def test_an_unknown_host(reactor: Any, host: str, detail: str) -> None:
    """Looked up once, and counted for every connection; also a name that nobody can have."""
    results = await probe(reactor, f"tcp:{host}:7", Workload(), 50)
    assert results.failures == {"dns": 50}
    assert detail in results.examples[FailureKind.DNS].detail
    assert balanced(results)


@ensureDeferred
async def test_an_interrupt_after_the_end_changes_nothing(reactor: Any) -> None:
    """What has failed has failed: the verdict stays."""
    factory = EchoClientFactory(reactor, Workload(), 3)
    results = await factory.run("tcp:nowhere.invalid:7")
    factory.interrupt()
    assert results.verdict == "failed"


@ensureDeferred
async def test_a_certificate_that_does_not_verify(
    reactor: Any, certificates: Certificates
) -> None:
    """An unknown authority, and a name that is not the certificate's."""
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    async with serving(reactor, listen) as service:
        port = portOf(service.addresses[0])
        for target in (
            f"tls:localhost:{port}",
            rf"tls:elsewhere:{port}:trustRoots={certificates.trust}"
            rf":endpoint=tcp\:127.0.0.1\:{port}",
        ):
            results = await probe(reactor, target, Workload(), 3)
            assert results.failures == {"tls": 3}
            assert (results.established, results.sent) == (0, 0)
            assert balanced(results)


@ensureDeferred
async def test_tls_to_a_peer_that_does_not_shake_hands(reactor: Any) -> None:
    """The connect timeout covers the handshake."""
    with misbehaving(neverAnswers) as port:
        patience = Patience(connect=0.2, reply=5)
        target = f"tls:localhost:{port}:timeout=20"
        results = await probe(reactor, target, Workload(), 2, patience)
    assert results.failures == {"connect-timeout": 2}
    detail = results.examples[FailureKind.CONNECT_TIMEOUT].detail
    assert detail.startswith("not connected after 0.2 s: the handshake of TLS")
    assert balanced(results)


class Never:
    """A client endpoint that connects to nothing."""

    def __init__(self) -> None:
        self.cancelled = 0

    def connect(self, factory: object) -> Deferred[Any]:
        def cancel(_: object) -> None:
            self.cancelled += 1

        return Deferred(cancel)


@ensureDeferred
async def test_connect_timeout(reactor: Any) -> None:
    """An attempt that takes too long is given up, whatever the endpoint."""
    endpoint: Any = Never()
    results = await probe(reactor, endpoint, Workload(), 40, Patience(connect=0.1))
    assert results.failures == {"connect-timeout": 40}
    assert endpoint.cancelled == 40
    assert balanced(results)


@ensureDeferred
async def test_an_interrupt_has_the_results(reactor: Any) -> None:
    """Connections neither completed nor failed are what was still open."""
    endpoint: Any = Never()
    factory = EchoClientFactory(reactor, Workload(), 100)
    running = Deferred.fromCoroutine(factory.run(endpoint))
    factory.interrupt()
    results = await running
    assert results.verdict == "interrupted"
    assert results.unfinished == 100
    factory.interrupt()
    assert balanced(results)


@ensureDeferred
async def test_an_interrupt_of_the_look_up(reactor: Any) -> None:
    """Not even the name is known: the results are there all the same."""
    factory = EchoClientFactory(reactor, Workload(), 3)
    running = Deferred.fromCoroutine(factory.run("tcp:nowhere.invalid:7"))
    factory.interrupt()
    results = await running
    assert (results.verdict, results.unfinished) == ("interrupted", 3)


@ensureDeferred
async def test_cancelling_a_probe_closes_everything(reactor: Any) -> None:
    """The caller hears CancelledError, the server the ends of the connections."""
    async with serving(reactor) as service:
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        workload = Workload(size=10, count=10**9)
        running = Deferred.fromCoroutine(probe(reactor, target, workload, 3))
        await eventually(reactor, lambda: service.factory.counts().bytesIn > 1000)
        running.cancel()
        with pytest.raises(CancelledError):
            await running
        await eventually(reactor, lambda: not service.factory.connections)


@ensureDeferred
async def test_a_refused_connection_is_an_early_end(reactor: Any) -> None:
    """A server at its limit closes; the client says so, and the rest is served."""
    factory = EchoFactory(limits=Limits(connections=2))
    async with serving(reactor, factory=factory) as service:
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        workload = Workload(size=64, count=2000)
        results = await probe(reactor, target, workload, 5)
    assert results.completed >= 2
    assert set(results.failures) <= {"closed-early", "reset"}
    assert results.failed == factory.counts().refused["connections"]
    assert balanced(results)


@ensureDeferred
async def test_a_name_with_a_dead_address_first(reactor: Any) -> None:
    """The addresses of a name are tried in turn, and the name is looked up once."""
    names: Any = NamesReactor(reactor, two=["127.0.0.77", "127.0.0.1"])
    async with serving(reactor) as service:
        target = f"tcp:two.example:{portOf(service.addresses[0])}"
        results = await probe(names, target, Workload(), 100)
    assert results.verdict == "ok", results.examples
    assert names.asked == ["two.example"]

    results = await probe(names, target, Workload(), 10)
    assert results.failures == {"refused": 10}


@ensureDeferred
async def test_localhost(reactor: Any) -> None:
    """The real look-up, of a name that usually has two addresses."""
    async with serving(reactor) as service:
        target = f"tcp:localhost:{portOf(service.addresses[0])}"
        results = await probe(reactor, target, Workload(), 40)
    assert results.verdict == "ok", results.examples


@ensureDeferred
async def test_client_trace(reactor: Any) -> None:
    """The tutorial's events, in its order, for each connection."""
    with capturedLogs() as events:
        async with serving(reactor) as service:
            port = portOf(service.addresses[0])
            factory = EchoClientFactory(reactor, Workload(), 2, trace=Trace.DATA)
            await factory.run(f"tcp:127.0.0.1:{port}")
    lines = [
        formatEvent(event)
        for event in events
        if event["log_namespace"].startswith("echofactory.client")
    ]
    both = "b'Message 1 from client.Message 2 from client.'"
    for number in (1, 2):
        assert [line for line in lines if f"connection {number}" in line] == [
            f"starting connection {number} to ('127.0.0.1', {port})",
            f"sending b'Message 1 from client.' to connection {number}",
            f"sending b'Message 2 from client.' to connection {number}",
            f"received {both} from connection {number}",
            f"closing connection {number}",
        ]


@ensureDeferred
async def test_client_trace_of_a_failure(reactor: Any) -> None:
    """A failed connection is told with its kind."""
    factory = EchoClientFactory(
        reactor, Workload(), 1, Patience(connect=0.1), trace=Trace.CONNECTIONS
    )
    endpoint: Any = Never()
    with capturedLogs() as events:
        await factory.run(endpoint)
    assert formatEvent(events[-1]) == (
        f"connection 1 to {endpoint!r} failed: connect-timeout: not connected after 0.1 s"
    )


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (DNSLookupError("no"), "dns"),
        (ConnectionRefusedError(errno.ECONNREFUSED), "refused"),
        (TCPTimedOutError(errno.ETIMEDOUT), "connect-timeout"),
        (TimeoutError(), "connect-timeout"),
        (NoRouteError(errno.ENETUNREACH), "unreachable"),
        (ConnectError(errno.EHOSTUNREACH), "unreachable"),
        (ConnectError(errno.EADDRNOTAVAIL), "no-local-port"),
        (ConnectError(errno.ECONNRESET), "reset"),
        (ConnectBindError(errno.EADDRNOTAVAIL), "no-local-port"),
        (ConnectBindError(errno.EMFILE), "too-many-files"),
        (ConnectBindError(errno.ENFILE), "too-many-files"),
        (TLSError([("SSL routines", "", "bad")]), "tls"),
        (VerificationError(errors=[]), "tls"),
        (ConnectionDone(), "closed-early"),
        (ConnectionLost(), "reset"),
        (ConnectError(string=Failure(ConnectionLost())), "unreachable"),
        (RuntimeError("what?"), "unreachable"),
    ],
)
def test_kinds(reason: Exception, kind: str) -> None:
    """Every failure that Twisted reports has a kind."""
    found, detail = classify(reason)
    assert found == kind
    assert detail


def test_an_attempt_that_twisted_loses() -> None:
    """Over a UNIX socket it is the full queue, and over TCP an ICMP error."""
    lost = ConnectError(string=Failure(ConnectionLost()))
    assert classify(lost, overUNIX=True)[0] == "refused"
    assert classify(lost) == ("unreachable", "the network rejected the connection (ICMP)")


@pytest.mark.parametrize(
    "description",
    ["tcp:1", "tcp:host:99999", "tcp:host:0", "tcp:host:x", "nonsense:1",
     "tls:host:1:trustRoots=/none"],
)  # fmt: skip
def test_a_bad_target(reactor: Any, description: str) -> None:
    """One line, which begins with the string."""
    with pytest.raises(EndpointError) as caught:
        Target(reactor, description, 1.0)
    assert str(caught.value).startswith(f"{description}: ")


def test_targets_for_people(reactor: Any) -> None:
    """Plain TCP is written as an address, the rest as it was given."""
    assert Target(reactor, r"tcp:\:\:1:7", 1.0).text == "[::1]:7"
    assert Target(reactor, "tcp:host=a:port=7", 1.0).text == "a:7"
    assert Target(reactor, "tcp:host=a:7", 1.0).text == "a:7"
    assert Target(reactor, "unix:/a", 1.0).text == "unix:/a"


def test_settings_refuse_nonsense(reactor: Any) -> None:
    """The message names the field and the value."""
    with pytest.raises(ValueError, match="connections: 0 is not 1 or more"):
        EchoClientFactory(reactor, Workload(), 0)
    with pytest.raises(ValueError, match="reply: 0 is not more than 0 s"):
        Patience(reply=0)
    with pytest.raises(ValueError, match="connections: 0 is not 1 or more"):
        Limits(connections=0)


@pytest.mark.parametrize(
    "workload",
    [
        Workload(size=64, count=300, churn=True),
        Workload(size=64, rate=Rate(50, 50), duration=30.0),
    ],
    ids=["churn", "rate"],
)
@ensureDeferred
async def test_a_cancelled_run_is_over(reactor: Any, workload: Workload) -> None:
    """It asks for no more connections, and leaves nothing in the reactor."""
    async with serving(reactor) as service:
        before = len(reactor.getReaders())
        factory = EchoClientFactory(reactor, workload, 4)
        running = Deferred.fromCoroutine(
            factory.run(f"tcp:127.0.0.1:{portOf(service.addresses[0])}")
        )
        await eventually(reactor, lambda: factory.results.verified > 3)
        running.cancel()
        with pytest.raises(CancelledError):
            await running
        asked = factory.results.requested
        await eventually(reactor, lambda: not service.factory.connections)
        # What would be asked for now, would be at once.
        await deferLater(reactor, 0.1)
        assert factory.results.requested == asked
        assert len(reactor.getReaders()) <= before


def namelessCertificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for no host; return it with its key, and a directory of trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )
    pem, trust = folder / "server.pem", folder / "trust"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    pem.write_bytes(secret + certificate)
    trust.mkdir()
    (trust / "server.pem").write_bytes(certificate)
    return pem, trust


@pytest.mark.parametrize("express", ["", "express:"])
@pytest.mark.parametrize(
    "client",
    ["tls:localhost:{}:trustRoots={}", "ssl:localhost:{}:hostname=localhost:caCertsDir={}"],
)
@ensureDeferred
async def test_a_certificate_that_is_for_no_host(
    reactor: Any, folder: Path, client: str, express: str
) -> None:
    """It is trusted, and has no name to check: that is a failure, and nothing is sent."""
    pem, trust = namelessCertificate(folder)
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    async with serving(reactor, listen) as service:
        target = express + client.format(portOf(service.addresses[0]), trust)
        results = await probe(reactor, target, Workload(), 2)
        assert service.factory.counts().bytesIn == 0
    assert results.failures == {"tls": 2}
    assert "the certificate is for no host" in results.examples[FailureKind.TLS].detail
