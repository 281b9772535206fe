"""
What the commands of twistd say of a port that cannot be bound.
"""

import pytest

from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.server import ServerOptions


@pytest.mark.parametrize(
    ("words", "endpoint", "option"),
    [
        ([], "tcp:65432:interface=127.0.0.1", "--listen"),
        (["--listen", "unix:/a", "127.0.0.1", "7"], "unix:/a", "--listen"),
        (["--listen", "unix:/a", "127.0.0.1", "7"], "tcp:7:interface=127.0.0.1", "HOST PORT"),
        (["--udp", "127.0.0.1:7", "--status", "9"], "udp 127.0.0.1:7", "--udp"),
        (["--status", "9"], "tcp:9:interface=127.0.0.1", "--status"),
        (["--status", "unix:/a"], "unix:/a", "--status"),
    ],
)
def test_the_option_that_asks_for_an_endpoint(
    words: list[str], endpoint: str, option: str
) -> None:
    """One of them is named, whatever was given."""
    options = ServerOptions()
    options.parseOptions(words)
    assert options.listenOption(endpoint) == option


def test_the_monitor_listens_for_its_status_alone() -> None:
    """It has no echo."""
    options = MonitorOptions()
    options.parseOptions(["--status", "9", "127.0.0.1", "7"])
    assert options.listenOption("tcp:9:interface=127.0.0.1") == "--status"
