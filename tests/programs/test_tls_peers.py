"""
TLS with peers that nobody here wrote: openssl, curl, socat and ncat, through the programs.
"""

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest
from peers import Certificates
from programs import LIMIT, client, multiecho, running

SIZE = 1 << 20

MISSING = [tool for tool in ("socat", "ncat", "openssl", "curl") if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and "CI" not in os.environ, reason=f"not installed: {', '.join(MISSING)}"
)


def listen(certificates: Certificates, prefix: str = "ssl") -> list[str]:
    """Return the words for a server over TLS."""
    pem = certificates.pem
    return ["--listen", f"{prefix}:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"]


def authority(certificates: Certificates) -> str:
    return str(certificates.trust / "authority.pem")


class SClient:
    """C{openssl s_client}, with what it has printed."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin: IO[bytes] = process.stdin
        self._stdout: IO[bytes] = process.stdout
        self.out = b""

    def write(self, data: bytes) -> None:
        self._stdin.write(data)
        self._stdin.flush()

    def until(self, pattern: bytes) -> None:
        """Read until a pattern is there."""
        while not re.search(pattern, self.out):
            data = os.read(self._stdout.fileno(), 65536)
            assert data, f"no {pattern!r} in {self.out!r}"
            self.out += data

    def finish(self) -> bytes:
        """End its input; return all that it has printed."""
        self._stdin.close()
        self.process.stdin = None
        while data := os.read(self._stdout.fileno(), 65536):
            self.out += data
        self.process.wait(LIMIT)
        return self.out


@contextmanager
def sClient(certificates: Certificates, port: int, *options: str) -> Iterator[SClient]:
    process = subprocess.Popen(
        ["timeout", str(LIMIT), "openssl", "s_client", "-verify_return_error",
         "-CAfile", authority(certificates), "-connect", f"127.0.0.1:{port}", *options],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield SClient(process)
    finally:
        process.terminate()
        process.communicate()


@pytest.mark.parametrize("name", ["socat", "ncat"])
def test_their_client(certificates: Certificates, name: str) -> None:
    """1 MiB comes back, a part at a time."""
    data = os.urandom(SIZE)
    with multiecho("--trace", "none", *listen(certificates)) as (_, port):
        trust = authority(certificates)
        if name == "socat":
            target = f"OPENSSL:127.0.0.1:{port},cafile={trust},commonname=localhost"
            tool = ["socat", "-t60", "-", target]
        else:
            tool = [
                "ncat",
                "-4",
                "--ssl-verify",
                "--ssl-trustfile",
                trust,
                "localhost",
                str(port),
            ]
        process = subprocess.Popen(
            tool, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            received = b""
            for at in range(0, SIZE, 1 << 15):
                process.stdin.write(data[at : at + (1 << 15)])
                process.stdin.flush()
                received += process.stdout.read(1 << 15)
            assert received == data
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("name", ["socat", "openssl"])
def test_their_server(certificates: Certificates, name: str) -> None:
    """Our client verifies what comes back from an echo of another make."""
    pem = certificates.pem
    with socket.create_server(("127.0.0.1", 0)) as free:
        # These servers do not tell the port that the system has chosen.
        port = free.getsockname()[1]
    command = {
        "socat": ["socat", "-d", "-d",
                  f"OPENSSL-LISTEN:{port},bind=127.0.0.1,fork,reuseaddr,cert={pem},verify=0",
                  "EXEC:cat"],
        "openssl": ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(pem),
                    "-key", str(pem), "-rev"],
    }[name]  # fmt: skip
    with running(command) as server:
        if name == "socat":
            server.waitFor("listening on", server.err)
        else:
            server.waitFor("ACCEPT")
        target = f"tls:localhost:{port}:trustRoots={certificates.trust}"
        if name == "socat":
            done = client("--connect", target, "-n", "3", "--size", "10k", "--count", "30")
        else:
            # It sends back each line, reversed.
            message = Path(certificates.pem).with_name("palindrome")
            message.write_bytes(b"abcba\n")
            done = client("--connect", target, "-n", "1", "--message-file", str(message))
        assert done.process.returncode == 0, done.err


@pytest.mark.parametrize("options", [[], ["--no-express"]], ids=["lane", "twisted"])
@pytest.mark.parametrize("kind", ["ssl", "tls", "haproxy:ssl"])
def test_offered_protocols(
    certificates: Certificates, folder: Path, options: list[str], kind: str
) -> None:
    """The echo answers a client that offers protocols, and selects none."""
    (folder / "localhost.pem").write_bytes(certificates.pem.read_bytes())
    words = ["--listen", f"tls:{folder}:0:interface=127.0.0.1"]
    if kind != "tls":
        words = listen(certificates, kind)
    with multiecho("--trace", "none", *options, *words) as (_, port):
        if not kind.startswith("haproxy"):
            with sClient(
                certificates, port, "-alpn", "h2,echo", "-servername", "localhost"
            ) as peer:
                peer.write(b"hello\n")
                peer.until(rb"(?m)^hello$")
                assert b"No ALPN negotiated" in peer.finish()
        curl = ["curl", "-sSvN", "--http2", "--http0.9", "--noproxy", "*",
                "--cacert", authority(certificates), f"https://localhost:{port}/"]  # fmt: skip
        if kind.startswith("haproxy"):
            curl.append("--haproxy-protocol")
        # It would wait for the end.
        with running(curl) as program:
            program.waitFor("^GET / HTTP/1.1$")
            program.waitFor("ALPN.*(server did not agree|no ALPN)", program.err)


def test_offered_to_the_status(certificates: Certificates) -> None:
    """The status page selects HTTP/1.1, and refuses a client that does not know it."""
    pem = certificates.pem
    status = f"ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    with multiecho("--trace", "none", "--status", status, "127.0.0.1", "0") as (server, _):
        port = int(server.waitFor(r"status page on \S+:(\d+)")[1])
        with sClient(certificates, port, "-alpn", "h2,http/1.1") as peer:
            peer.until(b"ALPN protocol: http/1.1")
        with sClient(certificates, port, "-alpn", "h2") as peer:
            peer.until(b"SSL alert number")
            assert b"No ALPN negotiated" in peer.finish()


@pytest.mark.parametrize("command", [b"K\n", b"k\n"])
def test_new_keys(certificates: Certificates, command: bytes) -> None:
    """The client renews its keys, or those of both, in mid-stream."""
    with (
        multiecho("--trace", "none", *listen(certificates)) as (_, port),
        sClient(certificates, port, "-tls1_3") as peer,
    ):
        for number in range(3):
            line = b"line %d" % number
            peer.write(line + b"\n")
            peer.until(rb"(?m)^" + line + b"$")
            peer.write(command)
            peer.until(b"(KEYUPDATE[^$]*){%d}" % (number + 1))
        peer.write(b"last\n")
        peer.until(rb"(?m)^last$")


def test_renegotiation(certificates: Certificates) -> None:
    """It is refused, and costs no other connection."""
    with (
        multiecho("--trace", "none", *listen(certificates)) as (_, port),
        sClient(certificates, port, "-tls1_2") as good,
        sClient(certificates, port, "-tls1_2", "-legacy_renegotiation") as bad,
    ):
        for each in (good, bad):
            each.write(b"one\n")
            each.until(rb"(?m)^one$")
        bad.write(b"R\n")
        bad.until(b"RENEGOTIATING(.|\n)*no renegotiation")
        good.write(b"two\n")
        good.until(rb"(?m)^two$")


def test_half_close(certificates: Certificates) -> None:
    """Over TLS 1.3 on the lane, the client gets all and the end. Without it, it says so."""
    with multiecho("--trace", "none", *listen(certificates)) as (_, port):
        target = f"ssl:localhost:{port}:hostname=localhost:caCertsDir={certificates.trust}"
        words = ["--connect", target, "-n", "3", "--half-close", "--size", "1M", "--count", "3"]
        done = client(*words)
        assert done.process.returncode == 0, done.err
        done = client(*words, "--no-express")
        assert done.process.returncode == 2
        assert len(done.err) == 1
    with multiecho("--trace", "none", "--no-express", *listen(certificates)) as (_, port):
        target = f"ssl:localhost:{port}:hostname=localhost:caCertsDir={certificates.trust}"
        # One of them could be lucky.
        done = client("--connect", target, "-n", "20", "--half-close", "--size", "64k")
        assert done.process.returncode == 1
        assert any("closed-early" in line for line in done.err), done.err
