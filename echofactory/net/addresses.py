"""
Which host a peer belongs to, as far as limits count; and which names and addresses
are this machine's alone.
"""

import re
from ipaddress import IPv4Address as IPv4
from ipaddress import IPv6Address as IPv6
from ipaddress import IPv6Network

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

_PORT = re.compile(r":[0-9]*\Z")


def limitKey(address: IAddress | None) -> str | None:
    """
    Return an IPv4 address as it is, and of an IPv6 address its /64: the least that a
    site is given (RFC 6177), any address of which is its to use. C{None}: it has no
    host, such as a UNIX socket's.
    """
    if isinstance(address, IPv4Address):
        return str(address.host)
    if not isinstance(address, IPv6Address):
        return None
    # Without the name of its scope.
    parsed = IPv6(address.host.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))


def isLoopback(address: IAddress | None) -> bool:
    """Tell whether an address can be reached from this machine alone, over TCP."""
    return isinstance(address, IPv4Address | IPv6Address) and namesLoopback(
        f"[{address.host}]" if ":" in address.host else address.host
    )


def namesLoopback(host: str) -> bool:
    """
    Tell whether a C{Host} header of HTTP (RFC 9110) means this machine's loopback
    interface, whatever the name service says: C{localhost}, an address of
    127.0.0.0/8, or C{[::1]}, with any port or none.
    """
    name = _PORT.sub("", host.strip().lower())
    if name == "localhost":
        return True
    try:
        if name.startswith("[") and name.endswith("]"):
            return IPv6(name[1:-1]).is_loopback
        return IPv4(name).is_loopback
    except ValueError:
        return False
