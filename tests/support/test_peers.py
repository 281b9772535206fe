"""
Peers that nobody here wrote: socat, ncat and openssl, both ways round.

They have to be installed, as .ci/run does. Without them these tests are skipped,
but not in CI: a test that skips itself tests nothing.
"""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from peers import Certificates
from programs import LIMIT, client, multiecho, running, until

SIZE = 16 << 20
"""Bytes: more than all the buffers on the way hold."""

MISSING = [tool for tool in ("socat", "ncat", "openssl") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and "CI" not in os.environ, reason=f"not installed: {', '.join(MISSING)}"
)


@pytest.fixture(scope="module")
def random16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 16 MiB of random bytes."""
    path = tmp_path_factory.mktemp("random") / "16M"
    path.write_bytes(os.urandom(SIZE))
    return path


def exchange(command: Sequence[str], sent: Path) -> bytes:
    """Run a client program with the file as its input; return its output."""
    with sent.open("rb") as stdin:
        done = subprocess.run(
            command, stdin=stdin, capture_output=True, timeout=LIMIT, check=False
        )
    assert done.returncode == 0, done.stderr
    return done.stdout


# socat waits half a second for the other direction when one has ended, unless
# told otherwise with -t.
CLIENTS = {
    "socat-tcp": ["socat", "-t60", "-", "TCP4:127.0.0.1:{port}"],
    "ncat-tcp": ["ncat", "127.0.0.1", "{port}"],
    "socat-unix": ["socat", "-t60", "-", "UNIX-CONNECT:{path}"],
    "ncat-unix": ["ncat", "-U", "{path}"],
}


@pytest.mark.parametrize("name", CLIENTS)
def test_their_client_and_our_server(name: str, random16: Path, folder: Path) -> None:
    """16 MiB through half-close come back byte for byte."""
    path = f"{folder}/echo.sock"
    listen = ["--listen", "tcp:0:interface=127.0.0.1", "--listen", f"unix:{path}"]
    with multiecho(*listen) as (program, port):
        program.waitFor(f"listening on {path}$")
        command = [word.format(port=port, path=path) for word in CLIENTS[name]]
        assert exchange(command, random16) == random16.read_bytes()


def test_openssl_and_our_server(certificates: Certificates) -> None:
    """A TLS client of another make, its certificate checked."""
    pem = certificates.pem
    listen = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with multiecho("--listen", listen) as (_, port):
        process = subprocess.Popen(
            ["openssl", "s_client", "-quiet", "-verify_return_error",
             "-CAfile", str(certificates.trust / "authority.pem"),
             "-connect", f"127.0.0.1:{port}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello\n")
            process.stdin.flush()
            assert process.stdout.readline() == b"hello\n"
        finally:
            process.kill()
            process.communicate()


SERVERS = {
    "socat-tcp": [
        "socat",
        "-t60",
        "TCP4-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr",
        "EXEC:cat",
    ],
    "ncat-tcp": ["ncat", "-l", "-k", "127.0.0.1", "{port}", "--exec", "/bin/cat"],
    "socat-unix": ["socat", "-t60", "UNIX-LISTEN:{path},fork,backlog=64", "EXEC:cat"],
}


def freePort() -> int:
    # The one place that cannot use port 0: these servers do not tell it.
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def theirServer(name: str, path: str) -> Iterator[str]:
    """Run an echo server of another make; return the client endpoint of it."""
    port = freePort()
    command = [word.format(port=port, path=path) for word in SERVERS[name]]
    endpoint = f"unix:{path}" if name.endswith("unix") else f"tcp:127.0.0.1:{port}"
    with running(command):
        unix = name.endswith("unix")

        def isUp() -> bool:
            with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as asking:
                return asking.connect_ex(path if unix else ("127.0.0.1", port)) == 0

        until(isUp)
        yield endpoint


@pytest.mark.parametrize("name", SERVERS)
def test_our_client_and_their_server(name: str, random16: Path, folder: Path) -> None:
    """16 MiB on one connection, through half-close, and messages on ten."""
    with theirServer(name, f"{folder}/their.sock") as endpoint:
        if name.startswith("ncat"):
            # As a server ncat has no half-close, and it stops for ever when both
            # of the pipes to its cat are full: so a bounded window, no half-close.
            sent = ["--size", "4k", "--count", "4096", "--window", "12"]
        else:
            sent = ["--message-file", str(random16), "--half-close"]
        done = client("--connect", endpoint, "-n", "1", *sent)
        assert done.process.returncode == 0, done.err
        assert any("16.0 MiB received" in line for line in done.out)

        done = client("--connect", endpoint, "-n", "10", "--size", "10k", "--count", "10")
        assert done.process.returncode == 0, done.err
