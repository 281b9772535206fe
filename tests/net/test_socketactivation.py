"""
Listening sockets that another process has made, and passes as systemd does.
"""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from programs import TWISTD, Program, client, running

from echofactory.net.socketactivation import PassedSocket, chosenSocket, familyOf, passedSockets

PASS = """\
import os, sys
descriptors = sys.argv[1].split(",")
for place, descriptor in enumerate(descriptors, 3):
    os.dup2(int(descriptor), place)
os.environ.update(LISTEN_FDS=str(len(descriptors)), LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"""


@contextmanager
def passedTo(
    listen: str, *sockets: socket.socket, names: str | None = None
) -> Iterator[Program]:
    """Run a server that is passed the sockets, from descriptor 3 on."""
    # Out of the way of where they are going to be.
    passed = [os.dup(each.fileno()) for each in sockets]
    while any(descriptor < 10 for descriptor in passed):
        passed += [os.dup(descriptor) for descriptor in passed]
    environment = {**os.environ} if names is None else {**os.environ, "LISTEN_FDNAMES": names}
    command = [sys.executable, "-c", PASS, ",".join(map(str, passed[-len(sockets) :]))]
    try:
        with running(
            [*command, *TWISTD, "multiecho", "--listen", listen],
            pass_fds=passed,
            env=environment,
        ) as program:
            yield program
    finally:
        for descriptor in passed:
            os.close(descriptor)


@pytest.mark.parametrize(
    ("names", "which"),
    [("echo", "name=echo"), ("echo", "index=0"), (None, "index=0"), (None, "name=unknown")],
)
def test_tcp(names: str | None, which: str) -> None:
    """A socket is served by its name or index, whether or not names are passed."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with passedTo(f"systemd:INET:{which}", listening, names=names) as program:
            program.waitFor(rf"listening on 127\.0\.0\.1:{port}")
            done = client("127.0.0.1", str(port), "20", "--size", "10k", "--half-close")
            assert done.process.returncode == 0, done.err
            assert program.end(signal.SIGTERM) == -signal.SIGTERM


def test_unix(folder: Path) -> None:
    """The same, of a UNIX socket that is not the first."""
    path = f"{folder}/echo.sock"
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        socket.socket(socket.AF_UNIX) as listening,
    ):
        listening.bind(path)
        listening.listen()
        with passedTo(
            "systemd:UNIX:name=echo", other, listening, names="other:echo"
        ) as program:
            program.waitFor("listening on")
            done = client("--connect", f"unix:{path}", "-n", "20", "--half-close")
            assert done.process.returncode == 0, done.err


def test_one_line_says_what_is_wrong() -> None:
    """It names the option, the endpoint and what there is; exit 2."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        passedTo("systemd:INET:name=web", listening, names="echo") as program,
    ):
        assert program.finish() == 2
    assert program.err == [
        "multiecho: --listen: systemd:INET:name=web:"
        " no socket is named 'web'; the names are 'echo'"
    ]


PASSED = {"LISTEN_PID": "7", "LISTEN_FDS": "2"}
BOTH = [PassedSocket(3, "unknown"), PassedSocket(4, "unknown")]


@pytest.mark.parametrize(
    ("changed", "sockets"),
    [
        ({}, BOTH),
        ({"LISTEN_FDNAMES": "a:b"}, [PassedSocket(3, "a"), PassedSocket(4, "b")]),
        ({"LISTEN_PID": "8"}, []),
        ({"LISTEN_PID": "x"}, []),
        ({"LISTEN_FDS": "x"}, []),
        ({"LISTEN_FDS": "-1"}, []),
        ({"LISTEN_FDS": "0"}, []),
        ({"LISTEN_PID": "8", "LISTEN_FDNAMES": "a"}, []),
    ],
)
def test_what_is_passed(changed: dict[str, str], sockets: list[PassedSocket]) -> None:
    """The descriptors from 3 on, if they are meant for this process."""
    assert passedSockets(PASSED | changed, 7) == sockets


def test_names_that_do_not_fit() -> None:
    """Whose they are cannot be known."""
    with pytest.raises(ValueError, match="LISTEN_FDNAMES has 1 name, but LISTEN_FDS is 2"):
        passedSockets({**PASSED, "LISTEN_FDNAMES": "a"}, 7)


@pytest.mark.parametrize(
    ("index", "name", "why"),
    [
        (None, None, "give either index= or name="),
        ("0", "a", "give either index= or name="),
        ("3", None, "there is no socket with index 3; the highest index is 2"),
        ("-1", None, "there is no socket with index -1; the highest index is 2"),
        ("x", None, "invalid literal for int"),
        (None, "c", "no socket is named 'c'; the names are 'a', 'b', 'b'"),
        (None, "b", "2 sockets are named 'b': give index=1 or index=2"),
    ],
)
def test_no_such_socket(index: str | None, name: str | None, why: str) -> None:
    """The message says what there is."""
    sockets = [PassedSocket(3, "a"), PassedSocket(4, "b"), PassedSocket(5, "b")]
    with pytest.raises(ValueError, match=f"^{why}"):
        chosenSocket(sockets, index, name)


def test_no_socket_at_all() -> None:
    """The message names the variables that say so."""
    with pytest.raises(ValueError, match=r"no socket was passed .*LISTEN_PID, LISTEN_FDS"):
        chosenSocket([], "0", None)


@pytest.mark.parametrize(
    ("make", "domain", "why"),
    [
        (
            lambda: socket.create_server(("127.0.0.1", 0)),
            "INET6",
            "the socket has the domain INET, not",
        ),
        (lambda: socket.create_server(("127.0.0.1", 0)), "INTE", "'INTE' is not one of INET"),
        (socket.socket, "INET", r"descriptor \d+ is not a listening socket"),
        (Path(os.devnull).open, "INET", r"descriptor \d+ is not a socket"),
    ],
)
def test_another_kind_of_descriptor(make: Any, domain: str, why: str) -> None:
    """It is refused: the addresses of its peers would be read wrongly."""
    with make() as opened, pytest.raises(ValueError, match=why):
        familyOf(opened.fileno(), domain)
