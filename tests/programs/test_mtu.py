"""
A path that drops large packets and does not say so, in a network of the test's own.
"""

import os
import shutil
import subprocess

import pytest
from programs import CLIENT, SCRIPTS, environment

_NETWORK = """
set -e
ip link set lo up
nft add table inet t
nft 'add chain inet t in { type filter hook input priority 0 ; }'
nft add rule inet t in meta length '>' 1400 drop
log=$(mktemp)
"$1" -n --pidfile= multiecho --trace none --udp 127.0.0.1:7007 127.0.0.1 7007 >"$log" &
server=$!
trap 'kill $server; rm "$log"' EXIT
timeout 30 sh -c "until grep -q 'listening on udp' '$log'; do sleep 0.05; done"
shift
"$@"
"""

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ
    and (os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("unshare") is None),
    reason="takes root, and nft",
)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the client on a path that carries packets of up to 1,400 bytes."""
    return subprocess.run(
        ["unshare", "--net", "sh", "-c", _NETWORK, "sh", str(SCRIPTS / "twistd"),
         *CLIENT, *arguments],
        env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_small_messages_pass() -> None:
    """1 KiB and the headers are less than 1,400 bytes."""
    done = run("127.0.0.1", "7007", "3", "--size", "1k", "--quiet")
    assert done.returncode == 0, done.stderr


def test_large_messages_do_not() -> None:
    """Connections are established, and then nothing comes back. The report says what to do."""
    done = run("127.0.0.1", "7007", "3", "--size", "4k", "--reply-timeout", "1s")
    assert done.returncode == 1, done.stderr
    assert "3 established, 0 completed, 3 failed" in done.stdout
    assert "3 reply-timeout" in done.stdout
    assert "segments were retransmitted" in done.stdout


@pytest.mark.parametrize(("size", "status"), [(1372, 0), (1373, 1)])
def test_the_largest_datagram(size: int, status: int) -> None:
    """The headers of IPv4 and UDP have 28 bytes."""
    udp = ["--connect", "udp:127.0.0.1:7007", "-n", "1", "--reply-timeout", "1s"]
    done = run(*udp, "--size", str(size), "--quiet")
    assert done.returncode == status, done.stderr
