"""
What is measured, of whom: a round goes through every measure, and in each
through every peer.
"""

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import gauss
from time import perf_counter_ns
from typing import NamedTuple, TypeVar

from bench.processes import (
    LOAD_CORE,
    SERVER_CORE,
    Exchange,
    Server,
    certificate,
    compiled,
    cpuOf,
    loading,
    runTogether,
    serving,
)
from echofactory.results.latency import Latency

T = TypeVar("T")

_HERE = Path(__file__).parent
_PEERS = _HERE / "peers"
_BIN = Path(sys.executable).parent


def _python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(_PEERS / f"{name}.py"), *arguments]


def _twistd(*arguments: str) -> list[str]:
    return [str(_BIN / "twistd"), "-n", "--pidfile=", *arguments]


OURS = "echofactory"
PLAIN = "echofactory --no-express"
_ECHO = ("multiecho", "--trace", "none", "127.0.0.1", "PORT")

SERVERS = {
    OURS: _twistd(*_ECHO),
    PLAIN: _twistd(*_ECHO, "--no-express"),
    "Twisted wire.Echo": _python("wire_echo", "PORT"),
    "asyncio Protocol": _python("asyncio_protocol", "PORT"),
    "asyncio streams": _python("asyncio_streams", "PORT"),
    "uvloop Protocol": _python("asyncio_protocol", "PORT", "uvloop"),
    "uvloop streams": _python("asyncio_streams", "PORT", "uvloop"),
    "selectors, the tutorial's": _python("selectors_server", "PORT"),
}
"""The echo servers written in Python, by name. That in C is compiled first."""

C_EPOLL = "C epoll"

_CLIENT = ["PORT", "CONNECTIONS", "SIZE", "COUNT"]
_OUR_CLIENT = [
    *[sys.executable, "-m", "echofactory.client", "127.0.0.1", "PORT", "CONNECTIONS"],
    *["--size", "SIZE", "--count", "COUNT", "--quiet"],
]

CLIENTS = {
    OURS: _OUR_CLIENT,
    PLAIN: [*_OUR_CLIENT, "--no-express"],
    "Twisted Protocol": _python("twisted_client", *_CLIENT),
    "asyncio Protocol": _python("asyncio_client", *_CLIENT),
    "asyncio streams": _python("asyncio_streams_client", *_CLIENT),
    "uvloop Protocol": _python("asyncio_client", *_CLIENT, "uvloop"),
    "uvloop streams": _python("asyncio_streams_client", *_CLIENT, "uvloop"),
    "selectors, the tutorial's": _python("selectors_client", *_CLIENT),
}
"""The clients, by name. Ours compares every byte and takes the time of every
message; the others do neither."""

WORKERS = {f"{OURS} --workers {count}": count for count in (2, 1)}
"""The same server as several processes, and how many those are."""

_SHARED = {
    "echo": "tcp:PORT:interface=127.0.0.1",
    "tls": "ssl:PORT:interface=127.0.0.1:privateKey=PEM:certKey=PEM",
}
"""What they listen on, by what the load does."""

WEB = {
    "twistd web --listen express:tcp": _twistd(
        *["web", "--listen", "express:tcp:PORT:interface=127.0.0.1", "--path", "SITE"]
    ),
    "twistd web --listen tcp": _twistd(
        *["web", "--listen", "tcp:PORT:interface=127.0.0.1", "--path", "SITE"]
    ),
}

_REQUEST = "GET /index.html HTTP/1.1\r\nHost: bench\r\n\r\n"
_PAGE = "<!DOCTYPE html><title>bench</title>" + "<p>An echo.</p>" * 64


class Measure(NamedTuple):
    """
    One column of the table.

    @ivar key: its name in the JSON.
    @ivar title: what is measured.
    @ivar unit: of its figures.
    @ivar more: whether more is better.
    """

    key: str
    title: str
    unit: str
    more: bool = False


