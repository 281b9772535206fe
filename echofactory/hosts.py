"""
Which host a peer belongs to, as far as limits count.
"""

from ipaddress import IPv6Address as IPv6
from ipaddress import IPv6Network

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress


def hostOf(address: IAddress | None) -> str | None:
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
