"""
A fixture for the tests of other people's clients: C{echoServer} starts real echo
servers, which are ended with the test. In C{conftest.py}::

    pytest_plugins = ["echofactory.testing"]

and in a test::

    def test_my_client(echoServer):
        server = echoServer()
        assert myClient(server.host, server.port).ask(b"hello") == b"hello"

    def test_patience(echoServer):
        server = echoServer(faults="delay=200ms,dribble=1")
        assert myClient(server.host, server.port).ask(b"hello") == b"hello"

    def test_wrong_bytes(echoServer):
        server = echoServer(faults=["corrupt=0.01"], seed=1)
        with pytest.raises(MyClient.Corrupted):
            myClient(server.host, server.port).ask(bytes(10_000))

    def test_tls(echoServer):
        server = echoServer(pem="tests/localhost.pem")
        assert myClient(server.host, server.port, tls=True).ask(b"hello") == b"hello"

Each call starts another server: a C{twistd multiecho} process of its own, on a
free port of the loopback interface. It listens when the call returns, and ends with
the test, or with pytest, should that be killed. What the faults are, and what their
seed does, C{twistd multiecho --help} says.

It takes pytest, which echofactory does not install.
"""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike, fspath
from queue import Empty, Queue
from threading import Thread
from time import monotonic
from typing import IO, NamedTuple

from twisted.internet.endpoints import quoteStringArgument

try:
    import pytest
except ImportError:
    raise ImportError("install pytest to use echofactory.testing") from None

START_LIMIT = 30.0
"""Seconds that a server has to start."""

STOP_LIMIT = 10.0
"""Seconds that a server has to end, before it is killed."""

HOST = "127.0.0.1"

# By this interpreter, wherever its scripts are; -P, for what lies in the directory of
# the tests may have the name of a module that the server needs.
_TWISTD = (sys.executable, "-P", "-m", "echofactory.cli.twistd_until_eof")


class EchoServer(NamedTuple):
    """
    Where an echo server listens.

    @ivar host: an address.
    """

    host: str
    port: int


class EchoServerError(Exception):
    """
    An echo server did not start.

    @ivar said: its lines until then.
    """

    def __init__(self, why: str, said: Sequence[str]) -> None:
        super().__init__("\n".join((f"twistd multiecho {why}; it said:", *said)))
        self.said = said


@contextmanager
def _running(options: Sequence[str]) -> Iterator[EchoServer]:
    process = subprocess.Popen(
        [*_TWISTD, "-n", "--pidfile=", "multiecho", *options],
        # Which ends with this process, though it were killed.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: Queue[str | None] = Queue()
    # Reads to the end, for a server whose pipe is full would stand still.
    reader = Thread(target=_read, args=(process.stdout, lines))
    reader.start()
    try:
        yield EchoServer(HOST, _port(lines))
    finally:
        process.terminate()
        try:
            process.wait(STOP_LIMIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()
        reader.join()


def _read(stream: IO[str], lines: "Queue[str | None]") -> None:
    with stream:
        for line in stream:
            lines.put(line.rstrip("\n"))
    lines.put(None)


def _port(lines: "Queue[str | None]") -> int:
    """Wait for the line that says where it listens."""
    said: list[str] = []
    deadline = monotonic() + START_LIMIT
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - monotonic()))
        except Empty:
            why = f"does not listen after {START_LIMIT:g} s"
            raise EchoServerError(why, said) from None
        if line is None:
            raise EchoServerError("has ended", said)
        said.append(line)
        if match := re.search(r"listening on \S+:(\d+)", line):
            return int(match[1])


@pytest.fixture
def echoServer() -> Iterator[Callable[..., EchoServer]]:
    """
    Start an echo server: C{echoServer(pem=None, faults=(), seed=None)}, each given
    by its name.

     - C{pem}: the path of a certificate and its key in one file; the server speaks
       TLS.
     - C{faults}: what C{twistd multiecho --fault} takes, such as C{"delay=20ms"}, or
       several of it, such as C{["delay=20ms", "drop=1e-6"]}.
     - C{seed}: a number that makes the faults repeat exactly; it says nothing if there
       are none.

    It returns the C{host} and C{port} where the server listens, and raises
    L{EchoServerError}, which has what the server said, if it does not.
    """
    with ExitStack() as servers:

        def start(
            *,
            pem: str | PathLike[str] | None = None,
            faults: str | Sequence[str] = (),
            seed: int | None = None,
        ) -> EchoServer:
            listen = f"tcp:0:interface={HOST}"
            if pem is not None:
                path = quoteStringArgument(fspath(pem))
                listen = f"ssl:0:interface={HOST}:privateKey={path}:certKey={path}"
            options = ["--trace", "none", "--drain", "0", "--listen", listen]
            if isinstance(faults, str):
                faults = [faults]
            for fault in faults:
                options += ["--fault", fault]
            if faults and seed is not None:
                options += ["--fault-seed", str(seed)]
            return servers.enter_context(_running(options))

        yield start
