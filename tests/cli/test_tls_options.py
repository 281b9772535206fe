"""
TLS on HOST PORT: what both command lines take, and what the connections are then.
"""

import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)
from peers import misbehaving, portOf, serving
from programs import LIMIT, TWISTD, client, multiecho, running
from pytest_twisted import ensureDeferred

from echofactory import EchoClientFactory, Patience, Workload
from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.server import ServerOptions
from echofactory.client.target import Target
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind


class Files(NamedTuple):
    """
    Files in PEM.

    @ivar ca: the authority of all certificates.
    @ivar server: of localhost and echo.example, with its key.
    @ivar cert: of a client.
    @ivar key: of C{cert}.
    @ivar otherCA: an authority that has issued nothing.
    """

    ca: str
    server: str
    cert: str
    key: str
    otherCA: str


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """One authority and its certificates. The client's has another one above it."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    between = ca.create_child_ca()
    server = ca.issue_cert("localhost", "127.0.0.1", "echo.example")
    issued = between.issue_cert("client@echo.example")
    made = Files(*(str(folder / f"{name}.pem") for name in Files._fields))
    ca.cert_pem.write_to_path(made.ca)
    server.private_key_and_cert_chain_pem.write_to_path(made.server)
    for pem in issued.cert_chain_pems:
        pem.write_to_path(made.cert, append=True)
    issued.private_key_pem.write_to_path(made.key)
    trustme.CA().cert_pem.write_to_path(made.otherCA)
    return made


def clientTarget(reactor: Any, port: int, *words: str, host: str = "localhost") -> Target:
    """Return the target that the client's command line describes."""
    options = ClientOptions()
    options.parseOptions(["--tls", *words, host, str(port)])
    assert options.target is not None
    return Target(
        options.connectionReactor(reactor),
        options.target,
        10.0,
        family=options.family,
        tls=options.tls,
    )


async def ran(reactor: Any, target: Target, connections: int = 2) -> Results:
    """Run the client."""
    run = EchoClientFactory(reactor, Workload(), connections, Patience())
    return await run.run(target)


def serverEndpoints(*words: str) -> list[str]:
    """Return the endpoint strings of the server's command line."""
    options = ServerOptions()
    options.parseOptions([*words, "127.0.0.1", "0"])
    return options.endpoints


LANES = pytest.mark.parametrize("lane", [[], ["--no-express"]], ids=["lane", "reactor"])


@ensureDeferred
@LANES
@pytest.mark.parametrize("listen", ["", "express:"])
async def test_a_verified_server(
    reactor: Any, files: Files, lane: list[str], listen: str
) -> None:
    """The books say what was agreed on."""
    (text,) = serverEndpoints("--tls-cert", files.server, "--tls-key", files.server)
    async with serving(reactor, f"{listen}{text}") as service:
        port = portOf(service.addresses[0])
        target = clientTarget(reactor, port, "--ca", files.ca, *lane)
        results = await ran(reactor, target, 3)
    assert results.verdict == "ok", results.examples
    ((session, count),) = results.connectionFacts.tls.items()
    assert count == 3
    assert (session.version, session.verified, session.alpn) == ("TLSv1.3", True, None)
    assert session.cipher.startswith("TLS_")
    assert results.target == f"tls:localhost:{port}"


@ensureDeferred
@LANES
@pytest.mark.parametrize(
    ("words", "host", "detail"),
    [
        ([], "localhost", "unable to get local issuer certificate (unknown authority)"),
        (["--ca", "otherCA"], "localhost", "(unknown authority)"),
        (["--ca", "ca", "--sni", "no.example"], "localhost", "not for no.example"),
        (["--ca", "ca"], "127.0.0.2", "not for this address"),
    ],
)
async def test_a_server_that_is_refused(
    reactor: Any, files: Files, lane: list[str], words: list[str], host: str, detail: str
) -> None:
    """Its chain or its name is wrong."""
    endpoints = serverEndpoints("--tls-cert", files.server, "--tls-key", files.server)
    given = [getattr(files, word, word) for word in words]
    listen = [text.replace("127.0.0.1", "0.0.0.0") for text in endpoints]
    async with serving(reactor, *listen) as service:
        port = portOf(service.addresses[0])
        results = await ran(reactor, clientTarget(reactor, port, *given, *lane, host=host))
    assert results.failures == {FailureKind.TLS: 2}
    assert detail in results.examples[FailureKind.TLS].detail
    assert results.connectionFacts.tls == {}


