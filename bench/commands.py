"""
What is measured of whom: the command of each peer, by its name.
"""

import sys
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
_BIN = Path(sys.executable).parent

Commands = dict[str, list[str]]
"""By the peer's name, in the order of the table, ours first. Words in capitals are replaced."""


def _python(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(PEERS / f"{name}.py"), *arguments]


def _twistd(*arguments: str) -> list[str]:
    return [str(_BIN / "twistd"), "-n", "--pidfile=", *arguments]


OURS = "echofactory"
PLAIN = "echofactory --no-express"
C_EPOLL = "C epoll"
C_TLS = "C epoll and OpenSSL"

_TCP = "tcp:PORT:interface=127.0.0.1"


def _ssl(pem: Path) -> str:
    return f"ssl:PORT:interface=127.0.0.1:privateKey={pem}:certKey={pem}"


_ECHO = ("multiecho", "--trace", "none")


SERVERS: Commands = {
    OURS: _twistd(*_ECHO, "127.0.0.1", "PORT"),
    PLAIN: _twistd(*_ECHO, "127.0.0.1", "PORT", "--no-express"),
    "Twisted wire.Echo": _python("wire_echo", "default", _TCP),
    "asyncio Protocol": _python("asyncio_protocol", "asyncio", "PORT"),
    "asyncio streams": _python("asyncio_streams", "PORT"),
    "uvloop Protocol": _python("asyncio_protocol", "uvloop", "PORT"),
    "uvloop streams": _python("asyncio_streams", "PORT", "uvloop"),
    "selectors, the tutorial's": _python("selectors_server", "PORT"),
}
"""The echo servers written in Python. That in C is compiled first."""


def tlsServers(pem: Path) -> Commands:
    """
    Return the echo servers over TLS that are written in Python.

    @param pem: the key and the certificate of all of them.
    """
    ssl = _ssl(pem)
    return {
        OURS: _twistd(*_ECHO, "--listen", ssl),
        PLAIN: _twistd(*_ECHO, "--listen", ssl, "--no-express"),
        "Twisted wire.Echo": _python("wire_echo", "default", ssl),
        "asyncio Protocol": _python("asyncio_protocol", "asyncio", "PORT", str(pem)),
        "uvloop Protocol": _python("asyncio_protocol", "uvloop", "PORT", str(pem)),
    }


_CLIENT = ["PORT", "CONNECTIONS", "SIZE", "COUNT"]
_OUR = [sys.executable, "-m", "echofactory.client"]
_SENDING = ["--size", "SIZE", "--count", "COUNT", "--quiet"]
_OUR_CLIENT = [*_OUR, "127.0.0.1", "PORT", "CONNECTIONS", *_SENDING]
_OUR_TLS_CLIENT = [
    *[*_OUR, "--connect", "ssl:127.0.0.1:PORT", "--connections", "CONNECTIONS"],
    *_SENDING,
]

CLIENTS: Commands = {
    OURS: _OUR_CLIENT,
    PLAIN: [*_OUR_CLIENT, "--no-express"],
    "Twisted Protocol": _python("twisted_client", *_CLIENT),
    "asyncio Protocol": _python("asyncio_client", "asyncio", "tcp", *_CLIENT),
    "asyncio streams": _python("asyncio_streams_client", *_CLIENT),
    "uvloop Protocol": _python("asyncio_client", "uvloop", "tcp", *_CLIENT),
    "uvloop streams": _python("asyncio_streams_client", *_CLIENT, "uvloop"),
    "selectors, the tutorial's": _python("selectors_client", *_CLIENT),
}
"""The clients. Ours compares every byte and takes the time of every message; the others do
neither."""

TLS_CLIENTS: Commands = {
    OURS: _OUR_TLS_CLIENT,
    PLAIN: [*_OUR_TLS_CLIENT, "--no-express"],
    "uvloop Protocol": _python("asyncio_client", "uvloop", "tls", *_CLIENT),
}
"""The clients over TLS. None verifies the certificate."""

_WORKERS = {f"{OURS} --workers {count}": count for count in (2, 1)}


def workers(pem: Path | None = None) -> dict[str, tuple[list[str], int]]:
    """
    Return the same server as several processes, and how many those are.

    @param pem: the key and the certificate, for TLS.
    """
    command = _twistd(*_ECHO, "--listen", _TCP if pem is None else _ssl(pem))
    return {
        name: ([*command, "--workers", str(count)], count) for name, count in _WORKERS.items()
    }


WEB: Commands = {
    "twistd web --listen express:tcp": _twistd(
        *["web", "--listen", f"express:{_TCP}", "--path", "SITE"]
    ),
    "twistd web --listen tcp": _twistd(*["web", "--listen", _TCP, "--path", "SITE"]),
}

WEBSOCKET: Commands = {
    f"autobahn --reactor={reactor}": _python("autobahn_echo", reactor, "PORT")
    for reactor in ("express", "epoll")
}

KLEIN: Commands = {
    f"klein --reactor={reactor}": _python("klein_page", reactor, "PORT")
    for reactor in ("express", "epoll")
}

LANES: Commands = {
    "wire.Echo, express:tcp": _python("wire_echo", "epoll", f"express:{_TCP}"),
    "wire.Echo, --reactor=express": _python("wire_echo", "express", _TCP),
    "wire.Echo, --reactor=epoll": _python("wire_echo", "epoll", _TCP),
}
"""The two ways to the lane that every program has, and none. Our own server would take the
lane on any reactor."""

SPINNING = f"{OURS} --spin"
SPINNING_C = "C that spins"

PACED: Commands = {
    name: [
        *[*_OUR, "127.0.0.1", "PORT", "50", "--size", "64", "--rate", "1k"],
        *["--duration", "SECONDS", "--json", "-", "--quiet", *more],
    ]
    for name, more in {SPINNING: ["--spin"], OURS: []}.items()
}
"""Clients that keep a schedule. That in C is compiled first."""

UNSAMPLED = f"{OURS}, no receive lag"

SAMPLING: Commands = {OURS: _OUR_CLIENT, UNSAMPLED: [*_python("unsampled"), *_OUR_CLIENT[3:]]}
"""Our client, with receive lag and without it."""

ORDER = list(
    dict.fromkeys(
        [
            *[SPINNING, *SERVERS, *CLIENTS, C_EPOLL, C_TLS, *_WORKERS, *WEB, *WEBSOCKET],
            *[*KLEIN, *LANES, SPINNING_C, UNSAMPLED],
        ]
    )
)
"""The names of all peers, in the order of the table."""


def scaledServer(workers: int) -> list[str]:
    """
    Return the command of our server with several processes. Over loopback, the kernel has no
    room for the keepalive probes of a million silent connections.
    """
    return _twistd(*_ECHO, "127.0.0.1", "PORT", "--workers", str(workers), "--keepalive", "0")
