"""
Listening sockets of TCP ports: what is done once for the socket is not done again for each
accepted connection.
"""

import socket
import sys
from typing import Any

from zope.interface import Interface

_INHERITS = sys.platform == "linux"
"""Whether accepted sockets have the options of the listening socket (tcp(7), socket(7))."""


class IPreparesListening(Interface):
    """A factory that sets the options of its connections on the listening socket."""

    def prepareListening(listening: socket.socket) -> object:
        """
        Set options, which accepted sockets inherit. The socket is not bound yet.

        @raise OSError: if an option cannot be set. The port then counts as not prepared.
        """


def providing(factory: Any, interface: Any) -> Any:
    """
    Return the factory that provides an interface: this one, or one that it wraps, as those of
    TLS and C{haproxy:} do; C{None}: there is none.
    """
    while factory is not None and not interface.providedBy(factory):
        factory = getattr(factory, "wrappedFactory", None)
    return factory


def prepare(listening: socket.socket, factory: Any) -> bool:
    """
    Let a factory set options of a new socket.

    @return: whether accepted sockets have all options that the factory wants.
    """
    preparing = providing(factory, IPreparesListening) if _INHERITS else None
    if preparing is None:
        return False
    try:
        preparing.prepareListening(listening)
    except OSError:
        return False
    return True


class _Listening(socket.socket):
    """
    A socket that knows its family and its type. C{accept} reads both, and a plain socket makes
    an enumeration's member from a number each time.
    """

    type = socket.SOCK_STREAM


class _ListeningIPv4(_Listening):
    family = socket.AF_INET


class _ListeningIPv6(_Listening):
    family = socket.AF_INET6


_KINDS = {socket.AF_INET: _ListeningIPv4, socket.AF_INET6: _ListeningIPv6}


def listeningSocket(created: socket.socket) -> socket.socket:
    """
    Return a socket that takes the place of a new stream socket, and accepts faster. It does not
    block.
    """
    kind = _KINDS.get(created.family)
    if kind is None:
        return created
    listening = kind(fileno=created.detach())
    listening.setblocking(False)
    return listening
