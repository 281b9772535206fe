"""
Endpoint strings: taken apart, and with a backlog.
"""

import pytest

from echofactory.listening import argumentsOf, unwrapped, withBacklog
from echofactory.trace import reasonText


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
        ("unix:/a:backlog=9", "unix:/a:backlog=9"),
        ("onion:80", "onion:80"),
    ],
)
def test_with_backlog(given: str, made: str) -> None:
    """Added where the type takes one and none is given, and nowhere else."""
    assert withBacklog(given) == made


@pytest.mark.parametrize(
    ("given", "wrappers", "inner"),
    [
        ("tcp:80", [], "tcp:80"),
        ("haproxy:tcp:80", ["haproxy"], "tcp:80"),
        ("express:HAProxy:unix:/a", ["express", "haproxy"], "unix:/a"),
        ("haproxy:express:haproxy:tcp:80", ["haproxy", "express", "haproxy"], "tcp:80"),
        ("haproxy", ["haproxy"], ""),
        (r"tcp:80:interface=haproxy", [], "tcp:80:interface=haproxy"),
    ],
)
def test_unwrapped(given: str, wrappers: list[str], inner: str) -> None:
    """The prefixes, in order and in lower case, and what they stand before."""
    assert unwrapped(given) == (wrappers, inner)


@pytest.mark.parametrize(
    ("given", "positional", "named"),
    [
        ("systemd:INET:index=0", ["systemd", "INET"], {"index": "0"}),
        (r"a:b\:c:d=e=f:g\==h\\", ["a", "b:c"], {"d": "e=f", "g=": "h\\"}),
        ("", [""], {}),
    ],
)
def test_arguments(given: str, positional: list[str], named: dict[str, str]) -> None:
    """As Twisted takes them apart: a backslash takes the meaning of the character after it."""
    assert argumentsOf(given) == (positional, named)


def test_reason_text_is_one_line() -> None:
    """Whatever an exception says, and whatever it does not."""
    assert reasonText(ValueError("a\n b")) == "a b"
    assert reasonText(ValueError()) == "ValueError"
    assert reasonText(KeyError("x")) == "KeyError('x')"
