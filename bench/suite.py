"""
What is measured, of whom: a round goes through every measure, and in each
through every peer.
"""

import json
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import gauss
from time import perf_counter_ns
from typing import NamedTuple, TypeVar

from bench import replies
from bench.commands import (
    C_EPOLL,
    C_TLS,
    CLIENTS,
    KLEIN,
    LANES,
    OURS,
    PACED,
    PEERS,
    SAMPLING,
    SERVERS,
    SPINNING_C,
    TLS_CLIENTS,
    WEB,
    WEBSOCKET,
    Commands,
    tlsServers,
    workers,
)
from bench.measures import PARTS
from bench.processes import (
    LOAD_CORE,
    SERVER_CORE,
    Exchange,
    Server,
    certificate,
    compiled,
    cpuOf,
    loading,
    outputOf,
    runTogether,
    serving,
)
from echofactory.results.latency import Latency

T = TypeVar("T")

_HERE = Path(__file__).parent

_PAGE = "<!DOCTYPE html><title>bench</title>" + "<p>An echo.</p>" * 64


class Traffic(NamedTuple):
    """
    What a client sends and has echoed.

    @ivar key: its part of the measure's name.
    @ivar size: of a message, in bytes.
    @ivar fewer: what L{Extent.count} is divided by, because TLS and large messages take longer.
    """

    key: str
    connections: int
    size: int
    fewer: int = 1


