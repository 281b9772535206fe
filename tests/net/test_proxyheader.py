"""
The parser of the PROXY protocol's header.
"""

import socket
import struct
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address, IPv6Address

from echofactory.net.proxyheader import LONGEST_V1, LONGEST_V2, Header, HeaderError, parseHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
IPV4 = socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.2")
IPV6 = socket.inet_pton(socket.AF_INET6, "2001:db8::1") * 2
PORTS = struct.pack("!HH", 4711, 7)


def v2(command: int, family: int, block: bytes) -> bytes:
    """Write a header of version 2; C{command} includes the version."""
    return SIGNATURE + struct.pack("!BBH", command, family, len(block)) + block


CLIENT4 = IPv4Address("TCP", "192.0.2.1", 4711)
CLIENT6 = IPv6Address("TCP", "2001:db8::1", 4711)

VALID = [
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 7\r\n", CLIENT4),
    (b"PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n",
     IPv4Address("TCP", "255.255.255.255", 65535)),
    (b"PROXY TCP6 2001:db8::1 ::1 4711 7\r\n", CLIENT6),
    (b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 ::1 4711 7\r\n", CLIENT6),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN \xff\x00 \n anything\r\n", None),
    (b"PROXY UNKNOWN " + b"f" * (LONGEST_V1 - 16) + b"\r\n", None),
    (v2(0x21, 0x11, IPV4 + PORTS), CLIENT4),
    (v2(0x21, 0x12, IPV4 + PORTS), CLIENT4),
    (v2(0x21, 0x21, IPV6 + PORTS), CLIENT6),
    (v2(0x21, 0x11, IPV4 + PORTS + b"\x04\x00\x01x"), CLIENT4),
    (v2(0x21, 0x11, (IPV4 + PORTS).ljust(LONGEST_V2 - 16)), CLIENT4),
    (v2(0x21, 0x31, bytes(216)), None),
    (v2(0x21, 0x00, b""), None),
    (v2(0x21, 0x01, b"ignored"), None),
    (v2(0x21, 0x10, IPV4 + PORTS), None),
    (v2(0x20, 0x00, b""), None),
    (v2(0x20, 0xFF, b"ignored"), None),
]  # fmt: skip

INVALID = [
    (b"no header at all", "the first bytes"),
    (b"PROXYTCP4 ", "the first bytes"),
    (b"\r\n\r\n\x00\r\nQUIX", "the first bytes"),
    (b"PROXY TCP4 " + b"1" * LONGEST_V1, "no CR LF within 107 bytes"),
    (b"PROXY UNKNOWN " + b"f" * (LONGEST_V1 - 15) + b"\r\n", "no CR LF within 107 bytes"),
    (b"PROXY \r\n", "the protocol"),
    (b"PROXY TCP5 192.0.2.1 192.0.2.2 4711 7\r\n", "the protocol"),
    (b"PROXY UNKNOWNX\r\n", "the protocol"),
    (b"PROXY TCP4\r\n", "two addresses and two ports"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n", "two addresses and two ports"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 7 \r\n", "two addresses and two ports"),
    (b"PROXY TCP4  192.0.2.1 192.0.2.2 4711 7\r\n", "two addresses and two ports"),
    (b"PROXY TCP4 a b c d\r\n", "a port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n", "a port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 07 7\r\n", "a port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 4_7 7\r\n", "a port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.2 \xd9\xa3 7\r\n", "a port"),
    (b"PROXY TCP4 192.0.2.1 192.0.2.256 4711 7\r\n", "an address is not of TCP4"),
    (b"PROXY TCP4 192.0.2.01 192.0.2.2 4711 7\r\n", "an address is not of TCP4"),
    (b"PROXY TCP4 \x1b[31m 192.0.2.2 4711 7\r\n", "an address is not of TCP4"),
    (b"PROXY TCP4 192.0.2.1\x00 192.0.2.2 4711 7\r\n", "an address is not of TCP4"),
    (b"PROXY TCP4 2001:db8::1 ::1 4711 7\r\n", "an address is not of TCP4"),
    (b"PROXY TCP6 192.0.2.1 192.0.2.2 4711 7\r\n", "an address is not of TCP6"),
    (b"PROXY TCP6 fe80::1%lo ::1 4711 7\r\n", "an address is not of TCP6"),
    (b"PROXY TCP6 \xff::1 ::1 4711 7\r\n", "an address is not of TCP6"),
    (v2(0x11, 0x11, IPV4 + PORTS), "version is 1"),
    (v2(0x22, 0x11, IPV4 + PORTS), "command is 2"),
    (v2(0x21, 0x41, IPV4 + PORTS), "family 4"),
    (v2(0x21, 0x13, IPV4 + PORTS), "protocol 3"),
    (v2(0x21, 0x11, (IPV4 + PORTS)[:-1]), "too short"),
    (v2(0x21, 0x21, IPV4 + PORTS), "too short"),
    (v2(0x20, 0x00, bytes(LONGEST_V2 - 15)), "4,097 bytes; the limit is 4,096"),
]  # fmt: skip


