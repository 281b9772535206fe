"""
A pytest fixture for tests of other clients: C{echoServer} starts real echo servers, which end
with the test. If echofactory is installed, pytest finds this plugin. In a test::

    def test_my_client(echoServer):
        server = echoServer()
        assert myClient(server.host, server.port).ask(b"hello") == b"hello"

    def test_slow_replies(echoServer):
        server = echoServer(faults="delay=200ms,dribble=1")
        assert myClient(server.host, server.port).ask(b"hello") == b"hello"

    def test_wrong_bytes(echoServer):
        server = echoServer(faults=["corrupt=0.01"], seed=1)
        with pytest.raises(MyClient.Corrupted):
            myClient(server.host, server.port).ask(bytes(10_000))

    def test_tls(echoServer):
        server = echoServer(pem="tests/localhost.pem")
        assert myClient(server.host, server.port, tls=True).ask(b"hello") == b"hello"

Each call starts another server: a separate C{twistd multiecho} process on a free port of the
loopback interface. When the call returns, the server listens. It ends with the test, or with
pytest if pytest is killed. C{twistd multiecho --help} explains the faults and their seed.

The fixture needs pytest, which echofactory does not install.
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

try:
    import pytest
except ImportError:
    raise ImportError("install pytest to use echofactory.testing") from None

START_LIMIT = 30.0
"""Seconds within which a server must start."""

STOP_LIMIT = 10.0
"""Seconds within which a server must end; after that, it is killed."""

HOST = "127.0.0.1"

# This interpreter, because its scripts may be in any directory. -P, because a file in the
# working directory may have the name of a module that the server needs.
_TWISTD = (sys.executable, "-P", "-m", "echofactory.cli.twistd_until_eof")


class EchoServer(NamedTuple):
    """
    The address of an echo server.

    @ivar host: the IP address.
    @ivar port: the TCP port.
    """

    host: str
    port: int


class EchoServerError(Exception):
    """
    An echo server did not start.

    @ivar output: the lines that it has written.
    """

    def __init__(self, why: str, output: Sequence[str]) -> None:
        super().__init__("\n".join((f"twistd multiecho {why}. Its output:", *output)))
        self.output = output


@contextmanager
def _running(options: Sequence[str]) -> Iterator[EchoServer]:
    process = subprocess.Popen(
        [*_TWISTD, "-n", "--pidfile=", "multiecho", *options],
        # The pipe ends with this process, even if this process is killed.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    assert process.stdin is not None
    assert process.stdout is not None
    lines: Queue[str | None] = Queue()
    # Reads to the end, because a server whose pipe is full would block.
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
    """Wait for the line in the log that names the port."""
    output: list[str] = []
    deadline = monotonic() + START_LIMIT
    while True:
        try:
            line = lines.get(timeout=max(0.0, deadline - monotonic()))
        except Empty:
            why = f"did not listen within {START_LIMIT:g} s"
            raise EchoServerError(why, output) from None
        if line is None:
            raise EchoServerError("ended", output)
        output.append(line)
        if match := re.search(r"listening on \S+:(\d+)", line):
            return int(match[1])


@pytest.fixture
def echoServer() -> Iterator[Callable[..., EchoServer]]:
    """
    Return a function that starts an echo server: C{echoServer(pem=None, faults=(),
    seed=None)}, with keyword arguments only.

     - C{pem}: the path of a file with a certificate and its key. With it, the server speaks
       TLS.
     - C{faults}: a value of C{twistd multiecho --fault}, such as C{"delay=20ms"}, or a list of
       values, such as C{["delay=20ms", "drop=1e-6"]}.
     - C{seed}: the seed of the faults. The same seed reproduces the same faults. Without
       faults, it has no effect.

    The function returns the L{EchoServer}. If the server does not listen, it raises
    L{EchoServerError} with the output of the server.
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
                # Every pytest of an environment with echofactory loads this module, so that
                # it loads nothing else that pytest has not loaded.
                from twisted.internet.endpoints import quoteStringArgument

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
