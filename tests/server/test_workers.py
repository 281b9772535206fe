"""
Several processes on the same ports: that they share the work, that one which dies
is started again, and that none outlives its parent.
"""

import json
import mmap
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, cast

import pytest
from peers import Certificates
from programs import (
    LIMIT,
    SCRIPTS,
    TWISTD,
    accepted,
    children,
    childrenOf,
    client,
    connected,
    echoes,
    multiecho,
    multiechoMain,
    running,
    serves,
    until,
    withStatus,
    workers,
)
from statuses import get
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor, StringTransport
from twisted.logger import capturedLogs

from echofactory import Counts
from echofactory.net.endpoints import ListenError
from echofactory.net.tracing import Trace
from echofactory.server.counts import PeerCounts
from echofactory.server.faults.settings import Faults, Stall
from echofactory.server.settings import Limits, ServerSettings
from echofactory.server.workers.channel import TABLE, Lines
from echofactory.server.workers.child import Channel
from echofactory.server.workers.process import WorkerProcess
from echofactory.server.workers.room import FULL, HAS_ROOM, NOT_YET
from echofactory.server.workers.supervisor import Workers
from echofactory.server.workers.worker import IWorkersReactor, Worker


def gone(pid: int) -> bool:
    """Wait for the end of a process that is no child of this one."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], LIMIT)[0])
    finally:
        os.close(handle)


def test_a_module_in_the_way(tmp_path: Path) -> None:
    """What lies in the working directory is no part of a worker, as it is none of twistd."""
    for name in ("constantly.py", "random.py"):
        (tmp_path / name).write_text("raise ImportError('not meant')")
    command = [*TWISTD, "multiecho", "--workers", "1", "127.0.0.1", "0"]
    with running(command, cwd=tmp_path) as server:
        server.waitFor(r"listening on .*, 1 workers")


def test_all_serve() -> None:
    """The kernel deals the connections out among them, and every byte comes back."""
    with workers() as (server, port):
        done = client("127.0.0.1", str(port), "64", "--size", "1k", "--count", "5")
        assert done.process.returncode == 0, done.err
        for number in (1, 2):
            server.waitFor(rf"worker {number}: accepted connection from")


@pytest.mark.seconds
def test_one_that_dies() -> None:
    """
    Only its own connections are lost; it is started again, each time, and serves again.
    """
    with (
        withStatus("--workers", "2", "--drain", "0") as (server, port, status),
        ExitStack() as stack,
    ):
        server.waitFor("2 workers")
        held = [stack.enter_context(accepted(port)) for _ in range(32)]

        def open_() -> list[int]:
            (one, other) = json.loads(get(status, "/status.json").body)["facts"]["workers"]
            return [one["open"], other["open"]]

        # Each tells what it has open once a second.
        until(lambda: sum(open_()) == 32)
        lost, kept = open_()
        assert lost
        assert kept
        before = children(server)
        os.kill(before[0], signal.SIGKILL)
        match = server.waitFor(
            r"worker 1: process \d+ ended by signal 9; (\d+) connections? lost;"
            r" restart in"
        )
        assert int(match[1]) == lost
        assert sum(echoes(each) for each in held) == kept
        until(lambda: sum("worker 1: listening on" in line for line in list(server.out)) == 2)
        now = children(server)
        assert before[1] in now
        (new,) = set(now) - set(before)
        os.kill(new, signal.SIGKILL)
        until(lambda: sum("worker 1: listening on" in line for line in list(server.out)) == 3)
        assert serves(port, 16)
        assert server.end() == -signal.SIGTERM


def test_a_fork_server_that_is_killed() -> None:
    """Its workers end with it; all are started again, and serve."""
    with workers("--trace", "none") as (server, port), accepted(port) as held:
        before = children(server)
        (forks,) = childrenOf(server.process.pid)
        os.kill(forks, signal.SIGKILL)
        for number in (1, 2):
            server.waitFor(
                rf"worker {number}: process \d+ ended with the fork server; .*restart"
            )
        until(lambda: sum("listening on" in line for line in list(server.out)) >= 5)
        assert not echoes(held)
        assert serves(port, 16)
        assert len(set(children(server)) - set(before)) == 2
        assert server.end() == -signal.SIGTERM


def test_a_fork_server_that_hangs() -> None:
    """A stop kills it, and its workers with it, although it does not answer."""
    with workers("--trace", "none", "--drain", "0") as (server, _):
        pids = children(server)
        (forks,) = childrenOf(server.process.pid)
        for pid in (forks, *pids):
            os.kill(pid, signal.SIGSTOP)
        assert server.end() == -signal.SIGTERM
        until(lambda: all(gone(pid) for pid in (forks, *pids)))


def test_a_stop_while_workers_start() -> None:
    """Also while the fork server imports what they need."""
    with running([*TWISTD, "multiecho", "--workers", "2", "127.0.0.1", "0"]) as server:
        until(lambda: childrenOf(server.process.pid))
        assert server.end() == -signal.SIGTERM
        assert not any("Traceback" in line for line in server.out)
        assert children(server) == []


def test_none_outlives_a_parent_that_is_killed() -> None:
    """Not even one that nobody could tell anything."""
    with workers("--trace", "none") as (server, port), accepted(port) as held:
        pids = children(server)
        assert len(pids) == 2
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        assert all(gone(pid) for pid in pids)
        assert not echoes(held)


def test_not_even_one_that_is_stopped() -> None:
    """Nor one that is busy: it cannot notice."""
    with workers("--trace", "none") as (server, _):
        pids = children(server)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            server.end(signal.SIGKILL)
            assert all(gone(pid) for pid in pids)
        finally:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("count", [0, 2])
def test_a_stop_drains(count: int) -> None:
    """Open connections may finish; then all is over, and the status is the signal's."""
    with ExitStack() as stack:
        drain = ["--drain", "1h"]
        serving = workers(*drain, count=count) if count else multiecho(*drain, "127.0.0.1", "0")
        server, port = stack.enter_context(serving)
        held = stack.enter_context(accepted(port))
        pids = children(server)
        server.process.send_signal(signal.SIGTERM)
        server.waitFor(r"waiting up to 3600 s for 1 open connection")
        assert echoes(held)
        held.close()
        assert server.finish() == -signal.SIGTERM
        assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("count", [0, 2])
