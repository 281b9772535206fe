"""
How a log line, a report and the status page write an address.
"""

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

UNNAMED = "an unnamed UNIX socket"
"""The text of a UNIX socket that is not bound to a path: most clients are not."""


def hostPortText(host: str, port: int) -> str:
    """Write a host and a port: C{127.0.0.1:7}, C{[::1]:7}."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def addressText(address: IAddress | None) -> str:
    """
    Write an address: C{127.0.0.1:7}, C{[::1]:7}, the path of a UNIX socket, or C{unix:@name}
    if the socket is abstract. Characters of a path that are not printable are escaped.
    """
    if isinstance(address, IPv4Address | IPv6Address):
        return hostPortText(address.host, address.port)
    if isinstance(address, UNIXAddress):
        name = address.name or b""
        if name.startswith(b"\0"):
            # The abstract namespace of Linux (unix(7)).
            name = b"unix:@" + name[1:]
        path = name.decode("utf-8", "backslashreplace")
        return "".join(map(_escaped, path)) or UNNAMED
    return str(address)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode("ascii")