def parsedInSegments(segments: Iterable[bytes]) -> Header | str | None:
    """Return what comes of a stream: a header, why there is none, or C{None}."""
    began = b""
    for segment in segments:
        began += segment
        try:
            header = parseHeader(began)
        except HeaderError as error:
            return str(error)
        if header is not None:
            return header
    return None


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut bytes at the given places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(edges)]


@pytest.mark.parametrize(("header", "client"), VALID)
@pytest.mark.parametrize("after", [b"", b"\r\nhello"])
def test_valid(header: bytes, client: object, after: bytes) -> None:
    """The client that it names, if it does, and where the client's own bytes begin."""
    assert parseHeader(header + after) == Header(client, len(header))  # type: ignore[arg-type]


@pytest.mark.parametrize(("header", "_"), VALID)
def test_incomplete(header: bytes, _: object) -> None:
    """No beginning of a valid header is refused, and none is taken for a whole one."""
    assert [parseHeader(header[:size]) for size in range(len(header))] == [None] * len(header)


@pytest.mark.parametrize(("data", "why"), INVALID)
def test_invalid(data: bytes, why: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(HeaderError, match=why):
        parseHeader(data)


def test_a_host_has_one_name() -> None:
    """Both versions name the same client alike."""
    one = parseHeader(b"PROXY TCP6 2001:DB8:0:0::0001 ::1 4711 7\r\n")
    other = parseHeader(v2(0x21, 0x21, IPV6 + PORTS))
    assert one is not None
    assert other is not None
    assert one.client == other.client


_HEADERS = st.sampled_from([header for header, _ in (*VALID, *INVALID)])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a header with a few bytes altered, and something after it."""
    data = bytearray(draw(_HEADERS))
    for _ in range(draw(st.integers(0, 3))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data) + draw(st.binary(max_size=40))


STREAMS = st.one_of(
    st.binary(max_size=200),
    damaged(),
    st.binary(max_size=120).map(lambda rest: b"PROXY " + rest),
    st.binary(max_size=120).map(lambda rest: b"PROXY TCP4 " + rest + b"\r\n"),
    st.binary(max_size=300).map(lambda rest: SIGNATURE + rest),
)


@settings(deadline=None)
@given(STREAMS, st.lists(st.integers(0, 1 << 16), max_size=20))
def test_segments_do_not_matter(data: bytes, places: list[int]) -> None:
    """Whole, cut anywhere, or a byte at a time: the result is the same."""
    whole = parsedInSegments([data])
    assert parsedInSegments(cut(data, places)) == whole
    assert parsedInSegments(cut(data, range(len(data)))) == whole


@settings(deadline=None)
@given(STREAMS)
def test_whatever_comes_is_bounded(data: bytes) -> None:
    """
    Any bytes are a header, a refusal or too few. A header is within its bounds, and its
    address is one that the system knows.
    """
    result = parsedInSegments([data])
    if isinstance(result, Header):
        assert 0 < result.size <= min(len(data), LONGEST_V2)
        if result.client is not None:
            family = (
                socket.AF_INET if isinstance(result.client, IPv4Address) else socket.AF_INET6
            )
            packed = socket.inet_pton(family, result.client.host)
            assert socket.inet_ntop(family, packed) == result.client.host
            assert 0 <= result.client.port <= 0xFFFF
    elif isinstance(result, str):
        assert result.isprintable()
        assert len(result) < 100


@settings(deadline=None)
@given(st.binary(min_size=LONGEST_V1, max_size=2 * LONGEST_V1))
def test_version_1_is_decided_within_its_longest_line(rest: bytes) -> None:
    """No more bytes are waited for."""
    assert parsedInSegments([b"PROXY " + rest]) is not None
