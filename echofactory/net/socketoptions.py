"""
Options of sockets that change how the network treats a connection: the code point of
Differentiated Services (DSCP, RFC 2474) and the congestion control of TCP (RFC 5681).
"""

import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from echofactory.express.wrapper import ReactorWrapper
from echofactory.values.checks import checkType, checkWhole

DSCP_NAMES = {
    "DF": 0,
    "LE": 1,
    **{f"CS{number}": 8 * number for number in range(8)},
    **{f"AF{band}{drop}": 8 * band + 2 * drop for band in range(1, 5) for drop in range(1, 4)},
    "VA": 44,
    "EF": 46,
}
"""Code points by name (RFC 2474, 2597, 3246, 5865 and 8622)."""

_ECN_BITS = 2
"""Bits below the code point in the traffic class. The kernel sets them (RFC 3168)."""

_CONGESTION = getattr(socket, "TCP_CONGESTION", None)
_NAME_SIZE = 16
"""Bytes: C{TCP_CA_NAME_MAX} of Linux."""

_AVAILABLE = Path("/proc/sys/net/ipv4/tcp_available_congestion_control")
_ALLOWED = Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control")
_IP = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, kw_only=True)
class SocketOptions:
    """
    Options of the sockets of one program.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    dscp: int | None = None
    """The code point of all packets, from 0 to 63; C{None}, the default: the kernel's."""
    congestion: str | None = None
    """The congestion control of TCP; C{None}, the default: the kernel's."""

    def __post_init__(self) -> None:
        if self.dscp is not None:
            checkWhole("dscp", self.dscp, 0, 63)
        if self.congestion is not None:
            checkType("congestion", self.congestion, str, "a name such as 'cubic'")

    def __bool__(self) -> bool:
        """Tell whether there is an option to set."""
        return self != _NONE

    def setOn(self, handle: socket.socket) -> None:
        """
        Set the options of a socket, if it is one of IP. On Linux, accepted sockets inherit
        them from a listening socket.

        @raise OSError: if the kernel refuses an option.
        """
        if handle.family not in _IP:
            return
        if self.dscp is not None:
            value = self.dscp << _ECN_BITS
            if handle.family == socket.AF_INET6:
                handle.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, value)
                # Of the IPv4 connections, which a socket of IPv6 can have.
                with suppress(OSError):
                    handle.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, value)
            else:
                handle.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, value)
        if self.congestion is not None and handle.type == socket.SOCK_STREAM:
            if _CONGESTION is None:
                raise OSError("the system has no choice of congestion control")
            name = self.congestion.encode("ascii", "backslashreplace")
            handle.setsockopt(socket.IPPROTO_TCP, _CONGESTION, name)

    def readFrom(self, handle: socket.socket) -> "SocketOptions":
        """
        Return what the kernel has for the options that are set here.

        @raise OSError: if the socket is closed.
        """
        dscp = congestion = None
        if handle.family in _IP:
            if self.dscp is not None:
                dscp = _readDSCP(handle)
            if self.congestion is not None and handle.type == socket.SOCK_STREAM:
                assert _CONGESTION is not None
                read = handle.getsockopt(socket.IPPROTO_TCP, _CONGESTION, _NAME_SIZE)
                congestion = read.partition(b"\0")[0].decode("ascii", "backslashreplace")
        return SocketOptions(dscp=dscp, congestion=congestion)


_NONE = SocketOptions()


def _readDSCP(handle: socket.socket) -> int:
    if handle.family == socket.AF_INET6:
        return handle.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS) >> _ECN_BITS
    return handle.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) >> _ECN_BITS


def checkCongestion(name: str) -> None:
    """
    Try a congestion control on a new socket.

    @raise ValueError: if the kernel does not have it, or does not allow it. The text follows
        "is", and names those that there are.
    """
    accepted = "a congestion control that this kernel has"
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            SocketOptions(congestion=name).setOn(probe)
        return
    except PermissionError:
        accepted, listed = "a congestion control that this user may choose", _ALLOWED
    except OSError:
        listed = _AVAILABLE
    try:
        names = ", ".join(listed.read_text().split())
    except OSError:
        raise ValueError(f"not {accepted}") from None
    raise ValueError(f"not {accepted}: {names}")


class SocketOptionsReactor(ReactorWrapper):
    """
    A reactor whose TCP connections have the options from their first packet on. All other
    calls go to the reactor behind it.
    """

    def __init__(self, reactor: Any, options: SocketOptions) -> None:
        """
        @param reactor: the reactor that connects.
        @param options: of each socket.
        """
        super().__init__(reactor)
        self._options = options

    def connectTCP(self, *args: Any, **kwargs: Any) -> Any:
        """See L{IReactorTCP<twisted.internet.interfaces.IReactorTCP>}."""
        return self._withOptions(self._reactor.connectTCP(*args, **kwargs))

    def connectSSL(self, *args: Any, **kwargs: Any) -> Any:
        """See L{IReactorSSL<twisted.internet.interfaces.IReactorSSL>}."""
        return self._withOptions(self._reactor.connectSSL(*args, **kwargs))

    def _withOptions(self, connector: Any) -> Any:
        # Twisted makes the socket immediately, and connects it in the reactor's next turn. If
        # there is no descriptor, there is no socket.
        handle = getattr(connector.transport, "socket", None)
        if handle is not None:
            # What the kernel refuses is missing in what is read back.
            with suppress(OSError):
                self._options.setOn(handle)
        return connector
