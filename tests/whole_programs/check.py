"""
Programs that know nothing of the lane, on C{--reactor=express}: C{make programs} runs this in
an environment that has only the wheel and the programs.

Each check compares the bytes that a program sends over the lane, and sees that all TCP
connections of the program are there.
"""

import hashlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import trustme
from programs import LIMIT, SCRIPTS, TWISTD, Program, running
from transports import Transports

TRIED = Path(__file__).parent / "tried"
"""The programs."""

EXPRESS = [*TWISTD, "--reactor=express"]

INSTALLING = [
    sys.executable, "-c",
    "import runpy, sys; from echofactory.express import install; install(); del sys.argv[0];"
    " runpy.run_path(sys.argv[0], run_name='__main__')",
]  # fmt: skip
"""Runs a program that has no option for its reactor."""

LOCAL = "tcp:0:interface=127.0.0.1"


def finished(command: Sequence[str], folder: Path, transports: Transports) -> str:
    """Run a program to its end; return what it prints."""
    done = subprocess.run(
        command, cwd=folder, env=transports.environment, text=True, timeout=LIMIT, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


@contextmanager
def twistd(folder: Path, transports: Transports, *words: str) -> Iterator[tuple[Program, int]]:
    """Run a command of twistd until it listens, and end it in order."""
    command = [*EXPRESS, *words]
    with running(command, cwd=folder, env=transports.environment) as program:
        # A port of TLS prints another name before the word.
        yield program, int(program.waitFor(r"(?<!\(TLS\)) starting on (\d+)")[1])
        assert program.end() == -signal.SIGTERM
        assert not [line for line in program.out if "Traceback" in line], program.out


def test_klein_and_treq(tmp_path: Path) -> None:
    """A Klein site and a treq client, over HTTP and HTTPS."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    pem = tmp_path / "server.pem"
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(pem))
    site = Transports(tmp_path, TRIED)
    (tmp_path / "client").mkdir()
    client = Transports(tmp_path / "client")
    client.environment["SSL_CERT_FILE"] = str(tmp_path / "authority.pem")
    listen = ["--listen", LOCAL, "--listen", f"ssl:0:interface=127.0.0.1:privateKey={pem}"]
    web = ["web", *listen, "--class=klein_site.resource"]
    with twistd(tmp_path, site, *web) as (program, plain):
        secure = program.waitFor(r"\(TLS\) starting on (\d+)")[1]
        addresses = [f"http://127.0.0.1:{plain}/echo", f"https://localhost:{secure}/echo"]
        posted = finished(
            [*INSTALLING, str(TRIED / "treq_posts.py"), *addresses], tmp_path, client
        )
    assert posted == f"same bytes: {2 * 1_101_001}\n"
    assert site.onTheLane() == client.onTheLane() >= 2


def test_autobahn(tmp_path: Path) -> None:
    """A WebSocket server and a client."""
    transports = Transports(tmp_path)
    command = [*INSTALLING, str(TRIED / "websocket_echo.py")]
    server = [*command, "server"]
    with running(server, cwd=tmp_path, env=transports.environment) as program:
        port = program.waitFor(r"listening on (\d+)")[1]
        assert finished([*command, "client", port], tmp_path, transports).endswith(
            "clean end: True 1000 0\n"
        )
        program.end()
    assert transports.onTheLane() == 2


def test_scrapy(tmp_path: Path) -> None:
    """A spider visits a site of linked pages."""
    pages = {}
    (tmp_path / "site").mkdir()
    for number in range(40):
        links = [(2 * number + 1) % 40, (2 * number + 2) % 40]
        text = "".join(f'<a href="{link}.html">{link}</a>' for link in links)
        text += random.Random(number).randbytes(5000 * number).hex()
        (tmp_path / "site" / f"{number}.html").write_text(text)
        pages[number] = hashlib.sha256(text.encode()).hexdigest()
    site, spider = Transports(tmp_path / "site"), Transports(tmp_path)
    web = ["web", "--listen", LOCAL, "--path", str(tmp_path / "site")]
    with twistd(tmp_path, site, *web) as (_, port):
        scrapy = [
            str(SCRIPTS / "scrapy"), "runspider", str(TRIED / "spider.py"),
            "-a", f"site=http://127.0.0.1:{port}/0.html", "-O", "pages.json",
            "-s", "TWISTED_REACTOR=echofactory.express.epoll.ExpressEPollReactor",
        ]  # fmt: skip
        finished(scrapy, tmp_path, spider)
    seen = {}
    for item in json.loads((tmp_path / "pages.json").read_text()):
        match = re.search(r"/(\d+)\.html", item["page"])
        assert match is not None
        seen[int(match[1])] = item["digest"]
    assert seen == pages
    assert spider.onTheLane() >= 1
    assert site.onTheLane() >= 1


@contextmanager
def killed(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill a process if it outlives the test."""
    try:
        yield
    finally:
        process.kill()


@pytest.fixture
def ssh(tmp_path: Path) -> list[str]:
    """OpenSSH's client, which logs in with a password and knows no host."""
    options = [
        "StrictHostKeyChecking=no", f"UserKnownHostsFile={tmp_path / 'hosts'}",
        "PreferredAuthentications=password", "NumberOfPasswordPrompts=1", "LogLevel=ERROR",
    ]  # fmt: skip
    return ["ssh", "-F", "none", *(word for each in options for word in ("-o", each))]


@pytest.fixture
def password(tmp_path: Path) -> dict[str, str]:
    """The environment in which OpenSSH's client finds the password."""
    asks = tmp_path / "asks"
    asks.write_text("#!/bin/sh\necho secret\n")
    asks.chmod(0o700)
    return {**os.environ, "SSH_ASKPASS": str(asks), "SSH_ASKPASS_REQUIRE": "force"}


CONCH = ["test_conch", "test_endpoints", "test_forwarding", "test_ssh"]


def test_twisteds_own_tests_of_conch(tmp_path: Path) -> None:
    """They log in to a Conch server with OpenSSH's client, and forward ports."""
    modules = [f"twisted.conch.test.{each}" for each in CONCH]
    trial = [sys.executable, "-m", "twisted.trial", "--reactor=express"]
    done = subprocess.run(
        [*trial, *modules],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(r"PASSED \((?:skips=\d+, )?successes=(\d+)\)", last)
    assert match is not None, done.stdout[-3000:]
    assert int(match[1]) > 90


def test_conch(tmp_path: Path, ssh: list[str], password: dict[str, str]) -> None:
    """OpenSSH's client logs in and runs a command."""
    user = subprocess.run(
        ["id", "-un"], capture_output=True, text=True, check=True
    ).stdout.strip()
    (tmp_path / "passwords").write_text(f"{user}:secret\n")
    keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f"]
    subprocess.run([*keygen, str(tmp_path / "ssh_host_ed25519_key")], check=True)
    transports = Transports(tmp_path)
    # Conch starts the command without a shell of its own. Its child warns on stdout if the user
    # is root.
    transports.environment["PYTHONWARNINGS"] = "ignore"
    conch = ["conch", "--port", LOCAL, "--data", str(tmp_path)]
    conch += ["--auth", f"file:{tmp_path / 'passwords'}"]
    sent = random.Random(1).randbytes(1_000_000)
    with twistd(tmp_path, transports, *conch) as (_, port):
        done = subprocess.run(
            [*ssh, "-T", "-p", str(port), f"{user}@127.0.0.1", "cat"],
            input=sent, env=password, capture_output=True, timeout=LIMIT, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == sent
    assert transports.onTheLane() == 1


LINE = b"print(''.join(map(str, range(3000))))"
ANSWER = "".join(map(str, range(3000))).encode()


@pytest.fixture
def manhole(tmp_path: Path) -> list[str]:
    """The command line, without its port."""
    (tmp_path / "passwords").write_text("admin:secret\n")
    return ["manhole", "--passwd", str(tmp_path / "passwords"), "--sshKeyDir", str(tmp_path)]


ACCEPTED = {b"\xfb": b"\xfd", b"\xfc": b"\xfe", b"\xfd": b"\xfb", b"\xfe": b"\xfc"}
"""Telnet's WILL, WONT, DO and DONT, each with the answer that accepts it (RFC 854)."""


class Telnet:
    """A client that accepts every option."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._seen = b""

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def after(self, prompt: bytes, answer: bytes) -> None:
        """Wait for a prompt, and send the answer."""
        while prompt not in self._seen:
            received = self._socket.recv(65536)
            assert received, self._seen
            # The server waits for the answers. It sends each request in one piece.
            for verb, option in re.findall(b"\xff([\xfb-\xfe])(.)", received, re.DOTALL):
                self._socket.sendall(b"\xff" + ACCEPTED[verb] + option)
            self._seen += received
        self._seen = self._seen.partition(prompt)[2]
        self._socket.sendall(answer)


def test_manhole_by_telnet(tmp_path: Path, manhole: list[str]) -> None:
    """A login and a line of Python."""
    transports = Transports(tmp_path)
    with (
        twistd(tmp_path, transports, *manhole, "--telnetPort", LOCAL) as (_, port),
        closing(Telnet(port)) as telnet,
    ):
        telnet.after(b"Username: ", b"admin\r\n")
        telnet.after(b"Password: ", b"secret\r\n")
        telnet.after(b">>> ", LINE + b"\r\n")
        telnet.after(ANSWER, b"\x04")
        telnet.after(b"\r\n", b"")
    assert transports.onTheLane() == 1


def test_manhole_by_ssh(
    tmp_path: Path, manhole: list[str], ssh: list[str], password: dict[str, str]
) -> None:
    """OpenSSH's client logs in and types a line of Python."""
    transports = Transports(tmp_path)
    manhole += ["--sshKeySize", "2048", "--sshPort", LOCAL]
    with (
        twistd(tmp_path, transports, *manhole) as (_, port),
        subprocess.Popen(
            [*ssh, "-tt", "-p", str(port), "admin@127.0.0.1"],
            env=password, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        ) as client,
        killed(client),
    ):  # fmt: skip
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(LINE + b"\r")
        seen = b""
        while ANSWER not in seen:
            received = client.stdout.read(65536)
            assert received, seen
            seen += received
        client.stdin.write(b"\x04")
        # Manhole sends no exit status.
        assert client.wait(LIMIT) == 255
    assert transports.onTheLane() == 1
