"""
Debian's haproxy and nginx in front of the server, with the PROXY protocol.

They have to be installed, as .ci/run does. Without them these tests are skipped, except
in CI.
"""

import csv
import os
import re
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from peers import Certificates
from programs import LIMIT, Program, client, multiecho, running, until

# Those of the system's administrator are not on everybody's path.
PATH = f"{os.environ['PATH']}:/usr/sbin"
STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"
MISSING = [
    *(tool for tool in ("haproxy", "nginx") if shutil.which(tool, path=PATH) is None),
    *([] if Path(STREAM_MODULE).exists() else ["nginx's stream module"]),
]
pytestmark = pytest.mark.skipif(
    bool(MISSING) and "CI" not in os.environ, reason=f"not installed: {', '.join(MISSING)}"
)

LISTEN = "haproxy:tcp:0:interface=127.0.0.1"

HAPROXY = """\
defaults
    mode tcp
    timeout connect {limit}s
    timeout client {limit}s
    timeout server {limit}s
listen echo
    bind fd@{descriptor}
    server echo 127.0.0.1:{port} {options}
"""

# A health check that asks for more than an open port.
CHECKING = """\
global
    stats socket {path}
defaults
    mode tcp
    timeout connect {limit}s
    timeout client {limit}s
    timeout server {limit}s
    timeout check {limit}s
backend echo
    option tcp-check
    tcp-check connect default
    tcp-check send hello
    tcp-check expect string hello
    server echo {server} check inter 100ms {options}
"""

NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
events {{}}
stream {{
    server {{
        listen {address};
        proxy_pass 127.0.0.1:{port};
        proxy_protocol on;
        proxy_half_close on;
    }}
}}
"""


@dataclass(frozen=True)
class Front:
    """
    What a proxy's clients connect to.

    @ivar target: a client endpoint string.
    @ivar address: as nginx writes it.
    """

    listening: socket.socket
    target: str
    address: str


@contextmanager
def front(kind: str, folder: Path) -> Iterator[Front]:
    """
    Make the listening socket of a proxy: it need not be waited for then.

    @param kind: C{tcp} or C{unix}.
    """
    if kind == "tcp":
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
            yield Front(listening, f"tcp:127.0.0.1:{port}", f"127.0.0.1:{port}")
    else:
        path = f"{folder}/front.sock"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path)
            listening.listen()
            yield Front(listening, f"unix:{path}", f"unix:{path}")


def haproxyWith(configuration: Path) -> list[str]:
    """Return the command that runs haproxy."""
    program = shutil.which("haproxy", path=PATH) or "haproxy"
    return [program, "-db", "-f", str(configuration)]


@contextmanager
def haproxy(port: int, front: Front, folder: Path, options: Sequence[str]) -> Iterator[Program]:
    """Run haproxy between a front and a server's port."""
    descriptor = front.listening.fileno()
    configuration = folder / "haproxy.cfg"
    configuration.write_text(
        HAPROXY.format(
            descriptor=descriptor, port=port, options=" ".join(options), limit=int(LIMIT)
        )
    )
    with running(haproxyWith(configuration), pass_fds=[descriptor]) as process:
        yield process


@contextmanager
def nginx(port: int, front: Front, folder: Path, _: Sequence[str]) -> Iterator[Program]:
    """Run nginx between a front and a server's port."""
    descriptor = front.listening.fileno()
    configuration = folder / "nginx.conf"
    configuration.write_text(
        NGINX.format(module=STREAM_MODULE, folder=folder, address=front.address, port=port)
    )
    program = shutil.which("nginx", path=PATH) or "nginx"
    command = [program, "-e", "stderr", "-p", str(folder), "-c", str(configuration)]
    # A new nginx takes over the sockets of an old one in this way.
    environment = {**os.environ, "NGINX": f"{descriptor};"}
    with running(command, pass_fds=[descriptor], env=environment) as process:
        try:
            yield process
        finally:
            # It ends its worker, which outlives it if it is killed.
            process.end()


Proxy = Callable[[int, Front, Path, Sequence[str]], AbstractContextManager[Program]]

