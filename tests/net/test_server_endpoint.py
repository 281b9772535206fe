"""
Endpoint strings: taken apart, and with a backlog.
"""

import pytest

from echofactory.net.endpoints import argumentsOf, unbracketed, unwrapped, withBacklog
from echofactory.net.tracing import reasonText


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


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("tcp:[::1]:7", r"tcp:\:\:1:7"),
        ("tcp:7:interface=[fe80::1%eth0]", r"tcp:7:interface=fe80\:\:1%eth0"),
        ("unix:/run/[abc]/x", "unix:/run/[abc]/x"),
        ("unix:/tmp/echo[1].sock", "unix:/tmp/echo[1].sock"),
        ("ssl:7:privateKey=/etc/[dead].pem", "ssl:7:privateKey=/etc/[dead].pem"),
    ],
)
def test_addresses_in_brackets(given: str, meant: str) -> None:
    """They are taken as in a URL; the brackets of a path stay."""
    assert unbracketed(given) == meant