def test_a_second_signal(count: int) -> None:
    """It ends the draining at once, and the log says what was cut."""
    with ExitStack() as stack:
        arguments = ["--drain", "1h", "--trace", "none"]
        serving = (
            workers(*arguments, count=count)
            if count
            else multiecho(*arguments, "127.0.0.1", "0")
        )
        server, port = stack.enter_context(serving)
        stack.enter_context(accepted(port))
        server.process.send_signal(signal.SIGTERM)
        server.waitFor(r"waiting up to 3600 s for 1 open connection")
        server.process.send_signal(signal.SIGINT)
        assert server.finish() == -signal.SIGTERM
        assert any("aborted 1 connection still open" in line for line in server.out)
        assert not any("Traceback" in line for line in server.out)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_at_once(number: signal.Signals) -> None:
    """As a terminal and systemd send it: the workers leave it to their parent, and drain."""
    with running(
        [*TWISTD, "multiecho", "--workers", "2", "--drain", "1h", "127.0.0.1", "0"],
        start_new_session=True,
    ) as server:
        port = server.waitFor(r"listening on 127.0.0.1:(\d+), 2 workers")[1]
        with accepted(int(port)) as held:
            os.killpg(server.process.pid, number)
            server.waitFor(r"waiting up to 3600 s for 1 open connection")
            assert echoes(held)
        assert server.finish() == -number
    assert not any("restart in" in line for line in server.out)


def test_places_are_shared_out() -> None:
    """All together have no more than were allowed."""
    with workers("--max-connections", "5") as (server, port), ExitStack() as stack:
        held = []
        for _ in range(40):
            connection = stack.enter_context(connected(port))
            held.append(echoes(connection))
        assert sum(held) == 5
        server.waitFor(
            r"worker [12]: refused \d+ connections? \(connection limit reached: \d+\)"
        )


@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_a_share(of: int) -> None:
    """The shares are as even as can be, and add up."""
    settings = ServerSettings(limits=Limits(connections=17))
    shares = [settings.shareOf(n + 1, of).limits.connections or 0 for n in range(of)]
    assert sum(shares) == 17
    assert max(shares) - min(shares) <= 1
    assert ServerSettings().shareOf(1, of).limits.connections is None


