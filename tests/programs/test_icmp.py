"""
Connections that the network rejects, in a network of the test's own.
"""

import json
import os
import shutil
import subprocess
from typing import Any

import pytest
from programs import CLIENT
from schema import validate

_NETWORK = """
set -e
ip link set lo up
nft add table inet t
nft 'add chain inet t in {{ type filter hook input priority 0 ; }}'
nft add rule inet t in tcp dport 7 reject with {rejection}
exec "$@"
"""

pytestmark = pytest.mark.skipif(
    "CI" not in os.environ
    and (os.geteuid() != 0 or shutil.which("nft") is None or shutil.which("unshare") is None),
    reason="takes root, and nft",
)


def rejected(rejection: str, *arguments: str) -> Any:
    """Run the client where packets to port 7 are rejected; return its JSON."""
    script = _NETWORK.format(rejection=rejection)
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script, "sh", *CLIENT, *arguments, "--quiet",
         "--json", "-"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return validate(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("icmp", "kind"),
    [
        ("host-unreachable", "unreachable"),
        ("net-unreachable", "unreachable"),
        ("prot-unreachable", "unreachable"),
        ("admin-prohibited", "unreachable"),
        ("port-unreachable", "refused"),
    ],
)
def test_each_rejection_by_its_kind(icmp: str, kind: str) -> None:
    """Every connection of the run fails as the same."""
    results = rejected(f"icmp type {icmp}", "127.0.0.1", "7", "20")
    assert results["failures"] == {kind: 20}


def test_a_rejection_without_the_fast_lane() -> None:
    """It is not told as a full queue."""
    load = ["127.0.0.1", "7", "20", "--no-express"]
    results = rejected("icmp type host-unreachable", *load)
    assert results["failures"] == {"unreachable": 20}


def test_a_reset_is_a_refusal() -> None:
    """As from a port on which nobody listens."""
    assert rejected("tcp reset", "127.0.0.1", "7", "20")["failures"] == {"refused": 20}


def test_a_rejection_over_ipv6() -> None:
    """The same."""
    results = rejected("icmpv6 type no-route", "::1", "7", "20")
    assert results["failures"] == {"unreachable": 20}
