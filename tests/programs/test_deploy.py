"""
The server as it is installed: systemd's units, the container's command line, and
twistd's own ways to drop privileges and to run in the background.
"""

import json
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

import pytest
from programs import LIMIT, SCRIPTS, TWISTD, client, running

from echofactory.cli.parsers import parseDuration
from echofactory.cli.server import ServerOptions

ROOT = Path(__file__).parents[2]
SOCKET = ROOT / "deploy" / "echofactory.socket"
SERVICE = ROOT / "deploy" / "echofactory.service"

CI = "CI" in os.environ

ACTIVATE = """\
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[2], LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[3], sys.argv[3:])
"""


def unit(path: Path) -> RawConfigParser:
    """Read a unit, whose settings keep their names."""
    parser = RawConfigParser(delimiters=["="], interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text())
    return parser


def execStart() -> list[str]:
    """Return the service's command line, with the C{twistd} of these tests."""
    command = shlex.split(unit(SERVICE)["Service"]["ExecStart"])
    assert Path(command[0]).is_absolute()
    assert Path(command[0]).name == "twistd"
    return [str(SCRIPTS / "twistd"), *command[1:]]


def instruction(name: str) -> list[str]:
    """Return the arguments of an instruction of the Dockerfile in its exec form."""
    (text,) = re.findall(rf"^{name} (.*)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    arguments: list[str] = json.loads(text)
    return arguments


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None and not CI, reason="there is no systemd-analyze"
)
def test_the_units_are_in_order(tmp_path: Path) -> None:
    """systemd-analyze has nothing to say about them."""
    shutil.copy(SOCKET, tmp_path)
    text = SERVICE.read_text()
    installed = shlex.split(unit(SERVICE)["Service"]["ExecStart"])[0]
    # It insists that what is started exists.
    copy = tmp_path / SERVICE.name
    copy.write_text(text.replace(installed, str(SCRIPTS / "twistd")))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy), str(tmp_path / SOCKET.name)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    # Some mistakes it only tells, and ends with 0.
    assert (done.returncode, done.stderr) == (0, "")


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
    _, found, arguments = " ".join(execStart()).partition(" multiecho ")
    assert found
    options = ServerOptions()
    options.parseOptions(shlex.split(arguments))
    assert options.settings.drain < parseDuration(unit(SERVICE)["Service"]["TimeoutStopSec"])


def test_the_container_serves(tmp_path: Path) -> None:
    """The image's command line echoes, on every interface, and leaves no file."""
    command = [*instruction("ENTRYPOINT"), *instruction("CMD")]
    assert command[0] == "twistd"
    exposed = re.search(r"^EXPOSE (\d+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert exposed is not None
    assert command.count(f"tcp:{exposed[1]}") == 1
    command = [word.replace(f"tcp:{exposed[1]}", "tcp:0") for word in command[1:]]
    with running([str(SCRIPTS / "twistd"), *command], cwd=tmp_path) as program:
        port = program.waitFor(r"listening on 0\.0\.0\.0:(\d+)")[1]
        done = client("127.0.0.1", port, "20", "--half-close")
        assert done.process.returncode == 0, done.err
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