def test_a_port_that_is_taken() -> None:
    """One line, exit 1, and nothing is left running; not even to share does it take it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(
            [*TWISTD, "multiecho", "--workers", "2", "127.0.0.1", str(port)]
        ) as server:
            assert server.finish() == 1
    (line,) = server.err
    assert line == (
        f"multiecho: HOST PORT: cannot listen on tcp:{port}:interface=127.0.0.1:"
        " Address already in use"
    )


def test_a_taken_port_is_named_as_it_was_given(reactor: Any) -> None:
    """With what only says that it is on the fast lane."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = f"express:tcp:{taken.getsockname()[1]}:interface=127.0.0.1"
        with pytest.raises(ListenError, match=f"cannot listen on {given}: "):
            Workers(reactor, [given], ServerSettings(), 1).startService()


def test_a_port_that_others_share() -> None:
    """Those of another server: it is taken, though it could be shared."""
    with (
        workers("--trace", "none") as (_, port),
        running([*TWISTD, "multiecho", "--workers", "2", "127.0.0.1", str(port)]) as server,
    ):
        assert server.finish() == 1
        (line,) = server.err
        assert line.endswith("Address already in use")
        # Both of the first server's still serve.
        assert serves(port, 16)


def test_a_port_whose_connections_linger() -> None:
    """One that was used a moment ago is no taken one; and then it is."""
    # Who closes first is the one with the memory of it (TIME_WAIT).
    with workers("--trace", "none", "--fault", "truncate=1") as (server, port):
        with accepted(port) as held:
            assert held.recv(1) == b""
        server.end()
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind(("127.0.0.1", port))
    arguments = ["multiecho", "--workers", "2", "127.0.0.1", str(port)]
    with running([*TWISTD, *arguments]) as server:
        server.waitFor(r"2 workers")
        with running([*TWISTD, *arguments]) as another:
            assert another.finish() == 1
        assert server.end() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--workers", "0"], "--workers: '0' is not a whole number from 1 to 256, nor auto"),
        (["--workers", "257"], "--workers: '257' is not a whole number from 1 to 256"),
        (["--workers", "many"], "--workers: 'many' is not a whole number from 1 to 256"),
        (
            ["--workers", "4", "--max-connections", "3"],
            "--max-connections: 3 is less than --work",
        ),
        (["--workers", "2", "--listen", "unix:/x"], "--listen: unix:/x: workers cannot share"),
        (["--workers", "2", "--listen", "tcp:x"], "--listen: tcp:x: "),
    ],
)
def test_what_makes_no_sense(
    refusal: Callable[..., str], arguments: list[str], said: str
) -> None:
    """One line that says why, exit 2."""
    line = refusal(multiechoMain, *arguments)
    assert line.startswith(f"multiecho: {said}"), line


def test_tls_and_a_name_of_the_lane(certificates: Certificates) -> None:
    """Whatever listens on a TCP port can be shared."""
    pem = certificates.pem
    with multiecho(
        "--workers", "auto", "--listen", "express:tcp:0:interface=127.0.0.1",
        "--listen", f"ssl:0:privateKey={pem}:certKey={pem}:interface=127.0.0.1",
        "--trace", "none",
    ) as (server, _):  # fmt: skip
        plain = server.waitFor(r"#info\] listening on 127.0.0.1:(\d+), \d+ workers")[1]
        secure = server.waitFor(
            rf"#info\] listening on 127.0.0.1:(?!{plain})(\d+), \d+ workers"
        )[1]
        assert serves(int(plain))
        target = f"tls:localhost:{secure}:trustRoots={certificates.trust}"
        done = client("--connect", target, "-n", "8", "--quiet")
        assert done.process.returncode == 0, done.err