def selfSigned(cert: str, key: str) -> None:
    """Make a certificate of no authority, for no host, and its key."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key,
         "-out", cert, "-subj", "/CN=localhost"],
        check=True, capture_output=True, timeout=LIMIT,
    )  # fmt: skip


def withKey(issued: trustme.LeafCert, path: Path) -> str:
    """Write a certificate and its key to one file."""
    issued.private_key_and_cert_chain_pem.write_to_path(str(path))
    return str(path)


@ensureDeferred
@LANES
async def test_the_reason_why_a_certificate_is_refused(
    reactor: Any, files: Files, lane: list[str], tmp_path: Path
) -> None:
    """It is OpenSSL's, because "certificate verify failed" says only that there is one."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    expired = ca.issue_cert("localhost", not_after=datetime(2020, 1, 1, tzinfo=UTC))
    key = str(tmp_path / "self.key")
    signed = str(tmp_path / "self.pem")
    selfSigned(signed, key)
    for cert, itsKey, reason in (
        (path := withKey(expired, tmp_path / "old.pem"), path, "certificate has expired"),
        (signed, key, "self-signed certificate"),
    ):
        endpoints = serverEndpoints("--tls-cert", cert, "--tls-key", itsKey)
        async with serving(reactor, *endpoints) as service:
            port = portOf(service.addresses[0])
            words = ["--ca", str(tmp_path / "ca.pem"), *lane]
            results = await ran(reactor, clientTarget(reactor, port, *words))
        assert results.examples[FailureKind.TLS].detail == (
            f"before the handshake was complete: certificate verify failed: {reason}"
        )


@ensureDeferred
@LANES
async def test_a_server_without_tls(reactor: Any, files: Files, lane: list[str]) -> None:
    """The failure says what to look at."""
    async with serving(reactor, "tcp:0:interface=127.0.0.1") as service:
        port = portOf(service.addresses[0])
        results = await ran(reactor, clientTarget(reactor, port, "--ca", files.ca, *lane))
    detail = results.examples[FailureKind.TLS].detail
    assert detail.endswith("(the server may not speak TLS)")


@ensureDeferred
async def test_a_server_that_expects_tls(reactor: Any) -> None:
    """Its alert is the first wrong byte of a client without TLS."""

    def alerts(connection: socket.socket) -> None:
        connection.recv(1)
        # handshake_failure, fatal.
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x28")

    with misbehaving(alerts) as port:
        run = EchoClientFactory(reactor, Workload(messages=(b"hello, echo",)), 1, Patience())
        results = await run.run(f"tcp:127.0.0.1:{port}")
    detail = results.examples[FailureKind.MISMATCH].detail
    assert detail.endswith("(a TLS alert came: the server may expect TLS)")


@ensureDeferred
@LANES
async def test_no_verification(reactor: Any, files: Files, lane: list[str]) -> None:
    """Any certificate will do, and the books say so."""
    endpoints = serverEndpoints("--tls-cert", files.server, "--tls-key", files.server)
    async with serving(reactor, *endpoints) as service:
        port = portOf(service.addresses[0])
        results = await ran(reactor, clientTarget(reactor, port, "--insecure", *lane))
    assert results.verdict == "ok", results.examples
    assert [session.verified for session in results.connectionFacts.tls] == [False]


@ensureDeferred
@LANES
async def test_offers_to_this_server(reactor: Any, files: Files, lane: list[str]) -> None:
    """It answers without an application protocol, and the books have none."""
    endpoints = serverEndpoints("--tls-cert", files.server, "--tls-key", files.server)
    async with serving(reactor, *endpoints) as service:
        words = ["--ca", files.ca, "--alpn", "h2,http/1.1", *lane]
        target = clientTarget(reactor, portOf(service.addresses[0]), *words)
        results = await ran(reactor, target)
    assert results.verdict == "ok", results.examples
    assert [session.alpn for session in results.connectionFacts.tls] == [None]


