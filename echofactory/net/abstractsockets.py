"""
UNIX sockets in the abstract namespace of Linux (unix(7)). C{unix:@NAME} names one: the C{@}
stands for a null byte. Such a socket has no file, so that there is no file mode, and nothing
is left behind. A file whose name begins with C{@} is C{unix:./@NAME}.
"""

import os
import sys
from typing import Any

from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.interfaces import IStreamServerEndpoint

LONGEST_NAME = 107
"""Bytes of a name, without the null byte before it: of C{sun_path}, in C{sys/un.h}."""


def isAbstract(path: str) -> bool:
    """Tell whether the path of an endpoint string names an abstract socket."""
    return path.startswith("@")


def abstractAddress(path: str) -> str:
    """
    Return the address of an abstract socket, as the kernel has it.

    @param path: of the endpoint string, with its C{@}.
    @raise ValueError: if the system has no such sockets, or the name has no length from 1 to
        L{LONGEST_NAME}.
    """
    if sys.platform != "linux":
        raise ValueError("only Linux has abstract UNIX sockets")
    name = path.removeprefix("@")
    size = len(os.fsencode(name))
    if not 0 < size <= LONGEST_NAME:
        raise ValueError(
            f"the name of an abstract socket has 1 to {LONGEST_NAME} bytes, not {size}"
        )
    return f"\0{name}"


def abstractEndpoint(
    reactor: Any, path: str, defaultBacklog: int, *others: str, **named: str
) -> IStreamServerEndpoint:
    """
    Make the endpoint of a server.

    @param path: of the endpoint string, with its C{@}.
    @param defaultBacklog: without C{backlog=}.
    @param others: the other arguments of the string, and C{named} those with a name.
    @raise ValueError: if an argument is of a file.
    """
    backlog = int(named.pop("backlog", defaultBacklog))
    if others or named:
        raise ValueError("an abstract socket has no file: it takes only backlog=")
    endpoint: IStreamServerEndpoint = UNIXServerEndpoint(
        reactor, abstractAddress(path), backlog, wantPID=False
    )
    return endpoint
