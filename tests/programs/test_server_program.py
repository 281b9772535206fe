"""
C{twistd multiecho} and C{twist multiecho} as processes.
"""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from selectors import EVENT_WRITE, DefaultSelector

import pytest
from programs import (
    CLIENT,
    LIMIT,
    SCRIPTS,
    TWISTD,
    Program,
    client,
    connected,
    echoes,
    environment,
    multiecho,
    multiechoMain,
    residentBytes,
    running,
    serves,
    until,
)

from echofactory import __version__
from echofactory.cli.server import ServerOptions


def failing(*arguments: str) -> Program:
    """Run a server that is to end by itself."""
    with running([*TWISTD, "multiecho", *arguments]) as program:
        program.finish()
    return program


def test_plugin_is_listed() -> None:
    """twistd --help and twist --help show the command."""
    for name in ("twistd", "twist"):
        done = subprocess.run(
            [SCRIPTS / name, "--help"],
            capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        assert re.search(r"^ +multiecho +An echo server", done.stdout, re.MULTILINE)


def test_the_transcript() -> None:
    """
    The tutorial's job by two processes: the lines of both, in the tutorial's
    order, with Twisted's prefix before the server's.
    """
    with multiecho("--trace", "data", "127.0.0.1", "0") as (server, port):
        done = client("127.0.0.1", str(port), "1", "--trace", "data", "--quiet")
        server.waitFor("closing connection to")
        assert server.end() == -signal.SIGTERM
    assert done.process.returncode == 0

    both = "b'Message 1 from client.Message 2 from client.'"
    assert done.out == [
        f"starting connection 1 to ('127.0.0.1', {port})",
        "sending b'Message 1 from client.' to connection 1",
        "sending b'Message 2 from client.' to connection 1",
        f"received {both} from connection 1",
        "closing connection 1",
    ]
    told = [
        match[1]
        for line in server.out
        if (match := re.search(r"\[echofactory\.\S+\] (.*)", line))
    ]
    match = re.search(r"\('127\.0\.0\.1', \d+\)$", told[1])
    assert match is not None
    peer = match[0]
    assert told == [
        f"listening on ('127.0.0.1', {port})",
        f"accepted connection from {peer}",
        f"echoing {both} to {peer}",
        f"closing connection to {peer}",
    ]


def test_ipv6_with_brackets() -> None:
    """Both ends take an address as it stands in a URL."""
    with multiecho("[::1]", "0") as (_, port):
        done = client("[::1]", str(port), "--trace", "connections")
    assert done.process.returncode == 0
    assert done.out[0] == f"starting connection 1 to [::1]:{port}"


def test_trace_levels() -> None:
    """none tells of no connection, connections of no byte."""
    for level, told in (("none", 0), ("connections", 2)):
        with multiecho("--trace", level, "127.0.0.1", "0") as (server, port):
            assert serves(port, 1)
            if told:
                server.waitFor("closing connection to")
            server.end()
        lines = [line for line in server.out if "connection" in line]
        assert len(lines) == told
        assert not any("echoing" in line for line in lines)


def test_a_taken_port() -> None:
    """One line on stderr, exit 1, no traceback, and no pid file left."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        done = failing("--listen", f"tcp:{port}:interface=127.0.0.1")
    assert done.process.returncode == 1
    assert done.err == [
        f"multiecho: --listen: cannot listen on tcp:{port}:interface=127.0.0.1:"
        " Address already in use"
    ]
    assert not any("Traceback" in line for line in done.out)


def test_a_taken_port_leaves_no_pid_file(tmp_path: Path) -> None:
    """Nor anything else of the process."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        command = [str(SCRIPTS / "twistd"), "-n", "multiecho", "127.0.0.1", str(port)]
        with running(command, cwd=tmp_path) as program:
            assert program.finish() == 1
    assert not (tmp_path / "twistd.pid").exists()


def test_a_taken_port_as_a_daemon(tmp_path: Path) -> None:
    """The parent that waits for the daemon says why there is none, and so does the log."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        words = [f"--logfile={tmp_path}/log", "multiecho", "127.0.0.1", str(port)]
        command = [str(SCRIPTS / "twistd"), *words]
        with running(command, cwd=tmp_path) as program:
            assert program.finish() == 1
    # twistd's parent reads but 100 bytes of it.
    assert f"cannot listen on tcp:{port}" in program.err[0]
    assert "Address already in use" in (tmp_path / "log").read_text()
    # The daemon removes it after the parent has ended.
    until(lambda: not (tmp_path / "twistd.pid").exists())


def test_twist_runs_it_too() -> None:
    """The newer runner starts services another way, and is served as well."""
    twist = [str(SCRIPTS / "twist"), "--log-format=text", "multiecho", "127.0.0.1"]
    with running([*twist, "0"]) as server:
        port = server.waitFor(r"listening on 127.0.0.1:(\d+)")[1]
        assert serves(int(port))
        with running([*twist, port]) as second:
            assert second.finish() == 1
        (line,) = second.err
        assert line.startswith(f"multiecho: HOST PORT: cannot listen on tcp:{port}")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["127.0.0.1"], "give HOST and PORT, such as 127.0.0.1 7007, or neither"),
        (["7007"], "give HOST and PORT, such as 127.0.0.1 7007, or neither"),
        (["a b", "7007"], "HOST: 'a b' is not a host's name or address"),
        (["--listen", "udp:a:7"], "--listen: for UDP, give --udp HOST:PORT"),
        (["--listen", "tcp:65536"], "--listen: tcp:65536: port 65536 is not from 0 to 65535"),
        (
            ["--listen", "7007"],
            "--listen: 7007: '7007' is not an endpoint type, such as 'tcp'. To",
        ),
        (["", "7007"], "HOST: '' is not a host's name or address"),
        (["127.0.0.1", "99999"], "PORT: '99999' is not a port number from 0 to 65535"),
        (
            ["--listen", "nonsense"],
            "--listen: nonsense: 'nonsense' is not an endpoint type, such as 'tcp'",
        ),
        (["--listen", "tcp"], "--listen: tcp: 'port' is missing"),
        (["--listen", "tcp:x"], "--listen: tcp:x: 'x' is not a number"),
        (["--listen", "tcp:7:a=b"], "--listen: tcp:7:a=b: there is no argument 'a'"),
        (["--listen", "tcp:7:a:b:c"], "--listen: tcp:7:a:b:c: too many arguments"),
        (["--status", "127.0.0.1:7"], "--status: 127.0.0.1:7: '127.0.0.1' is not an endpoint"),
        (
            ["--listen", "ssl:0:privateKey=/none"],
            "--listen: ssl:0:privateKey=/none: '/none': No such file or directory",
        ),
        (["--trace", "all"], "--trace: 'all' is not one of none, connections, data"),
        (["--drain", "-1"], "--drain: '-1' is not a duration such as"),
        (["--max-connections", "0"], "--max-connections: '0' is not 1 or more"),
        (["--nonsense"], "option --nonsense not recognized"),
    ],
)
def test_bad_usage(refusal: Callable[..., str], arguments: list[str], line: str) -> None:
    """One line that names the option, the value and what is accepted; exit 2."""
    assert refusal(multiechoMain, *arguments).startswith(f"multiecho: {line}")


def test_bad_usage_of_the_process() -> None:
    """The same, and no traceback in its log."""
    done = failing("--listen", "tcp:x")
    assert done.process.returncode == 2
    assert not any("Traceback" in each for each in done.out)
    assert done.err == ["multiecho: --listen: tcp:x: 'x' is not a number"]


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    """Help has every option and three examples."""
    text = str(ServerOptions())
    for option in (
        "listen", "trace", "drain", "max-connections", "fault", "fault-seed", "version",
    ):  # fmt: skip
        assert f"--{option}" in text
    assert text.count("  twistd -n multiecho") == 3
    with pytest.raises(SystemExit) as caught:
        ServerOptions().parseOptions(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.startswith(f"echofactory {__version__} ")


def test_another_reactor() -> None:
    """The plugin leaves the choice of the reactor to twistd."""
    command = [*TWISTD, "--reactor=asyncio", "multiecho", "127.0.0.1", "0"]
    with running(command) as server:
        server.waitFor("AsyncioSelectorReactor")
        port = server.waitFor(r"listening on 127.0.0.1:(\d+)")[1]
        assert client("127.0.0.1", port, "10", "--half-close").process.returncode == 0


def test_drain_and_cut() -> None:
    """A stop says how many connections it cut; a client there says so too."""
    with multiecho("--trace", "none", "--drain", "100ms", "127.0.0.1", "0") as (server, port):
        workload = ["--size", "64", "--count", "999999999"]
        progress = ["--progress", "always", "--interval", "100ms"]
        with running([*CLIENT, "127.0.0.1", str(port), "3", *workload, *progress]) as loading:
            # Those are accepted before the next one is.
            loading.waitFor(" 3 open ", loading.err)
            with connected(port) as idle:
                assert echoes(idle)
                assert server.end() == -signal.SIGTERM
            assert loading.finish() == 1
    aborted = server.waitFor(r"aborted 4 connections still open after (\d+\.\d) s")
    assert float(aborted[1]) >= 0.1
    assert any("3 failed" in line for line in loading.out)


def test_a_stop_under_load() -> None:
    """A peer that reads within the drain gets every byte that was received; none is cut."""
    with multiecho("--trace", "none", "--drain", "1h", "127.0.0.1", "0") as (server, port):
        load = ["20", "--size", "10k", "--window", "8", "--count", "800", "--interval",
                "50ms", "--progress", "always"]  # fmt: skip
        with running([*CLIENT, "127.0.0.1", str(port), *load]) as loading:
            loading.waitFor(r" 20 open +[1-9]", loading.err)
            assert server.end() == -signal.SIGTERM
            assert loading.finish() == 0, loading.err
    assert any("waiting up to 3600 s for 20 open connections" in line for line in server.out)
    assert not any("cut" in line for line in server.out)


def test_max_connections() -> None:
    """One more than the limit is refused at once; the limit itself is served."""
    with (
        multiecho("--max-connections", "1", "127.0.0.1", "0") as (server, port),
        connected(port) as first,
    ):
        assert echoes(first)
        with connected(port) as second:
            assert second.recv(1) == b""
        server.waitFor(
            r"refused 1 connection \(connection limit reached: 1\), the first from .*;"
            r" 1 connection open"
        )
        assert echoes(first)


def deafConnection(port: int) -> socket.socket:
    """Return a connection that was served once, with the smallest of buffers."""
    connection = socket.socket()
    # So that the kernel does not take the 16 MiB on its own account.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    connection.settimeout(LIMIT)
    connection.connect(("127.0.0.1", port))
    connection.sendall(b"x")
    assert connection.recv(1) == b"x"
    connection.setblocking(False)
    return connection


def test_readers_that_never_read() -> None:
    """
    100 connections push up to 16 MiB each and read nothing: the server takes
    what its bounded buffers hold, and grows by less than 40 MiB.
    """
    chunk = bytes(1 << 16)
    with (
        multiecho("--trace", "none", "--drain", "0", "127.0.0.1", "0") as (server, port),
        ExitStack() as stack,
        DefaultSelector() as selector,
    ):
        pushed: dict[socket.socket, int] = {}
        for _ in range(100):
            connection = stack.enter_context(deafConnection(port))
            selector.register(connection, EVENT_WRITE, connection)
            pushed[connection] = 0
        before = residentBytes(server.process.pid)
        # Until no connection has taken a byte for a second.
        while ready := selector.select(1.0):
            for key, _ in ready:
                connection = key.data
                pushed[connection] += connection.send(chunk)
                if pushed[connection] >= 16 << 20:
                    selector.unregister(connection)
        grown = residentBytes(server.process.pid) - before
        assert max(pushed.values()) < 16 << 20
        assert grown < 40 << 20, f"{grown / (1 << 20):.1f} MiB"
        # And another peer is served all the same.
        assert serves(port)


def test_the_tac_example() -> None:
    """The echo beside a web site, in one application: both answer, both stop."""
    example = Path(__file__).parents[2] / "examples" / "echo_and_web.tac"
    variables = environment(ECHO="tcp:0:interface=127.0.0.1", WEB="tcp:0:interface=127.0.0.1")
    with running([*TWISTD, "-y", str(example)], env=variables) as program:
        port = program.waitFor(r"listening on 127.0.0.1:(\d+)")[1]
        web = program.waitFor(r"Site starting on (\d+)")[1]
        assert serves(int(port), 10)
        with socket.create_connection(("127.0.0.1", int(web)), timeout=LIMIT) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            page = b"".join(iter(lambda: connection.recv(65536), b""))
        assert b" 200 OK\r\n" in page
        assert b"10 connections so far" in page
        assert program.end() == -signal.SIGTERM


def test_the_demo(tmp_path: Path) -> None:
    """The README's first command does the main job and leaves nothing behind."""
    demo = Path(__file__).parents[2] / "examples" / "demo.sh"
    variables = environment(PATH=f"{SCRIPTS}:{os.environ['PATH']}")
    with running(["sh", str(demo), "0"], env=variables, cwd=tmp_path) as program:
        assert program.finish() == 0, program.err
    assert any("100,000 verified" in line for line in program.out)
    assert program.out[-1] == "verdict        ok: every byte came back"
    assert list(tmp_path.iterdir()) == []


def test_the_demo_interrupted(tmp_path: Path) -> None:
    """Ctrl-C ends the server too."""
    demo = Path(__file__).parents[2] / "examples" / "demo.sh"
    variables = environment(PATH=f"{SCRIPTS}:{os.environ['PATH']}")
    command = ["sh", str(demo), "0"]
    with running(command, env=variables, cwd=tmp_path, start_new_session=True) as program:
        port = int(program.waitFor(r"server: .* (\d+)$")[1])
        # As a terminal does: to all of them.
        os.killpg(program.process.pid, signal.SIGINT)
        assert program.finish() == 130
    with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        pass