SERVER_MEASURES = (
    Measure("cpu_100x64", "CPU per message, 100 × 64 B", "µs"),
    Measure("rate_100x64", "messages, 100 × 64 B", "1/s", more=True),
    Measure("cpu_1000x1k", "CPU per message, 1000 × 1 KiB", "µs"),
    Measure("rate_1000x1k", "messages, 1000 × 1 KiB", "1/s", more=True),
    Measure("bulk_10x64k", "echoed, 10 × 64 KiB", "MB/s", more=True),
    Measure("bulk_10x1m", "echoed, 10 × 1 MiB", "MB/s", more=True),
    Measure("idle", "memory per idle connection", "kB"),
    Measure("accepts", "connections, with 64 B each", "1/s", more=True),
    Measure("cpu_accept", "CPU per connection", "µs"),
)
CLIENT_MEASURES = (
    Measure("client_100x64", "CPU per round trip, 100 × 64 B", "µs"),
    Measure("record", "recording a latency", "ns"),
)
WORKER_MEASURES = (
    Measure("workers_rate", "messages, two loads of 100 × 64 B", "1/s", more=True),
    Measure("workers_cpu", "CPU per message, two loads of 100 × 64 B", "µs"),
    Measure("tls_workers_rate", "messages over TLS, two loads of 100 × 64 B", "1/s", more=True),
    Measure("tls_workers_cpu", "CPU per message over TLS, two loads of 100 × 64 B", "µs"),
)
WEB_MEASURES = (
    Measure("web_rate", "requests", "1/s", more=True),
    Measure("web_cpu", "CPU per request", "µs"),
)


class Goal(NamedTuple):
    """
    A goal: the ratio of our figure to another's.

    @ivar bound: the most it may be; or the least, if more is better.
    """

    measure: str
    peer: str
    bound: float


GOALS = (
    Goal("cpu_100x64", "uvloop Protocol", 1.00),
    Goal("cpu_1000x1k", "uvloop Protocol", 0.90),
    Goal("cpu_100x64", C_EPOLL, 1.25),
    Goal("cpu_1000x1k", C_EPOLL, 1.25),
    Goal("cpu_100x64", "Twisted wire.Echo", 0.40),
    Goal("cpu_1000x1k", "Twisted wire.Echo", 0.40),
    Goal("bulk_10x64k", "uvloop Protocol", 1.00),
    Goal("bulk_10x1m", "uvloop Protocol", 1.00),
    Goal("idle", "Twisted wire.Echo", 0.75),
    Goal("accepts", "uvloop Protocol", 1.00),
    Goal("workers_rate", f"{OURS} --workers 1", 1.60),
    Goal("tls_workers_rate", f"{OURS} --workers 1", 1.60),
    Goal("client_100x64", "uvloop Protocol", 1.00),
)


class Figure(NamedTuple):
    """
    One figure of one turn.

    @ivar loadBusy: the share of the time that the load, not the server, was on a
        processor; C{None} where there is no such load.
    """

    measure: str
    peer: str
    value: float
    loadBusy: float | None = None


@dataclass(frozen=True)
class Extent:
    """
    How much is done for each figure.

    @ivar turns: of every peer at every measure, within a round.
    @ivar seconds: that a load lasts.
    @ivar idle: connections held to see what each takes.
    @ivar count: messages on each of a client's connections.
    """

    turns: int
    seconds: float
    idle: int
    count: int


