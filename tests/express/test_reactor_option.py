"""
C{--reactor=express}: whole programs that know nothing of the lane run on it.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from peers import Certificates
from programs import LIMIT, SUPPORT, TWISTD, python, running, serves
from transports import Transports

# Those that use the reactor of the process. Their number is that of Twisted 26.10, which is the
# oldest and the newest.
OWN_TESTS = [
    "twisted.internet.test.test_endpoints",
    "twisted.test.test_amp",
    "twisted.test.test_internet",
    "twisted.test.test_process",
    "twisted.test.test_ssl",
    "twisted.test.test_stdio",
    "twisted.test.test_tcp",
    "twisted.test.test_threads",
    "twisted.test.test_udp",
    "twisted.test.test_unix",
]


@pytest.mark.parametrize(
    ("modules", "least"),
    [
        (OWN_TESTS, 600),
        # Apart from the others, because it walks over all objects, and plugins that the others
        # load may not bear that.
        (["twisted.protocols.test.test_tls"], 50),
        (["reactor_conformance"], 280),
    ],
    ids=["of the process", "of TLS", "of each reactor"],
)
def test_twisteds_own_tests_with_it_as_the_reactor(
    tmp_path: Path, modules: list[str], least: int
) -> None:
    """All of them pass, except those that L{reactor_conformance} lists with the reasons."""
    done = subprocess.run(
        [sys.executable, "-m", "twisted.trial", "--reactor=express",
         "--temp-directory", str(tmp_path / "trial"), *modules],
        cwd=SUPPORT, capture_output=True, text=True, timeout=4 * LIMIT, check=False,
    )  # fmt: skip
    last = done.stdout.splitlines()[-1]
    match = re.fullmatch(r"PASSED \((?:skips=\d+, )?successes=(\d+)\)", last)
    assert match is not None, done.stdout[-3000:]
    assert int(match[1]) > least


@pytest.mark.parametrize("runner", ["twistd", "twist"])
def test_a_web_server(tmp_path: Path, runner: str) -> None:
    """Its connections are on the lane, and it stops in order."""
    (tmp_path / "index.html").write_text("hello")
    start = {
        "twistd": [*TWISTD, "--reactor=express"],
        "twist": [sys.executable, "-m", "twisted", "--reactor=express", "--log-format=text"],
    }[runner]
    web = ["web", "--listen", "tcp:0:interface=127.0.0.1", "--path", str(tmp_path)]
    with running([*start, *web], cwd=tmp_path) as program:
        port = program.waitFor(r"Site starting on (\d+)")[1]
        with socket.create_connection(("127.0.0.1", int(port)), timeout=LIMIT) as connection:
            connection.sendall(b"GET /index.html HTTP/1.0\r\n\r\n")
            page = b"".join(iter(lambda: connection.recv(65536), b""))
        assert page.endswith(b"hello")
        assert program.end() == -signal.SIGTERM


@pytest.mark.skipif(
    shutil.which("curl") is None and "CI" not in os.environ, reason="not installed: curl"
)
def test_curl(tmp_path: Path, certificates: Certificates) -> None:
    """curl reads files of C{twistd web}, over HTTP and HTTPS, on the lane alone."""
    transports = Transports(tmp_path)
    authority = certificates.trust / "authority.pem"
    site = tmp_path / "site"
    site.mkdir()
    contents = {size: os.urandom(size) for size in (0, 1, 100_000, 3_000_000)}
    for size, content in contents.items():
        (site / f"{size}.bin").write_bytes(content)
    web = [
        "web", "--path", str(site), "--listen", "tcp:0:interface=127.0.0.1",
        "--listen", f"ssl:0:interface=127.0.0.1:privateKey={certificates.pem}",
    ]  # fmt: skip
    command = [*TWISTD, "--reactor=express", *web]
    with running(command, cwd=tmp_path, env=transports.environment) as program:
        plain = program.waitFor(r"Site starting on (\d+)")[1]
        secure = program.waitFor(r"\(TLS\) starting on (\d+)")[1]
        for address in (f"http://127.0.0.1:{plain}", f"https://localhost:{secure}"):
            # One connection for all files.
            done = subprocess.run(
                ["curl", "-fsS", "--noproxy", "*", "--cacert", str(authority),
                 *(f"{address}/{size}.bin" for size in contents)],
                capture_output=True, timeout=LIMIT, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            assert done.stdout == b"".join(contents.values())
        assert program.end() == -signal.SIGTERM
    assert transports.onTheLane() == 2


def test_where_the_connections_are() -> None:
    """Both ends have a transport of the lane, though the program asks for no lane."""
    code = """