@pytest.mark.parametrize("prefix", ["reuseport:", "express:reuseport:"])
def test_the_prefix_is_for_any_program(prefix: str, tmp_path: Path) -> None:
    """Two of Twisted's web servers on one port, each of which answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with ExitStack() as stack:
        for name in ("one", "other"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "index.html").write_text(name)
            listen = f"{prefix}{port}:interface=127.0.0.1"
            web = stack.enter_context(
                running([*TWISTD, "web", "--listen", listen, "--path", str(folder)])
            )
            web.waitFor(r"starting on \d+")
        answers: set[bytes] = set()
        deadline = time.monotonic() + LIMIT
        while answers != {b"one", b"other"}:
            assert time.monotonic() < deadline, answers
            with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as asking:
                asking.sendall(b"GET / HTTP/1.0\r\n\r\n")
                answer = b"".join(iter(lambda: asking.recv(4096), b""))
            answers.add(answer.rpartition(b"\r\n")[2])


def test_datagrams_beside_workers() -> None:
    """The process that looks after them serves UDP itself."""
    with workers("--udp", "127.0.0.1:0", "--trace", "none") as (server, port):
        udp = server.waitFor(r"listening on udp 127.0.0.1:(\d+)")[1]
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(LIMIT)
            asking.connect(("127.0.0.1", int(udp)))
            assert echoes(asking)
        assert serves(port)


def test_twist_too() -> None:
    """The other of Twisted's programs."""
    with running(
        [str(SCRIPTS / "twist"), "--log-format", "text",
         "multiecho", "--workers", "2", "127.0.0.1", "0"]
    ) as server:  # fmt: skip
        port = server.waitFor(r"listening on 127.0.0.1:(\d+), 2 workers")[1]
        assert serves(int(port))
        server.end()


class _Processes(MemoryReactor, Clock):
    """Starts nothing, and remembers what it was to start."""

    def __init__(self) -> None:
        cast(Any, MemoryReactor).__init__(self)
        Clock.__init__(self)
        self.started: list[Any] = []
        self.signals: list[str] = []

    full = False

    def kill(self) -> None:
        self.signals.append("KILL")

    pid = 5
    written = b""

    def write(self, data: bytes) -> None:
        self.written += data


class _Workers(Workers):
    """Has no fork server."""

    def fork(self, worker: Worker) -> WorkerProcess:
        processes = cast(_Processes, self.reactor)
        if processes.full:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        processes.started.append(worker)
        return cast(WorkerProcess, processes)


def looking(reactor: _Processes, count: int, drain: float) -> Workers:
    """Return what looks after so many processes."""
    endpoints = ["tcp:0:interface=127.0.0.1"]
    settings = ServerSettings(drain=drain)
    return _Workers(cast(IWorkersReactor, reactor), endpoints, settings, count)


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(),
        ServerSettings(
            limits=Limits(connections=7, perHost=2, idle=1.5, keepAlive=0),
            trace=Trace.DATA,
            drain=0.25,
            faults=Faults(delay=0.01, jitter=0.005, stall=Stall(1.0, 10.0), truncate=5),
            faultSeed=3,
            express=False,
        ),
    ],
)
def test_settings_travel_to_a_worker(settings: ServerSettings) -> None:
    """What it reads from the pipe is what was written."""
    written = json.loads(json.dumps(settings.asJSON()))
    assert ServerSettings.fromJSON(written) == settings


def test_fewer_connections_than_workers() -> None:
    """A worker could serve none: it is refused before one is started."""
    settings = ServerSettings(limits=Limits(connections=1))
    with pytest.raises(ValueError, match="limits: the connection limit, 1, is less"):
        Workers(cast(IWorkersReactor, Clock()), ["tcp:0"], settings, 2)


def test_counts_do_not_run_backwards() -> None:
    """What a worker had counted stays counted when it is gone; what it had open is lost."""
    reactor = _Processes()
    service = looking(reactor, 2, drain=1.0)
    service.startService()
    one, other = reactor.started
    told = {"accepted": 7, "open": 3, "lost": {"done": 4}, "refused": {"host": 1},
            "chunks": 90, "bytesIn": 1000, "bytesOut": 900}  # fmt: skip
    one.dataReceived(b'{"counts": ' + json.dumps(told).encode() + b"}\n")
    other.dataReceived(b'{"counts": {"accepted": 1, "open": 1}}\n')
    assert service.counts().accepted == 8
    assert service.counts().open == 4
    one.processEnded("ended")
    after = service.counts()
    assert after == Counts(
        accepted=8, open=1, lost={"done": 4, "worker": 3}, refused={"host": 1},
        chunks=90, bytesIn=1000, bytesOut=900,
    )  # fmt: skip
    assert [worker.pid for worker in service.workers()] == [None, 5]
    reactor.advance(1.0)
    assert len(reactor.started) == 3
    assert service.workers()[0].restarts == 1
    one.dataReceived(b'{"counts": {"accepted": 2, "open": 2}}\n')
    assert service.counts() == after + Counts(accepted=2, open=2)
    stopped = service.stopService()
    for each in (one, other):
        each.processEnded("ended")
    assert stopped.called
    assert reactor.getDelayedCalls() == []


