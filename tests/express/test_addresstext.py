"""
How an address is written.
"""

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from echofactory.express.addresstext import UNNAMED, addressText
from echofactory.net.tracing import Trace, tracedAddressText


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (IPv4Address("TCP", "127.0.0.1", 7), "127.0.0.1:7"),
        (IPv6Address("UDP", "::1", 7), "[::1]:7"),
        (IPv6Address("TCP", "fe80::1%eth0", 7), "[fe80::1%eth0]:7"),
        (UNIXAddress(b"/run/echo.sock"), "/run/echo.sock"),
        (UNIXAddress(b"/\xff/\x1b[31m"), r"/\xff/\x1b[31m"),
        (UNIXAddress(b"\0abstract"), "unix:@abstract"),
        (UNIXAddress(b""), UNNAMED),
        (UNIXAddress(None), UNNAMED),
    ],
)
def test_an_address(address: IAddress, text: str) -> None:
    """A terminal can show the text of any address; only a trace of the data differs."""
    assert addressText(address) == text
    for trace in (Trace.NONE, Trace.CONNECTIONS):
        assert tracedAddressText(address, trace) == text


def test_a_trace_of_the_data() -> None:
    """IP addresses are written as in the tutorial, UNIX sockets as everywhere."""
    assert tracedAddressText(IPv6Address("TCP", "::1", 7), Trace.DATA) == "('::1', 7)"
    assert tracedAddressText(UNIXAddress(b"/run/echo"), Trace.DATA) == "/run/echo"
