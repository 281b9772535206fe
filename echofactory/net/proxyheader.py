"""
The header of the PROXY protocol, versions 1 and 2: bytes in, facts out. The rules are
those of U{proxy-protocol.txt<http://www.haproxy.org/download/1.8/doc/proxy-protocol.txt>}:

 - Version 1 is a line of at most L{LONGEST_V1} bytes. Version 2 is a block that states
   its own length, at most L{LONGEST_V2} bytes.
 - C{UNKNOWN}, the command C{LOCAL}, an unspecified family and a UNIX socket name no
   client. The client is then the peer of the connection.
 - An address is an IP address and a port in their canonical form. Any other address
   makes the header invalid.
 - The result depends only on the bytes, not on the segments that carry them.
"""

import re
import socket
import struct
from typing import NamedTuple

from twisted.internet.address import IPv4Address, IPv6Address

LONGEST_V1 = 107
"""Bytes, including CR LF: the limit of the specification."""

LONGEST_V2 = 4096
"""Bytes. The specification requires at most 536. Certificates may follow the addresses."""

_V1_SIGNATURE = b"PROXY "
_V2_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_START = struct.Struct("!12sBBH")
_V2_LOCAL, _V2_PROXY = 0, 1
_V2_IPV4, _V2_IPV6, _V2_UNIX = 1, 2, 3
_UNSPECIFIED = 0
_V2_DATAGRAM = 2

_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")


class _Layout(NamedTuple):
    """The layout of a family's addresses in version 2: two addresses, then two ports."""

    family: socket.AddressFamily
    struct: struct.Struct


_LAYOUTS = {
    _V2_IPV4: _Layout(socket.AF_INET, struct.Struct("!4s4sHH")),
    _V2_IPV6: _Layout(socket.AF_INET6, struct.Struct("!16s16sHH")),
}


class HeaderError(ValueError):
    """A connection does not begin with a valid header. The message says why."""


class Header(NamedTuple):
    """
    A complete header.

    @ivar client: the client's address; C{None}: the header names no client.
    @ivar size: bytes of the header. The client's own bytes follow it.
    """

    client: IPv4Address | IPv6Address | None
    size: int


def parseHeader(data: bytes) -> Header | None:
    """
    Read a header.

    @param data: the first bytes of a connection. Bytes after the header are ignored.
    @return: C{None}: the header is not complete.
    @raise HeaderError: if the bytes are not the beginning of a valid header.
    """
    for signature, parse in ((_V1_SIGNATURE, _parseV1), (_V2_SIGNATURE, _parseV2)):
        if data.startswith(signature):
            return parse(data)
        if signature.startswith(data):
            return None
    raise HeaderError("the first bytes are not a PROXY header")


def _parseV1(data: bytes) -> Header | None:
    end = data.find(b"\r\n", 0, LONGEST_V1)
    if end < 0:
        if len(data) >= LONGEST_V1:
            raise HeaderError(f"there is no CR LF within {LONGEST_V1} bytes")
        return None
    size = end + 2
    _, protocol, *words = data[:end].split(b" ")
    if protocol == b"UNKNOWN":
        return Header(None, size)
    if protocol not in (b"TCP4", b"TCP6"):
        raise HeaderError("the protocol is not TCP4, TCP6 or UNKNOWN")
    if len(words) != 4:
        raise HeaderError("two addresses and two ports must follow the protocol")
    *hosts, clientPort, port = words
    for each in (clientPort, port):
        if not _PORT.fullmatch(each) or int(each) > 0xFFFF:
            raise HeaderError("a port is not a number from 0 to 65535")
    family = socket.AF_INET if protocol == b"TCP4" else socket.AF_INET6
    try:
        client, _ = (socket.inet_pton(family, host.decode("ascii")) for host in hosts)
    except (OSError, ValueError):
        raise HeaderError(f"an address is not of {protocol.decode()}") from None
    return Header(_address(family, client, int(clientPort)), size)


def _parseV2(data: bytes) -> Header | None:
    if len(data) < _V2_START.size:
        return None
    _, versionAndCommand, familyAndProtocol, length = _V2_START.unpack_from(data)
    version, command = divmod(versionAndCommand, 16)
    size = _V2_START.size + length
    if version != 2:
        raise HeaderError(f"its version is {version}, not 2")
    if command not in (_V2_LOCAL, _V2_PROXY):
        raise HeaderError(f"its command is {command}, not LOCAL (0) or PROXY (1)")
    if size > LONGEST_V2:
        raise HeaderError(f"its length is {size:,} bytes; the limit is {LONGEST_V2:,}")
    layout = None if command == _V2_LOCAL else _layout(*divmod(familyAndProtocol, 16))
    if layout is not None and length < layout.struct.size:
        raise HeaderError("it is too short for its addresses")
    if len(data) < size:
        return None
    if layout is None:
        return Header(None, size)
    client, _, clientPort, _ = layout.struct.unpack_from(data, _V2_START.size)
    return Header(_address(layout.family, client, clientPort), size)


def _layout(family: int, protocol: int) -> _Layout | None:
    """Return the layout of the addresses; C{None}: the header names no client."""
    if family > _V2_UNIX or protocol > _V2_DATAGRAM:
        raise HeaderError(f"its address family {family} or protocol {protocol} is unknown")
    return None if protocol == _UNSPECIFIED else _LAYOUTS.get(family)


def _address(family: socket.AddressFamily, host: bytes, port: int) -> IPv4Address | IPv6Address:
    """Return an address in the form that the system uses, so that a host has one form only."""
    kind = IPv4Address if family == socket.AF_INET else IPv6Address
    return kind("TCP", socket.inet_ntop(family, host), port)