def test_the_room_of_a_worker_that_has_ended() -> None:
    """It has none: the others are told to look, and serve its queue."""
    reactor = _Processes()
    service = looking(reactor, 2, drain=1.0)
    service.startService()
    one, other = reactor.started
    with mmap.mmap(service.inherited()[TABLE], 2) as table:
        assert table[:] == bytes([NOT_YET, NOT_YET])
        table[0] = HAS_ROOM
        one.processEnded("ended")
        other.processEnded("ended")
        # The sockets of the other have never listened.
        assert table[:] == bytes([FULL, NOT_YET])
    reactor.advance(0.0)
    assert b'{"look": true}' not in reactor.written
    reactor.advance(0.2)
    reactor.started[-1].dataReceived(b'{"look": true}\n')
    reactor.advance(0.01)
    assert reactor.written.count(b'{"look": true}') == 2
    service.stopService()
    for each in (one, other):
        each.processEnded("ended")
    assert reactor.getDelayedCalls() == []


def test_a_service_that_is_started_again() -> None:
    """Its workers too; and one that cannot be started is tried again."""
    reactor = _Processes()
    service = looking(reactor, 1, drain=1.0)
    for times in (1, 2):
        service.startService()
        assert len(reactor.started) == times
        stopped = service.stopService()
        assert not stopped.called
        assert b'{"stop": true}' in reactor.written
        reactor.started[-1].processEnded("ended")
        assert stopped.called
    assert reactor.getDelayedCalls() == []
    reactor.full = True
    service.startService()
    assert len(reactor.started) == 2
    assert [worker.pid for worker in service.workers()] == [None]
    reactor.full = False
    reactor.advance(1.0)
    assert len(reactor.started) == 3
    # While it waits to be started again, there is nobody to wait for.
    reactor.started[-1].processEnded("ended")
    assert service.stopService().called
    assert reactor.getDelayedCalls() == []


def test_a_worker_that_does_not_end() -> None:
    """It is killed, when the drain and five seconds are over, or five after a second signal."""
    reactor = _Processes()
    service = looking(reactor, 2, drain=3600.0)
    service.startService()
    service.stopService()
    reactor.advance(100.0)
    # Again, which changes nothing.
    service.stopService()
    service.cut()
    reactor.advance(4.9)
    assert reactor.signals == []
    reactor.advance(0.2)
    assert reactor.signals == ["KILL", "KILL"]
    for each in reactor.started:
        each.processEnded("ended")
    assert reactor.getDelayedCalls() == []


def test_one_that_hangs() -> None:
    """It is killed, when it has told nothing for half a minute, and started again."""
    reactor = _Processes()
    service = looking(reactor, 2, drain=1.0)
    service.startService()
    one, other = reactor.started
    for _ in range(29):
        one.dataReceived(b'{"counts": {}}\n')
        reactor.advance(1.0)
    assert reactor.signals == []
    # A machine that was suspended: the other could not tell anything.
    reactor.advance(0.5)
    one.dataReceived(b'{"counts": {}}\n')
    reactor.advance(0.5)
    assert reactor.signals == ["KILL"]
    other.processEnded("ended")
    reactor.advance(1.0)
    assert reactor.started[2:] == [other]
    service.stopService()
    for each in (one, other):
        each.processEnded("ended")
    assert reactor.getDelayedCalls() == []


def test_later_and_later() -> None:
    """One that ends again and again is started later each time, up to half a minute."""
    reactor = _Processes()
    service = looking(reactor, 1, drain=1.0)
    service.startService()
    with capturedLogs() as events:
        for number in range(1, 11):
            reactor.started[-1].processEnded("ended")
            reactor.advance(30.0)
            assert len(reactor.started) == number + 1
            # One that lasts begins anew.
            if number == 9:
                reactor.advance(11.0)
    delays = [event["delay"] for event in events if "delay" in event]
    assert delays == pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 0.2])
    service.stopService()
    reactor.started[-1].processEnded("ended")
    assert reactor.getDelayedCalls() == []


