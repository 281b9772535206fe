"""
The backlog of endpoint strings.
"""

import pytest

from echofactory.listening import reasonText, withBacklog


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("tcp:80", "tcp:80:backlog=4096"),
        ("tcp:80:backlog=5", "tcp:80:backlog=5"),
        ("tcp:80:127.0.0.1:5", "tcp:80:127.0.0.1:5"),
        ("tcp6:80:5", "tcp6:80:5"),
        (r"tcp:80:interface=\:\:1", r"tcp:80:interface=\:\:1:backlog=4096"),
        ("unix:/a", "unix:/a:backlog=4096"),
        (r"unix:/a\:backlog=1", r"unix:/a\:backlog=1:backlog=4096"),
        ("ssl:443:privateKey=k", "ssl:443:privateKey=k:backlog=4096"),
        ("tls:/pems:443", "tls:/pems:443:backlog=4096"),
        ("haproxy:tcp:80", "haproxy:tcp:80:backlog=4096"),
        ("haproxy:unix:/a:backlog=9", "haproxy:unix:/a:backlog=9"),
        ("express:tcp:80", "express:tcp:80:backlog=4096"),
        ("express:haproxy:tcp:80", "express:haproxy:tcp:80:backlog=4096"),
        ("systemd:INET:index=0", "systemd:INET:index=0"),
        ("haproxy", "haproxy"),
        ("onion:80", "onion:80"),
    ],
)
def test_with_backlog(given: str, made: str) -> None:
    """Added where the type takes one and none is given, and nowhere else."""
    assert withBacklog(given) == made


def test_reason_text_is_one_line() -> None:
    """Whatever an exception says, and whatever it does not."""
    assert reasonText(ValueError("a\n b")) == "a b"
    assert reasonText(ValueError()) == "ValueError"
    assert reasonText(KeyError("x")) == "KeyError('x')"