_SMALL = Traffic("100x64", 100, 64)
_OVER_TLS = (
    Traffic("100x64", 100, 64, 2),
    Traffic("100x8k", 100, 8 << 10, 4),
    Traffic("10x1m", 10, 1 << 20, 20),
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

    @ivar openssl: the version of OpenSSL that the programs in C have.
    """

    def __init__(self, extent: Extent, into: Path) -> None:
        """
        @param into: a directory for what is needed only meanwhile.
        """
        self._extent = extent
        self._load = compiled(_HERE / "load.c", into, "ssl", "crypto")
        self._pem = certificate(into)
        self._epoll = [str(compiled(PEERS / "epoll.c", into)), "PORT"]
        epollTLS = str(compiled(PEERS / "epoll_tls.c", into, "ssl", "crypto"))
        self._epollTLS = [epollTLS, "PORT", str(self._pem)]
        self.openssl = subprocess.run(
            [epollTLS, "version"], capture_output=True, text=True, check=True
        ).stdout.strip()
        self._spin = str(compiled(_HERE / "spin.c", into))
        self._site = into / "site"
        self._site.mkdir()
        (self._site / "index.html").write_text(_PAGE)

    def round(self, number: int, rows: Collection[str]) -> Iterator[Figure]:
        """
        Measure everything once.

        @param number: the round's; each begins with the next peer.
        @param rows: the keys of the parts to measure.
        """
        parts: dict[str, Callable[[int], Iterator[Figure]]] = {
            "server": self._servers,
            "tls": self._tlsServers,
            "workers": self._workers,
            "client": self._clients,
            "instrument": self._instrument,
            "tls-client": self._tlsClients,
            "web": self._web,
            "programs": self._programs,
        }
        for part in PARTS:
            if part.key in rows:
                yield from parts[part.key](number)

    def _servers(self, number: int) -> Iterator[Figure]:
        with _all(SERVERS | {C_EPOLL: self._epoll}, number) as servers:
            # First, for memory that was let go of once is not asked for again.
            for name, server in servers.items():
                yield Figure("idle", name, self._idle(server))
            for key, connections, size in (("100x64", 100, 64), ("1000x1k", 1000, 1024)):
                yield from self._both(
                    *(f"rate_{key}", f"cpu_{key}", servers, connections),
                    *("echo", str(size)),
                )
            for key, size in (("bulk_10x64k", 1 << 16), ("bulk_10x1m", 1 << 20)):
                for name, came in self._turns(servers, 10, "echo", str(size)):
                    yield Figure(key, name, came.perSecond * size / 1e6, came.loadBusy)
            yield from self._both("accepts", "cpu_accept", servers, 32, "churn", "64")

    def _tlsServers(self, number: int) -> Iterator[Figure]:
        with _all(tlsServers(self._pem) | {C_TLS: self._epollTLS}, number) as servers:
            for key, connections, size, _ in _OVER_TLS:
                yield from self._both(
                    *(f"tls_rate_{key}", f"tls_cpu_{key}", servers, connections),
                    *("tls", str(size)),
                )
            yield from self._both(
                "tls_accepts", "tls_cpu_accept", servers, 32, "tls-churn", "64"
            )

    def _both(
        self, rate: str, cpu: str, servers: dict[str, Server], connections: int, *what: str
    ) -> Iterator[Figure]:
        """Measure replies per second, and the processor time of each."""
        for name, came in self._turns(servers, connections, *what):
            yield Figure(rate, name, came.perSecond, came.loadBusy)
            yield Figure(cpu, name, came.cpuUs, came.loadBusy)

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

    def _workers(self, number: int) -> Iterator[Figure]:
        yield from self._shared(number, workers(), "echo", "workers")
        yield from self._shared(number, workers(self._pem), "tls", "tls_workers")

    def _shared(
        self, number: int, commands: dict[str, tuple[list[str], int]], what: str, key: str
    ) -> Iterator[Figure]:
        with ExitStack() as stack:
            servers = {
                name: stack.enter_context(serving(command, count))
                for name, (command, count) in _turned(commands, number)
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
            yield from self._trips("client_100x64", number, CLIENTS, server, _SMALL)
            came = self._loaded(server, 100, "echo", "64")
            yield Figure("client_100x64", C_EPOLL, came.loadUs)
        yield Figure("record", OURS, _recordNs())

    def _instrument(self, number: int) -> Iterator[Figure]:
        # With less than a second, there are too few messages for a percentile.
        seconds = max(1.0, 8 * self._extent.seconds)
        with serving(self._epoll) as server:
            for _ in range(self._extent.turns):
                for name, command in _turned(PACED | {SPINNING_C: [self._spin]}, number):
                    for key, us in self._lateness(name, command, server, seconds):
                        yield Figure(key, name, us)
            yield from self._trips("receive_lag_client", number, SAMPLING, server, _SMALL)

    def _lateness(
        self, name: str, command: list[str], server: Server, seconds: float
    ) -> Iterator[tuple[str, float]]:
        """Return how late messages are, in microseconds: the median, and p90."""
        if name == SPINNING_C:
            p50, p90 = map(float, outputOf([*command, f"{seconds:g}"]).split())
        else:
            words = _inserted(command, PORT=str(server.port), SECONDS=f"{seconds:g}s")
            lag = json.loads(outputOf(words))["send_lag_ns"]
            p50, p90 = lag["p50"] / 1e3, lag["p90"] / 1e3
        yield from (("lag_p50", p50), ("lag_p90", p90))

    def _tlsClients(self, number: int) -> Iterator[Figure]:
        with serving(self._epollTLS) as server:
            for traffic in _OVER_TLS:
                key = f"tls_client_{traffic.key}"
                yield from self._trips(key, number, TLS_CLIENTS, server, traffic)
                came = self._loaded(server, traffic.connections, "tls", str(traffic.size))
                yield Figure(key, C_TLS, came.loadUs)

    def _trips(
        self, key: str, number: int, clients: Commands, server: Server, traffic: Traffic
    ) -> Iterator[Figure]:
        count = self._extent.count // traffic.fewer
        for name, command in _turned(clients, number):
            # What is left is without starting up and connecting.
            spent = cpuOf(_clientCommand(command, server, traffic, count + 1)) - cpuOf(
                _clientCommand(command, server, traffic, 1)
            )
            yield Figure(key, name, spent * 1e6 / (traffic.connections * count))

    def _web(self, number: int) -> Iterator[Figure]:
        web = {name: _inserted(command, SITE=str(self._site)) for name, command in WEB.items()}
        with _all(web, number) as servers:
            yield from self._pages("web", servers, "/index.html")

    def _pages(self, key: str, servers: dict[str, Server], path: str) -> Iterator[Figure]:
        asked = replies.request(path)
        # All have the same page, and the same headers.
        (size,) = {replies.pageSize(server, asked) for server in servers.values()}
        yield from self._both(f"{key}_rate", f"{key}_cpu", servers, 50, "ask", asked, str(size))

    def _programs(self, number: int) -> Iterator[Figure]:
        with _all(WEBSOCKET, number) as servers:
            (size,) = {replies.greetingSize(server) for server in servers.values()}
            yield from self._both(
                *("websocket_rate", "websocket_cpu", servers, 100, "ask"),
                *(replies.MESSAGE, str(replies.MESSAGE_REPLY), replies.GREETING, str(size)),
            )
        with _all(KLEIN, number) as servers:
            yield from self._pages("klein", servers, "/echo/hello")
        with _all(LANES, number) as servers:
            yield from self._both("lanes_rate", "lanes_cpu", servers, 100, "echo", "64")


@contextmanager
def _all(commands: Commands, number: int) -> Iterator[dict[str, Server]]:
    """Run all servers while the context lasts, in the order of a round."""
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(serving(command))
            for name, command in _turned(commands, number)
        }


def _recordNs() -> float:
    """Return the nanoseconds that recording a latency takes."""
    # Spread like those of a run: around a millisecond, some ten times as long.
    latencies = [int(gauss(1e6, 2e5)) * (1 + 9 * (n % 100 == 0)) for n in range(100_000)]
    record = Latency().record
    before = perf_counter_ns()
    for latency in latencies:
        record(latency)
    return (perf_counter_ns() - before) / len(latencies)


def _turned(peers: Mapping[str, T], number: int) -> list[tuple[str, T]]:
    """Return the peers in their order, but beginning with another in each round."""
    listed = list(peers.items())
    first = number % len(listed)
    return listed[first:] + listed[:first]


def _inserted(command: list[str], **values: str) -> list[str]:
    """Return a command with its words in capitals replaced."""
    return [values.get(word, word) for word in command]


def _clientCommand(
    command: list[str], server: Server, traffic: Traffic, count: int
) -> list[str]:
    return [
        word.replace("PORT", str(server.port))
        for word in _inserted(
            command,
            CONNECTIONS=str(traffic.connections),
            SIZE=str(traffic.size),
            COUNT=str(count),
        )
    ]
