"""
Listening sockets that systemd passes to a process (sd_listen_fds(3)). An endpoint string
selects one by its index or its name. The names (C{LISTEN_FDNAMES}) are optional.
"""

import os
import socket
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.endpoints import AdoptedStreamServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint

_FIRST = 3
"""The first passed descriptor."""

_UNNAMED = "unknown"
"""The name of each socket if C{LISTEN_FDNAMES} is not set."""

_DOMAINS = ("INET", "INET6", "UNIX")


class PassedSocket(NamedTuple):
    """
    A listening socket that was passed.

    @ivar descriptor: the file descriptor, 3 or more.
    @ivar name: C{FileDescriptorName=} of its unit. Several sockets may have the same name.
    """

    descriptor: int
    name: str


def passedSockets(environment: Mapping[str, str], pid: int) -> list[PassedSocket]:
    """
    Return the sockets that were passed to this process, in order.

    @param pid: the process ID of this process. If C{LISTEN_PID} is another, the sockets are
        not for this process.
    @raise ValueError: if the number of names is not the number of sockets.
    """
    count = 0
    with suppress(ValueError):
        if int(environment.get("LISTEN_PID", "")) == pid:
            count = max(0, int(environment.get("LISTEN_FDS", "")))
    given = environment.get("LISTEN_FDNAMES")
    names = [_UNNAMED] * count if given is None else given.split(":")
    if count and len(names) != count:
        raise ValueError(
            f"LISTEN_FDNAMES has {len(names)} name{'s' * (len(names) != 1)},"
            f" but LISTEN_FDS is {count}"
        )
    return [PassedSocket(_FIRST + index, name) for index, name in enumerate(names[:count])]


def _environment() -> Mapping[str, str]:
    """Return the environment with which this process started."""
    # When Twisted is imported, it removes LISTEN_FDS from os.environ.
    try:
        entries = Path("/proc/self/environ").read_bytes().split(b"\0")
    except OSError:
        return os.environ
    pairs = (os.fsdecode(entry).partition("=") for entry in entries)
    return {name: value for name, _, value in pairs}


def chosenSocket(
    sockets: Sequence[PassedSocket], index: str | None, name: str | None
) -> PassedSocket:
    """
    Return the socket with an index or a name.

    @param index: from 0, as text; C{None}: select by name.
    @param name: C{None}: select by index.
    @raise ValueError: if no socket matches, or more than one.
    """
    if (index is None) == (name is None):
        raise ValueError("give either index= or name=")
    if not sockets:
        raise ValueError("no socket was passed to this process (LISTEN_PID, LISTEN_FDS)")
    if index is not None:
        if not 0 <= int(index) < len(sockets):
            raise ValueError(
                f"there is no socket with index {index};"
                f" the highest index is {len(sockets) - 1}"
            )
        return sockets[int(index)]
    found = [at for at, each in enumerate(sockets) if each.name == name]
    if not found:
        names = ", ".join(repr(each.name) for each in sockets)
        raise ValueError(f"no socket is named {name!r}; the names are {names}")
    if len(found) > 1:
        indexes = " or ".join(f"index={at}" for at in found)
        raise ValueError(f"{len(found)} sockets are named {name!r}: give {indexes}")
    return sockets[found[0]]


def familyOf(descriptor: int, domain: str) -> socket.AddressFamily:
    """
    Return the address family of a domain.

    @param domain: C{INET}, C{INET6} or C{UNIX}.
    @raise ValueError: if the domain is another, or if the descriptor is not a listening
        socket of that domain.
    """
    if domain not in _DOMAINS:
        raise ValueError(f"{domain!r} is not one of {', '.join(_DOMAINS)}")
    try:
        passed = socket.socket(fileno=os.dup(descriptor))
    except OSError:
        raise ValueError(f"descriptor {descriptor} is not a socket") from None
    with closing(passed):
        actual = socket.AddressFamily(passed.family).name.removeprefix("AF_")
        if actual != domain:
            raise ValueError(f"the socket has the domain {actual}, not {domain}")
        if not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            raise ValueError(f"descriptor {descriptor} is not a listening socket")
        return socket.AddressFamily(passed.family)


def passedEndpoint(
    reactor: Any, domain: str, index: str | None = None, name: str | None = None
) -> IStreamServerEndpoint:
    """
    Make the endpoint of a socket that was passed.

    @param domain: C{INET}, C{INET6} or C{UNIX}.
    @raise ValueError: if no socket matches.
    """
    sockets = passedSockets(_environment(), os.getpid())
    descriptor = chosenSocket(sockets, index, name).descriptor
    endpoint: IStreamServerEndpoint = AdoptedStreamServerEndpoint(
        reactor, descriptor, familyOf(descriptor, domain)
    )
    return endpoint
