"""
The key under which limits count a peer, and the names and addresses of the loopback
interface.
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
    Return the key under which limits count a peer.

     - IPv4: the address.
     - IPv6: the /64 network of the address. A site gets at least a /64 (RFC 6177), and can
       use every address in it.
     - IPv6 that maps IPv4: the IPv4 address.
     - Any other address, such as that of a UNIX socket: C{None}.
    """
    if isinstance(address, IPv4Address):
        return str(address.host)
    if not isinstance(address, IPv6Address):
        return None
    # The scope is not part of the key.
    parsed = IPv6(address.host.partition("%")[0])
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return str(IPv6Network((parsed, 64), strict=False))


def isLoopback(address: IAddress | None) -> bool:
    """Tell whether an IP address is a loopback address: only this machine can reach it."""
    return isinstance(address, IPv4Address | IPv6Address) and namesLoopback(
        f"[{address.host}]" if ":" in address.host else address.host
    )


def namesLoopback(host: str) -> bool:
    """
    Tell whether a C{Host} header of HTTP (RFC 9110) names the loopback interface:
    C{localhost}, an address of 127.0.0.0/8, or C{[::1]}, with or without a port. The name
    service is not asked.
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