@ensureDeferred
@pytest.mark.parametrize(
    ("words", "verified"),
    [
        ("tls:localhost:{port}:trustRoots={trust}", True),
        ("ssl:localhost:{port}:caCertsDir={trust}:hostname=localhost", True),
        # The chain is verified, but not the name.
        ("ssl:localhost:{port}:caCertsDir={trust}", False),
        ("ssl:localhost:{port}", False),
    ],
)
@pytest.mark.parametrize("prefix", ["", "express:"])
async def test_endpoint_strings(
    reactor: Any, files: Files, tmp_path: Path, words: str, verified: bool, prefix: str
) -> None:
    """The books say whether they verify."""
    (tmp_path / "ca.pem").write_bytes(Path(files.ca).read_bytes())
    endpoints = serverEndpoints("--tls-cert", files.server, "--tls-key", files.server)
    async with serving(reactor, *endpoints) as service:
        text = prefix + words.format(port=portOf(service.addresses[0]), trust=tmp_path)
        results = await EchoClientFactory(reactor, Workload(), 1).run(text)
    assert results.verdict == "ok", results.examples
    assert [session.verified for session in results.connectionFacts.tls] == [verified]


@ensureDeferred
async def test_a_key_in_the_file_of_its_certificate(
    reactor: Any, files: Files, tmp_path: Path
) -> None:
    """Neither program needs to be told twice."""
    both = tmp_path / "both.pem"
    both.write_bytes(Path(files.key).read_bytes() + Path(files.cert).read_bytes())
    words = ["--tls-cert", files.server, "--tls-client-ca", files.ca]
    async with serving(reactor, *serverEndpoints(*words)) as service:
        port = portOf(service.addresses[0])
        mine = ["--ca", files.ca, "--cert", str(both)]
        results = await ran(reactor, clientTarget(reactor, port, *mine))
    assert results.verdict == "ok", results.examples


def test_no_key_at_all(files: Files, capsys: pytest.CaptureFixture[str]) -> None:
    """One line names the option."""
    line = refused(ServerOptions, ["--tls-cert", files.cert, "h", "7"], capsys)
    told = f"{files.cert!r} has no private key, and no file of one is given"
    assert line.startswith(f"--tls-cert: {told}")
    line = refused(ClientOptions, ["--tls", "--cert", files.cert, "h", "7"], capsys)
    assert line.startswith(f"--cert: {told}")


def test_a_certificate_without_a_name_is_one_line(tmp_path: Path) -> None:
    """The failure says it; the log of Twisted's check would say it again."""
    pem, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    selfSigned(pem, key)
    with multiecho("--tls-cert", pem, "--tls-key", key, "127.0.0.1", "0") as (_, port):
        done = client("--tls", "--ca", pem, "--quiet", "localhost", str(port), "1")
    (line,) = done.err
    assert line.endswith("the certificate is for no host: no subjectAltName")


@ensureDeferred
@LANES
@pytest.mark.parametrize("insecure", [False, True])
async def test_client_certificates(
    reactor: Any, files: Files, lane: list[str], insecure: bool
) -> None:
    """The server accepts the client's chain, and no client without it."""
    words = ["--tls-cert", files.server, "--tls-key", files.server, "--tls-client-ca", files.ca]
    trust = ["--insecure"] if insecure else ["--ca", files.ca]
    async with serving(reactor, *serverEndpoints(*words)) as service:
        port = portOf(service.addresses[0])
        mine = ["--cert", files.cert, "--key", files.key]
        accepted = await ran(reactor, clientTarget(reactor, port, *trust, *mine, *lane))
        refused = await ran(reactor, clientTarget(reactor, port, *trust, *lane))
    assert accepted.verdict == "ok", accepted.examples
    assert refused.verdict == "failed"
    assert refused.verified == 0


@ensureDeferred
async def test_a_client_of_another_authority(reactor: Any, files: Files) -> None:
    """The server refuses it."""
    words = [
        "--tls-cert", files.server, "--tls-key", files.server,
        "--tls-client-ca", files.otherCA,
    ]  # fmt: skip
    async with serving(reactor, *serverEndpoints(*words)) as service:
        port = portOf(service.addresses[0])
        mine = ["--insecure", "--cert", files.cert, "--key", files.key]
        results = await ran(reactor, clientTarget(reactor, port, *mine))
        assert service.counts().bytesIn == 0
    assert (results.verdict, results.verified) == ("failed", 0)