class Suite:
    """
    One bench: its programs are compiled, and its rounds can begin.
    """

    def __init__(self, extent: Extent, into: Path) -> None:
        """
        @param into: a directory for what is needed only meanwhile.
        """
        self._extent = extent
        self._load = compiled(_HERE / "load.c", into, "ssl", "crypto")
        self._pem = str(certificate(into))
        self._epoll = [str(compiled(_PEERS / "epoll.c", into)), "PORT"]
        self._site = into / "site"
        self._site.mkdir()
        (self._site / "index.html").write_text(_PAGE)

    def round(self, number: int) -> Iterator[Figure]:
        """
        Measure everything once.

        @param number: the round's; each begins with the next peer.
        """
        yield from self._servers(number)
        yield from self._workers(number, "echo", "workers")
        yield from self._workers(number, "tls", "tls_workers")
        yield from self._clients(number)
        yield from self._web(number)

    def _servers(self, number: int) -> Iterator[Figure]:
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(serving(command))
                for name, command in _turned(SERVERS | {C_EPOLL: self._epoll}, number)
            }
            # First, for memory that was let go of once is not asked for again.
            for name, server in servers.items():
                yield Figure("idle", name, self._idle(server))
            for key, connections, size in (("100x64", 100, 64), ("1000x1k", 1000, 1024)):
                for name, came in self._turns(servers, connections, "echo", str(size)):
                    yield Figure(f"cpu_{key}", name, came.cpuUs, came.loadBusy)
                    yield Figure(f"rate_{key}", name, came.perSecond, came.loadBusy)
            for key, size in (("bulk_10x64k", 1 << 16), ("bulk_10x1m", 1 << 20)):
                for name, came in self._turns(servers, 10, "echo", str(size)):
                    yield Figure(key, name, came.perSecond * size / 1e6, came.loadBusy)
            for name, came in self._turns(servers, 32, "churn", "64"):
                yield Figure("accepts", name, came.perSecond, came.loadBusy)
                yield Figure("cpu_accept", name, came.cpuUs, came.loadBusy)

    def _turns(
        self, servers: dict[str, Server], connections: int, *what: str
    ) -> Iterator[tuple[str, Exchange]]:
        """Load the servers one after the other, time and again."""
        for _ in range(self._extent.turns):
            for name, server in servers.items():
                yield name, self._loaded(server, connections, *what)

    def _loaded(self, server: Server, connections: int, *what: str) -> Exchange:
        with loading(self._load, server, connections, self._extent.seconds, *what) as load:
            return load.run()

    def _idle(self, server: Server) -> float:
        """Return the kB that a server needs for one more connection."""
        with loading(self._load, server, 100, 0, "echo", "64") as load:
            load.run()
        before = server.residentBytes()
        with loading(self._load, server, self._extent.idle, 0, "echo", "64"):
            grown = server.residentBytes() - before
        return grown / self._extent.idle / 1e3

    def _workers(self, number: int, what: str, key: str) -> Iterator[Figure]:
        listen = _SHARED[what].replace("PEM", self._pem)
        command = _twistd("multiecho", "--trace", "none", "--listen", listen)
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(serving([*command, "--workers", str(count)], count))
                for name, count in _turned(WORKERS, number)
            }
            for _ in range(self._extent.turns):
                for name, server in servers.items():
                    came = self._loadedTwice(server, what)
                    yield Figure(f"{key}_rate", name, came.perSecond, came.loadBusy)
                    yield Figure(f"{key}_cpu", name, came.cpuUs, came.loadBusy)

    def _loadedTwice(self, server: Server, what: str) -> Exchange:
        """Load a server from both cores, which it has, too."""
        with ExitStack() as stack:
            return runTogether(
                [
                    stack.enter_context(
                        loading(
                            *(self._load, server, 100, self._extent.seconds, what, "64"),
                            core=core,
                        )
                    )
                    for core in (SERVER_CORE, LOAD_CORE)
                ]
            )

    def _clients(self, number: int) -> Iterator[Figure]:
        with serving(self._epoll) as server:
            for name, command in _turned(CLIENTS, number):
                # What is left is without starting up and connecting.
                count = self._extent.count
                spent = cpuOf(_clientCommand(command, server, count + 1)) - cpuOf(
                    _clientCommand(command, server, 1)
                )
                yield Figure("client_100x64", name, spent * 1e6 / (100 * count))
            came = self._loaded(server, 100, "echo", "64")
            yield Figure("client_100x64", C_EPOLL, came.loadUs)
        yield Figure("record", OURS, _recordNs())

    def _web(self, number: int) -> Iterator[Figure]:
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(serving(_inserted(command, SITE=str(self._site))))
                for name, command in _turned(WEB, number)
            }
            sizes = {name: _replySize(server) for name, server in servers.items()}
            # Both have the same page, and the same headers.
            (size,) = set(sizes.values())
            for name, came in self._turns(servers, 50, "ask", _REQUEST, str(size)):
                yield Figure("web_rate", name, came.perSecond, came.loadBusy)
                yield Figure("web_cpu", name, came.cpuUs, came.loadBusy)


def _recordNs() -> float:
    """Return the nanoseconds that recording a latency takes."""
    # Spread like those of a run: around a millisecond, some ten times as long.
    latencies = [int(gauss(1e6, 2e5)) * (1 + 9 * (n % 100 == 0)) for n in range(100_000)]
    record = Latency().record
    before = perf_counter_ns()
    for latency in latencies:
        record(latency)
    return (perf_counter_ns() - before) / len(latencies)


def _turned(peers: dict[str, T], number: int) -> list[tuple[str, T]]:
    """Return the peers in their order, but beginning with another in each round."""
    listed = list(peers.items())
    first = number % len(listed)
    return listed[first:] + listed[:first]


def _inserted(command: list[str], **values: str) -> list[str]:
    """Return a command with its words in capitals replaced."""
    return [values.get(word, word) for word in command]


def _clientCommand(command: list[str], server: Server, count: int) -> list[str]:
    return _inserted(
        command, PORT=str(server.port), CONNECTIONS="100", SIZE="64", COUNT=str(count)
    )


def _replySize(server: Server) -> int:
    """Return how many bytes a web server answers the request with."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as asking:
        asking.sendall(_REQUEST.encode())
        reply = asking.makefile("rb")
        size = 0
        for line in reply:
            size += len(line)
            if line.lower().startswith(b"content-length:"):
                size += int(line.split(b":")[1])
            if line == b"\r\n":
                break
        return size