from echofactory.express import install
install()
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, ClientFactory
from echofactory import onExpress

class Tells(Protocol):
    def connectionMade(self):
        print(type(self.transport).__module__, flush=True)
        self.transport.loseConnection()

port = reactor.listenTCP(0, Factory.forProtocol(Tells), interface="127.0.0.1")
client = ClientFactory.forProtocol(Tells)
client.clientConnectionLost = lambda *_: reactor.callLater(0.1, reactor.stop)
reactor.connectTCP("127.0.0.1", port.getHost().port, client)
assert onExpress(reactor) is onExpress(onExpress(reactor))
reactor.run()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["echofactory.express.transports"] * 2


def test_where_the_connections_of_our_own_service_are() -> None:
    """On the lane too, though its endpoint strings ask for no lane."""
    code = """
from echofactory.express import install
install()
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from echofactory import Echo, EchoFactory, EchoService, Workload, probe

class Tells(Echo):
    def connectionMade(self):
        super().connectionMade()
        print(type(self.transport).__module__, flush=True)

async def run():
    factory = EchoFactory()
    factory.protocol = Tells
    service = EchoService(reactor, ["tcp:0:interface=127.0.0.1"], factory)
    service.startService()
    results = await probe(
        reactor, f"tcp:127.0.0.1:{service.addresses[0].port}", Workload(), connections=1
    )
    print(results.verdict, flush=True)
    await service.stopService()

reactor.callWhenRunning(
    lambda: Deferred.fromCoroutine(run()).addBoth(lambda _: reactor.stop())
)
reactor.run()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["echofactory.express.transports", "ok"]


def test_the_log_context() -> None:
    """The C{system} of what a protocol logs is that of the lane."""
    code = """
from echofactory.express import install
install()
from twisted.internet import reactor
from twisted.internet.protocol import Factory, Protocol, ClientFactory
from twisted.python import log

class Logs(Protocol):
    def connectionMade(self):
        self.transport.write(b"x")

    def dataReceived(self, data):
        log.msg("received")
        self.transport.loseConnection()

def observe(event):
    if event["message"] == ("received",):
        print(event["system"], flush=True)

log.addObserver(observe)
port = reactor.listenTCP(0, Factory.forProtocol(Logs), interface="127.0.0.1")
client = ClientFactory.forProtocol(Logs)
client.clientConnectionLost = lambda *_: reactor.stop()
reactor.connectTCP("127.0.0.1", port.getHost().port, client)
reactor.run()
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {"express"}


def test_a_second_reactor() -> None:
    """It is refused in Twisted's words."""
    code = "from twisted.internet import reactor; import echofactory.express as e; e.install()"
    done = python(code)
    assert "ReactorAlreadyInstalledError" in done.stderr


@pytest.mark.parametrize("workers", [[], ["--workers", "2"]])
def test_the_echo(workers: list[str]) -> None:
    """The programs of this package run on it too."""
    listen = ["--listen", "tcp:0:interface=127.0.0.1", "--trace", "none", *workers]
    with running([*TWISTD, "--reactor=express", "multiecho", *listen]) as program:
        port = program.waitFor(r"listening on 127\.0\.0\.1:(\d+)")[1]
        assert serves(int(port), 10)
        assert program.end() == -signal.SIGTERM
