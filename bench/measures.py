"""
What is measured, in which unit, and what our figures are to reach.
"""

from typing import NamedTuple

from bench.commands import C_EPOLL, OURS


class Measure(NamedTuple):
    """
    One block of the table.

    @ivar key: its name in the JSON.
    @ivar title: what is measured.
    @ivar unit: of its figures.
    @ivar more: whether more is better.
    """

    key: str
    title: str
    unit: str
    more: bool = False


class Part(NamedTuple):
    """
    Measures that are taken together.

    @ivar key: its name in C{--rows}.
    @ivar title: its name in the table and in the JSON.
    """

    key: str
    title: str
    measures: tuple[Measure, ...]


PARTS = (
    Part(
        "server",
        "server",
        (
            Measure("cpu_100x64", "CPU per message, 100 × 64 B", "µs"),
            Measure("rate_100x64", "messages, 100 × 64 B", "1/s", more=True),
            Measure("cpu_1000x1k", "CPU per message, 1000 × 1 KiB", "µs"),
            Measure("rate_1000x1k", "messages, 1000 × 1 KiB", "1/s", more=True),
            Measure("bulk_10x64k", "echoed, 10 × 64 KiB", "MB/s", more=True),
            Measure("bulk_10x1m", "echoed, 10 × 1 MiB", "MB/s", more=True),
            Measure("idle", "memory per idle connection", "kB"),
            Measure("accepts", "connections, with 64 B each", "1/s", more=True),
            Measure("cpu_accept", "CPU per connection", "µs"),
        ),
    ),
    Part(
        "tls",
        "server over TLS",
        (
            Measure("tls_cpu_100x64", "CPU per message over TLS, 100 × 64 B", "µs"),
            Measure("tls_rate_100x64", "messages over TLS, 100 × 64 B", "1/s", more=True),
            Measure("tls_cpu_100x8k", "CPU per message over TLS, 100 × 8 KiB", "µs"),
            Measure("tls_rate_100x8k", "messages over TLS, 100 × 8 KiB", "1/s", more=True),
            Measure("tls_cpu_10x1m", "CPU per message over TLS, 10 × 1 MiB", "µs"),
            Measure("tls_rate_10x1m", "messages over TLS, 10 × 1 MiB", "1/s", more=True),
            Measure("tls_accepts", "TLS handshakes, with 64 B each", "1/s", more=True),
            Measure("tls_cpu_accept", "CPU per TLS connection", "µs"),
        ),
    ),
    Part(
        "workers",
        "workers",
        (
            Measure("workers_rate", "messages, two loads of 100 × 64 B", "1/s", more=True),
            Measure("workers_cpu", "CPU per message, two loads of 100 × 64 B", "µs"),
            Measure(
                *("tls_workers_rate", "messages over TLS, two loads of 100 × 64 B", "1/s"),
                more=True,
            ),
            Measure(
                "tls_workers_cpu", "CPU per message over TLS, two loads of 100 × 64 B", "µs"
            ),
        ),
    ),
    Part(
        "client",
        "client",
        (
            Measure("client_100x64", "CPU per round trip, 100 × 64 B", "µs"),
            Measure("record", "recording a latency", "ns"),
        ),
    ),
    Part(
        "instrument",
        "the client's own error",
        (
            Measure("lag_p50", "send lag at 1,000 messages/s, median", "µs"),
            Measure("lag_p90", "send lag at 1,000 messages/s, p90", "µs"),
            Measure("receive_lag_client", "CPU per round trip, 100 × 64 B", "µs"),
        ),
    ),
    Part(
        "tls-client",
        "client over TLS",
        (
            Measure("tls_client_100x64", "CPU per round trip over TLS, 100 × 64 B", "µs"),
            Measure("tls_client_100x8k", "CPU per round trip over TLS, 100 × 8 KiB", "µs"),
            Measure("tls_client_10x1m", "CPU per round trip over TLS, 10 × 1 MiB", "µs"),
        ),
    ),
    Part(
        "web",
        "twistd web",
        (
            Measure("web_rate", "requests", "1/s", more=True),
            Measure("web_cpu", "CPU per request", "µs"),
        ),
    ),
    Part(
        "programs",
        "programs",
        (
            Measure("websocket_rate", "WebSocket messages, 100 × 64 B", "1/s", more=True),
            Measure("websocket_cpu", "CPU per WebSocket message, 100 × 64 B", "µs"),
            Measure("klein_rate", "requests to klein", "1/s", more=True),
            Measure("klein_cpu", "CPU per request to klein", "µs"),
            Measure("lanes_rate", "messages to wire.Echo, 100 × 64 B", "1/s", more=True),
            Measure("lanes_cpu", "CPU per message to wire.Echo, 100 × 64 B", "µs"),
        ),
    ),
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
    Goal("accepts", "uvloop Protocol", 0.85),
    Goal("tls_cpu_100x64", "uvloop Protocol", 1.12),
    Goal("tls_cpu_100x8k", "uvloop Protocol", 0.90),
    Goal("workers_rate", f"{OURS} --workers 1", 1.60),
    Goal("tls_workers_rate", f"{OURS} --workers 1", 1.60),
    Goal("client_100x64", "uvloop Protocol", 1.15),
    Goal("tls_client_100x64", "uvloop Protocol", 1.25),
    Goal("tls_client_100x8k", "uvloop Protocol", 1.25),
)