def test_what_a_worker_says_amiss() -> None:
    """Costs that line, and not the next one."""
    reactor = _Processes()
    service = looking(reactor, 1, drain=1.0)
    service.startService()
    (worker,) = reactor.started
    for amiss in (b"what?", b'{"counts": {"new": 1}}', b"[]", b"x" * 200_000):
        worker.dataReceived(amiss + b"\n")
    worker.dataReceived(b'{"counts": {"accepted": 3}}\n')
    assert service.counts().accepted == 3
    service.stopService()
    worker.processEnded("ended")


@pytest.mark.parametrize(
    "answer",
    [
        b'{"peers": [["' + b"x" * (1 << 17) + b'", 1, 1]]}',
        b'{"peers": [["a", 1]]}',
    ],
    ids=["too long", "amiss"],
)
def test_an_answer_that_is_lost(answer: bytes) -> None:
    """The worker is asked again, and the next answer counts."""
    reactor = _Processes()
    service = looking(reactor, 1, drain=1.0)
    service.startService()
    (worker,) = reactor.started
    found: list[Any] = []
    Deferred.fromCoroutine(service.peers(2)).addCallback(found.append)
    # As it comes: a pipe holds 64 KiB.
    for begin in range(0, len(answer), 1 << 16):
        worker.dataReceived(answer[begin : begin + (1 << 16)])
    worker.dataReceived(b"\n")
    reactor.advance(1.0)
    Deferred.fromCoroutine(service.peers(2)).addCallback(found.append)
    worker.dataReceived(b'{"peers": [["a", 1, 10]]}\n')
    assert found == [[], [PeerCounts("a", 1, 10)]]
    assert reactor.written.count(b"peers") == 2
    service.stopService()
    worker.processEnded("ended")


def test_a_line_that_is_too_long_is_told_once() -> None:
    """However many a worker tells."""
    reactor = _Processes()
    service = looking(reactor, 1, drain=1.0)
    service.startService()
    (worker,) = reactor.started
    with capturedLogs() as events:
        for _ in range(3):
            worker.dataReceived(b"x" * (1 << 17) + b"\n")
    assert [event["longest"] for event in events] == [1 << 16]
    service.stopService()
    worker.processEnded("ended")


def test_no_line_of_the_log_is_too_long_for_the_parent() -> None:
    """Not even of characters that take 12 bytes each."""
    transport = StringTransport()
    channel: Any = Channel(None, cast(Any, None), cast(Any, None))
    channel.makeConnection(transport)
    channel.sendLog("info", "\U0001f600" * 100_000)
    (line,) = Lines().feed(transport.value())
    assert len(json.loads(line)["log"][1]) == 5000


def test_a_worker_is_up_once_it_says_so() -> None:
    """Not as soon as it is a process, and not when it is none any more."""
    reactor = _Processes()
    service = looking(reactor, 2, drain=1.0)

    def listening() -> list[bool]:
        return [worker.listening for worker in service.workers()]

    assert listening() == [False, False]
    service.startService()
    assert listening() == [False, False]
    one, other = reactor.started
    one.dataReceived(b'{"listening": true}\n')
    other.dataReceived(b'{"listening": true}\n')
    assert listening() == [True, True]
    one.processEnded("ended")
    assert listening() == [False, True]
    service.stopService()
    other.processEnded("ended")
    assert listening() == [False, False]


def test_the_busiest_peers_of_all() -> None:
    """Their sums; a worker that does not answer in time has none."""
    reactor = _Processes()
    service = looking(reactor, 3, drain=1.0)
    service.startService()
    found: list[Any] = []
    Deferred.fromCoroutine(service.peers(2)).addCallback(found.append)
    one, other, _ = reactor.started
    one.dataReceived(b'{"peers": [["a", 1, 10], ["b", 1, 9]]}\n')
    other.dataReceived(b'{"peers": [["b", 2, 5], ["c", 1, 1]]}\n')
    assert found == []
    reactor.advance(1.0)
    assert found == [[PeerCounts("b", 3, 14), PeerCounts("a", 1, 10)]]
    # Who does not answer is not asked again, and has those that it told last.
    before = reactor.written
    for _ in range(100):
        Deferred.fromCoroutine(service.peers(2)).addCallback(found.append)
        reactor.advance(0.2)
    assert reactor.written.count(b"peers") == before.count(b"peers") + 2
    assert found == found[:1] * 101
    service.stopService()
    for each in reactor.started:
        each.processEnded("ended")
    assert reactor.getDelayedCalls() == []
