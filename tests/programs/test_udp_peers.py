"""
The echo over UDP, with peers that nobody here wrote.
"""

import os
import shutil
import signal

import pytest
from datagrams import datagramSocket, echoingOverUDP, measured
from programs import running

pytestmark = pytest.mark.reactors

needsSocat = pytest.mark.skipif(
    shutil.which("socat") is None and "CI" not in os.environ, reason="not installed: socat"
)


@needsSocat
def test_socat_asks() -> None:
    """The server answers it."""
    with echoingOverUDP() as (_, port):
        command = ["socat", "SYSTEM:echo hello; cat >&2", f"UDP:127.0.0.1:{port}"]
        with running(command) as asking:
            asking.waitFor("^hello$", asking.err)


@needsSocat
def test_socat_answers() -> None:
    """The client is content with it: a process for each of its sockets."""
    with datagramSocket() as once:
        port = once.getsockname()[1]
    command = ["socat", "-d", "-d", f"UDP-LISTEN:{port},bind=127.0.0.1,fork", "PIPE"]
    # Of its own, so that the processes it forks can be ended too.
    with running(command, start_new_session=True) as serving:
        try:
            serving.waitFor("listening on UDP", serving.err)
            done, results = measured(
                "--connect",
                f"udp:127.0.0.1:{port}",
                "-n",
                "1",
                "--size",
                "512",
                "--count",
                "20",
            )
        finally:
            os.killpg(serving.process.pid, signal.SIGKILL)
    assert done.process.returncode == 0, done.err
    assert results["messages"]["verified"] == 20