PROXIES = [
    pytest.param(haproxy, ["send-proxy"], id="haproxy-v1"),
    pytest.param(haproxy, ["send-proxy-v2"], id="haproxy-v2"),
    pytest.param(
        haproxy,
        ["send-proxy-v2-ssl-cn", "proxy-v2-options", "unique-id,crc32c,authority"],
        id="haproxy-v2-long",
    ),
    pytest.param(nginx, [], id="nginx"),
]


@pytest.mark.parametrize(("proxy", "options"), PROXIES)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_through_a_proxy(proxy: Proxy, options: list[str], kind: str, folder: Path) -> None:
    """
    Every byte comes back, and the end of the stream after it. The client that is told is
    the real one; a UNIX socket in front has none, and the proxy is told.
    """
    bind = ["--bind", "127.0.0.9"] if kind == "tcp" else []
    with (
        multiecho("--listen", LISTEN) as (server, port),
        front(kind, folder) as before,
        proxy(port, before, folder, options),
    ):
        done = client("--connect", before.target, *bind, "-n", "20", "--size", "100k",
                      "--count", "3", "--half-close", "--quiet")  # fmt: skip
        assert done.process.returncode == 0, done.err
        server.end()
    hosts = re.findall(r"accepted connection from (\S+):\d+", "\n".join(server.out))
    assert hosts == ["127.0.0.9" if kind == "tcp" else "127.0.0.1"] * 20
    assert not any("refused" in line for line in server.out)


def checkStatus(path: str) -> str:
    """Ask haproxy what has come of its last health check."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT)
        connection.connect(path)
        connection.sendall(b"show stat\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    rows = csv.DictReader(answer.decode().lstrip("# ").splitlines())
    (status,) = (row["check_status"] for row in rows if row["svname"] == "echo")
    return status


@pytest.mark.parametrize("options", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_a_health_check(options: str, kind: str, folder: Path) -> None:
    """It finds that the server echoes. Over a UNIX socket it is of an unknown client."""
    ours = f"{folder}/echo.sock"
    path = f"{folder}/stats.sock"
    listen = LISTEN if kind == "tcp" else f"haproxy:unix:{ours}"
    configuration = folder / "haproxy.cfg"
    with multiecho("--listen", listen) as (server, port):
        address = f"127.0.0.1:{port}" if kind == "tcp" else f"unix@{ours}"
        configuration.write_text(
            CHECKING.format(path=path, server=address, options=options, limit=int(LIMIT))
        )
        with running(haproxyWith(configuration)) as process:
            until(lambda: Path(path).exists())
            # One of a check that is under way begins with an asterisk.
            until(lambda: checkStatus(path).lstrip("* ") not in ("INI", ""))
            assert checkStatus(path).lstrip("* ") == "L7OK", process.err
    assert not any("refused" in line for line in server.out)


def test_tls_behind_a_proxy(certificates: Certificates, folder: Path) -> None:
    """The proxy checks the server's certificate, once it has sent its header."""
    pem = certificates.pem
    listen = f"haproxy:ssl:0:interface=127.0.0.1:privateKey={pem}:certKey={pem}"
    authority = certificates.trust / "authority.pem"
    options = ["send-proxy-v2", "ssl", "verify", "required", "ca-file", str(authority)]
    with (
        multiecho("--listen", listen) as (server, port),
        front("tcp", folder) as before,
        haproxy(port, before, folder, options),
    ):
        done = client("--connect", before.target, "--bind", "127.0.0.9", "-n", "5", "--quiet")
        assert done.process.returncode == 0, done.err
        server.waitFor(r"accepted connection from 127\.0\.0\.9:")


def test_the_limit_per_host_behind_a_proxy(folder: Path) -> None:
    """It is kept for each client of the proxy."""
    with (
        multiecho("--max-per-host", "2", "--listen", LISTEN) as (_, port),
        front("tcp", folder) as before,
        haproxy(port, before, folder, ["send-proxy"]),
        ExitStack() as stack,
    ):

        def echoes(host: str) -> bool:
            connection = stack.enter_context(
                socket.create_connection(before.listening.getsockname(), LIMIT, (host, 0))
            )
            connection.sendall(b"x")
            return connection.recv(1) == b"x"

        assert [echoes("127.0.0.8") for _ in range(3)] == [True, True, False]
        assert echoes("127.0.0.9")
