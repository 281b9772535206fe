"""
What the kernel saw, beside what C{ss} says that it saw.
"""

import os
import re
import shutil
import socket
import subprocess
import sys

import pytest

from echofactory.net.tcpinfo import kernelView, parse


class Transport:
    """Has a handle, as Twisted's transports do."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle

    def getHandle(self) -> socket.socket:
        return self._handle


@pytest.mark.skipif(
    shutil.which("ss") is None and "CI" not in os.environ, reason="not installed: ss"
)
def test_beside_ss() -> None:
    """The same round-trip time, and nothing sent again, of a connection that is at rest."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as ours,
    ):
        theirs, _ = listening.accept()
        with theirs:
            for _ in range(20):
                ours.sendall(bytes(1000))
                theirs.recv(1000, socket.MSG_WAITALL)
                theirs.sendall(bytes(1000))
                ours.recv(1000, socket.MSG_WAITALL)
            view = kernelView(Transport(ours))
            said = subprocess.run(
                ["ss", "-tinH", f"sport = {ours.getsockname()[1]}"],
                capture_output=True, text=True, check=True,
            ).stdout  # fmt: skip
    assert view is not None
    match = re.search(r"\brtt:([\d.]+)/", said)
    assert match is not None, said
    assert view.rttUs / 1000 == pytest.approx(float(match[1]), abs=0.001)
    again = re.search(r"\bretrans:\d+/(\d+)", said)
    assert view.retransmits == (int(again[1]) if again else 0)
    seen = re.search(r"\breord_seen:(\d+)", said)
    assert view.reordering == (int(seen[1]) if seen else 0)


def test_where_the_kernel_does_not_say() -> None:
    """A UNIX socket, and one that is closed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert kernelView(Transport(ours)) is None
    assert kernelView(Transport(ours)) is None


def test_a_kernel_that_says_less() -> None:
    """What came later is not known; what is no tcp_info is refused."""
    info = bytearray(104)
    info[68:72] = (250).to_bytes(4, sys.byteorder)
    info[100:104] = (3).to_bytes(4, sys.byteorder)
    assert parse(bytes(info)) == (3, 0, None, 250)
    with pytest.raises(ValueError, match="103 bytes are too short for tcp_info"):
        parse(bytes(103))
