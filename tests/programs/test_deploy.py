"""
The server and the monitor as systemd's units install them, and twistd's own ways to drop
privileges and to run in the background.
"""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from configparser import RawConfigParser
from contextlib import suppress
from grp import getgrnam
from pathlib import Path
from pwd import getpwnam
from select import select
from string import Template
from urllib.request import urlopen

import pytest
from peers import Certificates
from programs import LIMIT, SCRIPTS, TWISTD, client, running

from echofactory.cli.parsers import parseDuration
from echofactory.cli.server import ServerOptions

ROOT = Path(__file__).parents[2]
SOCKET = ROOT / "deploy" / "echofactory.socket"
SERVICE = ROOT / "deploy" / "echofactory.service"
TLS = ROOT / "deploy" / "echofactory.service.d" / "tls.conf"
STATUS = ROOT / "deploy" / "echofactory.service.d" / "status.conf"
MONITOR = ROOT / "deploy" / "echofactory-monitor.service"

CI = "CI" in os.environ

needsAnalyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not CI, reason="there is no systemd-analyze"
)

ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[2], LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


def unit(path: Path) -> RawConfigParser:
    """Read a unit, whose settings keep their names."""
    parser = RawConfigParser(delimiters=["="], interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def commandLine(command: str) -> list[str]:
    """Return a command line of a unit, with the C{twistd} of these tests."""
    program, *words = shlex.split(command)
    assert Path(program).is_absolute()
    assert Path(program).name == "twistd"
    return [str(SCRIPTS / "twistd"), *words]


def execStart(*dropIns: Path) -> list[str]:
    """Return the command line of the service. C{$LIMITS} becomes the words of its value."""
    values = dict[str, str]()
    for path in (SERVICE, *dropIns):
        for line in re.findall(r"^Environment=(.*)$", path.read_text(), re.MULTILINE):
            values |= dict(each.split("=", 1) for each in shlex.split(line))
    words = commandLine(unit(SERVICE)["Service"]["ExecStart"])
    split = [values[word[1:]].split() if word.startswith("$") else [word] for word in words]
    return [word for each in split for word in each]


def serverOptions(command: list[str]) -> ServerOptions:
    """Return the options of the server in a command line."""
    options = ServerOptions()
    options.parseOptions(command[command.index("multiecho") + 1 :])
    return options


def installed(folder: Path, *dropIns: Path) -> list[Path]:
    """Copy the units into a folder, with a C{twistd} that exists. Return the units."""
    units = [folder / path.name for path in (SOCKET, SERVICE, MONITOR)]
    copies = dict(zip((SOCKET, SERVICE, MONITOR), units, strict=True))
    for path in dropIns:
        copies[path] = folder / f"{SERVICE.name}.d" / path.name
        copies[path].parent.mkdir(exist_ok=True)
    for path, copy in copies.items():
        # systemd-analyze insists that what is started exists.
        text = path.read_text().replace("/opt/echofactory/bin/twistd", str(SCRIPTS / "twistd"))
        copy.write_text(text)
    return units


def analyzed(*words: str) -> str:
    """Run systemd-analyze, which has to succeed. Return what it says on stderr."""
    done = subprocess.run(
        ["systemd-analyze", *words],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=LIMIT,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


@needsAnalyze
@pytest.mark.parametrize("dropIns", [[], [TLS], [STATUS], [TLS, STATUS]])
def test_the_units_are_in_order(dropIns: list[Path], tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about them, with and without the drop-ins."""
    units = installed(tmp_path, *dropIns)
    # Some mistakes it only tells, and ends with 0.
    assert analyzed("verify", "--man=no", *map(str, units)) == ""


@needsAnalyze
@pytest.mark.parametrize(
    ("path", "dropIns"),
    [(SERVICE, []), (SERVICE, [TLS, STATUS]), (MONITOR, [])],
    ids=["server", "server with drop-ins", "monitor"],
)
def test_the_services_are_confined(path: Path, dropIns: list[Path], tmp_path: Path) -> None:
    """Their exposure is at most 2 of 10, and without its last lines, a unit is above that."""
    installed(tmp_path, *dropIns)
    copy = tmp_path / path.name
    security = ("security", "--offline=true", "--threshold=20", str(copy))
    analyzed(*security)
    copy.write_text(copy.read_text().partition("\nCapabilityBoundingSet=")[0])
    with pytest.raises(AssertionError):
        analyzed(*security)


@needsAnalyze
@pytest.mark.parametrize("dropIn", [TLS, STATUS], ids=["TLS", "status"])
def test_a_drop_in_starts_with_the_machine(dropIn: Path, tmp_path: Path) -> None:
    """systemd does not bind its port, so no connection to it starts the service."""
    folder = tmp_path / "etc" / "systemd" / "system"
    folder.mkdir(parents=True)
    installed(folder, dropIn)
    subprocess.run(
        ["systemctl", f"--root={tmp_path}", "enable", SERVICE.name, MONITOR.name],
        capture_output=True, timeout=LIMIT, check=True,
    )  # fmt: skip
    wanted = {path.name for path in (folder / "multi-user.target.wants").iterdir()}
    assert wanted == {SERVICE.name, MONITOR.name}


def test_the_units_serve(tmp_path: Path) -> None:
    """The service's own command line echoes on the socket's kind of socket."""
    port = unit(SOCKET)["Socket"]
    assert port["BindIPv6Only"] == "both"
    with socket.create_server(
        ("::", 0),
        family=socket.AF_INET6,
        dualstack_ipv6=True,
        backlog=int(port["Backlog"]),
    ) as listening:
        number = listening.getsockname()[1]
        descriptor = listening.fileno()
        activate = [sys.executable, "-c", ACTIVATE, str(descriptor), port["FileDescriptorName"]]
        with running([*activate, *execStart()], pass_fds=[descriptor], cwd=tmp_path) as program:
            program.waitFor(rf"listening on \[::\]:{number}")
            for host in ("127.0.0.1", "::1"):
                done = client(host, str(number), "20", "--size", "10k", "--half-close")
                assert done.process.returncode == 0, done.err
            assert program.end() == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_the_service_is_given_time_to_drain() -> None:
    """systemd waits longer than the server does."""
    drain = serverOptions(execStart()).settings.drain
    assert drain < parseDuration(unit(SERVICE)["Service"]["TimeoutStopSec"])


def test_the_service_has_limits() -> None:
    """Strangers can reach it, and nobody looks at it."""
    limits = serverOptions(execStart()).settings.limits
    assert (limits.connections, limits.perHost, limits.idle) == (10_000, 1_000, 600)


def test_the_drop_ins_add_up() -> None:
    """Each adds its own options, and the service keeps its limits."""
    options = serverOptions(execStart(STATUS))
    assert options.status == "tcp:9465:interface=127.0.0.1"
    assert options.settings == serverOptions(execStart()).settings
    both = execStart(TLS, STATUS)
    assert {*execStart(TLS), *execStart(STATUS)} == {*both}


def test_the_drop_in_serves_a_status(tmp_path: Path) -> None:
    """The metrics are there, on the loopback interface."""
    command = execStart(STATUS)
    command = ["0" if word == "9465" else word for word in command]
    given = unit(SOCKET)["Socket"]["FileDescriptorName"]
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        descriptor = listening.fileno()
        activate = [sys.executable, "-c", ACTIVATE, str(descriptor), given]
        with running([*activate, *command], pass_fds=[descriptor], cwd=tmp_path) as program:
            port = program.waitFor(r"status page on 127\.0\.0\.1:(\d+)")[1]
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as answer:
                assert b"echofactory_connections_limit 10000" in answer.read()
            assert program.end() == -signal.SIGTERM


def test_the_drop_in_serves_tls(tmp_path: Path, certificates: Certificates) -> None:
    """The drop-in's command line echoes over TLS, with the file that systemd hands over."""
    given = unit(SOCKET)["Socket"]["FileDescriptorName"]
    text = TLS.read_text()
    name = re.findall(r"^LoadCredential=([^:]+):/", text, re.MULTILINE)
    assert name == ["server.pem"]
    shutil.copy(certificates.pem, tmp_path / "server.pem")
    command = [word.replace("%d", str(tmp_path)) for word in execStart(TLS)]
    assert command[-2:] == ["::", "7008"]
    command[-1] = "0"
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listening:
        descriptor = listening.fileno()
        activate = [sys.executable, "-c", ACTIVATE, str(descriptor), given]
        with running([*activate, *command], pass_fds=[descriptor], cwd=tmp_path) as program:
            port = program.waitFor(r"listening on \[::\]:(\d+)")[1]
            done = client("localhost", port, "--tls", "--insecure", "--count", "5")
            assert done.process.returncode == 0, done.err
            done = client("::1", str(listening.getsockname()[1]), "--count", "5")
            assert done.process.returncode == 0, done.err
            assert program.end() == -signal.SIGTERM


def test_the_monitor_watches_a_path(tmp_path: Path) -> None:
    """The monitor's command line takes its target from the unit's environment."""
    service = unit(MONITOR)["Service"]
    values = dict(each.split("=", 1) for each in shlex.split(service["Environment"]))
    assert values == {"TARGET": "tcp:127.0.0.1:7007", "CONNECTIONS": "3"}
    command = [Template(word).substitute(values) for word in commandLine(service["ExecStart"])]
    with running([*TWISTD, "multiecho", "127.0.0.1", "0"]) as server:
        port = server.waitFor(r"listening on 127\.0\.0\.1:(\d+)")[1]
        ports = {"tcp:127.0.0.1:7007": f"tcp:127.0.0.1:{port}", "9466": "0"}
        assert set(ports) < set(command)
        command = [ports.get(word, word) for word in command]
        with running(command, cwd=tmp_path) as program:
            program.waitFor(r"status page on 127\.0\.0\.1:\d+")
            program.waitFor("3 of 3 connections are up")
            assert program.end() == -signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def lowPort() -> int:
    """Return a port below 1024 that is free on the loopback interface."""
    for port in range(1023, 0, -1):
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            pass
    raise AssertionError("no port below 1024 can be bound")


@pytest.mark.skipif(os.geteuid() != 0 and not CI, reason="only root can drop privileges")
def test_privileges_are_dropped() -> None:
    """--uid and --gid: a low port is bound as root and served, and left, as nobody."""
    assert os.geteuid() == 0, "this test has to run as root: run .ci/run as root"
    user = ["--uid", "nobody", "--gid", "nogroup"]
    listen = f"tcp:{lowPort()}:interface=127.0.0.1"
    with running([*TWISTD, *user, "multiecho", "--listen", listen]) as program:
        program.waitFor(r"set uid/gid \d+/\d+")
        port = program.waitFor(r"listening on 127\.0\.0\.1:(\d+)")[1]
        done = client("127.0.0.1", port, "20", "--half-close")
        assert done.process.returncode == 0, done.err
        status = dict(
            line.split(":", 1)
            for line in Path(f"/proc/{program.process.pid}/status").read_text().splitlines()
        )
        assert program.end() == -signal.SIGTERM
    nogroup = str(getgrnam("nogroup").gr_gid)
    assert status["Uid"].split() == [str(getpwnam("nobody").pw_uid)] * 4
    assert status["Gid"].split() == [nogroup] * 4
    assert set(status["Groups"].split()) <= {nogroup}
    assert int(status["CapEff"], 16) == 0
    assert any("Server Shut Down" in line for line in program.out)
    assert not any("Traceback" in line for line in program.out + program.err)


def test_a_daemon(tmp_path: Path) -> None:
    """Without -n it echoes in the background, and a stop takes its pid file away."""
    pidFile, log = tmp_path / "pid", tmp_path / "log"
    files = [f"--pidfile={pidFile}", f"--logfile={log}"]
    with running([str(SCRIPTS / "twistd"), *files, "multiecho", "127.0.0.1", "0"]) as parent:
        # It waits until the daemon has started.
        assert parent.finish() == 0, parent.err
    # Of this process from here on, whoever gets its number later.
    daemon = os.pidfd_open(int(pidFile.read_text()))
    try:
        found = re.search(r"listening on 127\.0\.0\.1:(\d+)", log.read_text())
        assert found is not None
        done = client("127.0.0.1", found[1], "20", "--half-close")
        assert done.process.returncode == 0, done.err
        signal.pidfd_send_signal(daemon, signal.SIGTERM)
        ended, _, _ = select([daemon], [], [], LIMIT)
        assert ended, log.read_text()
    finally:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(daemon, signal.SIGKILL)
        os.close(daemon)
    assert not pidFile.exists()
    assert "Server Shut Down" in log.read_text()
    assert "Traceback" not in log.read_text()