@contextmanager
def opensslServer(files: Files, *words: str) -> Iterator[tuple[int, list[str]]]:
    """
    Run C{openssl s_server}, which sends back what it receives on one connection.

    @return: its port, and the lines that it has printed about the handshake.
    """
    with socket.create_server(("127.0.0.1", 0)) as once:
        port = once.getsockname()[1]
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", files.server]
    process = subprocess.Popen(
        [*command, "-naccept", "1", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    lines: list[str] = []
    ready = threading.Event()

    def serve() -> None:
        for line in stdout:
            text = line.decode().rstrip("\n")
            lines.append(text)
            if text == "ACCEPT":
                ready.set()
            if text.startswith("echo"):
                stdin.write(line)
                stdin.flush()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        assert ready.wait(LIMIT)
        yield port, lines
    finally:
        process.kill()
        process.wait()
        serving.join(LIMIT)
        stdout.close()
        stdin.close()


def agreed(program: Any) -> str:
    """Return the report's line about TLS."""
    assert program.process.returncode == 0, program.out + program.err
    (line,) = [line for line in program.out if line.startswith("tls ")]
    return str(line)


def test_the_client_and_openssl(files: Files) -> None:
    """OpenSSL verifies the client's certificate, and chooses an application protocol."""
    words = ["-CAfile", files.ca, "-Verify", "2", "-verify_return_error", "-alpn", "h2"]
    with opensslServer(files, *words, "-tls1_2") as (port, _):
        done = client(
            "--tls", "--ca", files.ca, "--cert", files.cert, "--key", files.key,
            "--alpn", "http/1.1,h2", "--message", "echo me\n", "127.0.0.1", str(port), "1",
        )  # fmt: skip
        line = agreed(done)
    assert "TLSv1.2, ECDHE-" in line
    assert line.endswith(", verified, ALPN h2")


@pytest.mark.parametrize(
    ("trust", "end"), [("--ca", ", verified"), ("--insecure", ", not verified")]
)
def test_the_client_sends_the_name(files: Files, trust: str, end: str) -> None:
    """A server may choose its certificate by it, whether it is verified or not."""
    names = ["-servername", "echo.example", "-cert2", files.server, "-servername_fatal"]
    with opensslServer(files, *names) as (port, lines):
        done = client(
            "--tls", trust, *[files.ca] * (trust == "--ca"), "--sni", "echo.example",
            "--message", "echo me\n", "127.0.0.1", str(port), "1",
        )  # fmt: skip
        assert agreed(done).endswith(end)
    assert any("Switching server context" in each for each in lines)


def asked(port: int, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run C{openssl s_client}, which sends a line and waits for its end."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-quiet", "-no_ign_eof"]
    with subprocess.Popen(
        [*command, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(b"hello\n")
        process.stdin.flush()
        line = process.stdout.readline()
        process.stdin.close()
        errors = process.stderr.read()
        return subprocess.CompletedProcess(command, process.wait(LIMIT), line, errors)


@pytest.mark.parametrize("workers", [[], ["--workers", "1"]])
def test_the_server_and_openssl(files: Files, workers: list[str]) -> None:
    """Clients need a certificate."""
    words = ["--tls-cert", files.server, "--tls-key", files.server, "--tls-client-ca", files.ca]
    check = ["-CAfile", files.ca, "-verify_return_error", "-verify_hostname", "localhost"]
    mine = ["-cert", files.cert, "-key", files.key, "-cert_chain", files.cert]
    with multiecho(*workers, *words, "127.0.0.1", "0") as (server, port):
        if workers:
            server.waitFor("1 worker")
        assert asked(port, *check, *mine).stdout == b"hello\n"
        assert asked(port, *check).stdout == b""


def refused(make: Any, words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line of a command line that is bad usage."""
    with pytest.raises(SystemExit) as caught:
        make().parseOptions(words)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line.partition(": ")[2]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--ca", "a", "h", "7"], "--ca: give --tls too"),
        (["--insecure", "h", "7"], "--insecure: give --tls too"),
        (["--sni", "a", "h", "7"], "--sni: give --tls too"),
        (["--alpn", "h2", "--connect", "tls:h:7"], "--alpn: give --tls too"),
        (["--tls", "--connect", "tcp:h:7"], "--tls: give HOST PORT too"),
        (["--tls", "--cert", "/no", "h", "7"], "--cert: '/no': No such file"),
        (["--tls", "--key", "a", "h", "7"], "--key: give --cert too"),
        (["--tls", "--ca", "a", "--insecure", "h", "7"], "--ca and --insecure: without"),
        (["--tls", "--alpn", "h2,", "h", "7"], "--alpn: 'h2,' is not the name of a protocol"),
        (["--tls", "--sni", "a..b", "h", "7"], "--sni: 'a..b' is not the name of a host"),
        (["--tls", "--sni", "", "h", "7"], "--sni: '' is not the name of a host"),
        (["--tls", "--insecure", "--sni", "a..b", "h", "7"], "--sni: 'a..b' is not the name"),
        (["--tls", "a..b", "7"], "HOST: 'a..b' is not a host's name or address"),
        (["--tls", "--ca", "/nonesuch", "h", "7"], "--ca: '/nonesuch': No such file"),
        (["--tls", "--half-close", "--no-express", "h", "7"], "--half-close: over TLS, it"),
        (["-4", "-6", "h", "7"], "-4 and -6: give one of them"),
        (["-4", "--connect", "tcp:h:7"], "-4: give HOST PORT too"),
        (["-4", "::1", "7"], "-4: '::1' is not an IPv4 address"),
        (["-6", "127.0.0.1", "7"], "-6: '127.0.0.1' is not an IPv6 address"),
    ],
)
def test_bad_usage_of_the_client(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option."""
    assert refused(ClientOptions, words, capsys).startswith(line)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--tls-cert", "a", "--tls-key", "a"], "--tls-cert: give HOST PORT too"),
        (["--tls-cert", "/no", "h", "7"], "--tls-cert: '/no': No such file"),
        (["--tls-key", "a", "h", "7"], "--tls-key: give --tls-cert too"),
        (["--tls-client-ca", "a", "h", "7"], "--tls-client-ca: give --tls-cert too"),
        (["--tls-cert", "/no", "--tls-key", "a", "h", "7"], "--tls-cert: '/no': No such file"),
    ],
)
def test_bad_usage_of_the_server(
    words: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line names the option."""
    assert refused(ServerOptions, words, capsys).startswith(line)


Broken = Callable[[Files, Path], tuple[str, str]]


def _encrypted(files: Files, folder: Path) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    (folder / "key").write_bytes(key)
    return files.cert, str(folder / "key")


def _damaged(kind: bytes) -> Broken:
    def make(files: Files, folder: Path) -> tuple[str, str]:
        text = b"-----BEGIN %b-----\nAAAA\n-----END %b-----\n" % (kind, kind)
        (folder / "damaged").write_bytes(text)
        path = str(folder / "damaged")
        return (path, files.key) if kind == b"CERTIFICATE" else (files.cert, path)

    return make


BROKEN: dict[str, tuple[Broken, str]] = {
    "key: {key!r} is not the key of the certificate in {cert!r}": (
        lambda files, _: (files.cert, files.server),
        "key",
    ),
    "key: {key!r} has no private key in PEM": (lambda f, _: (f.cert, f.ca), "key"),
    "cert: {cert!r} has no certificate in PEM": (lambda f, _: (f.key, f.key), "cert"),
    "key: {key!r} is encrypted, and there is no passphrase": (_encrypted, "key"),
    "key: {key!r} has a key that cannot be read": (_damaged(b"PRIVATE KEY"), "key"),
    "cert: {cert!r} has a certificate that cannot be read": (_damaged(b"CERTIFICATE"), "cert"),
    "cert: {cert!r}: Is a directory": (lambda f, folder: (str(folder), f.key), "cert"),
}


@pytest.mark.parametrize("line", BROKEN)
def test_files_that_are_wrong(
    files: Files, tmp_path: Path, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both programs name the option and the file."""
    cert, key = BROKEN[line][0](files, tmp_path)
    text = line.format(cert=cert, key=key)
    mine = ["--tls", "--cert", cert, "--key", key, "h", "7"]
    # Characters of a path are escaped if they do not print.
    assert refused(ClientOptions, mine, capsys) == f"--{text} (see --help)"
    theirs = ["--tls-cert", cert, "--tls-key", key, "127.0.0.1", "7"]
    assert refused(ServerOptions, theirs, capsys) == f"--tls-{text} (see --help)"


def test_a_server_with_a_wrong_file_ends(files: Files) -> None:
    """One line, exit status 2, and nothing runs."""
    words = ["--tls-cert", files.cert, "--tls-key", files.server, "127.0.0.1", "0"]
    with running([*TWISTD, "multiecho", *words]) as server:
        assert server.finish() == 2
    (line,) = server.err
    assert line.startswith("multiecho: --tls-key: ")


def test_a_port_that_is_taken(files: Files) -> None:
    """The line says HOST PORT, as it does without TLS."""
    words = ["--tls-cert", files.server, "--tls-key", files.server]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with running([*TWISTD, "multiecho", *words, "127.0.0.1", port]) as server:
            assert server.finish() == 1
    (line,) = server.err
    assert line.startswith("multiecho: HOST PORT: cannot listen on ")
