"""
Sockets of UDP: a listening one, which says how each datagram came, and a connected one,
which hears of ICMP errors.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import CannotListenError, ConnectionDone, getConnectError
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IReactorFDSet,
    IStreamClientEndpoint,
)
from twisted.internet.udp import Port
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()
BUFFER_SIZE = 65_536
"""Bytes: no datagram is longer."""
DATAGRAMS_PER_PASS = 64
"""Datagrams that one socket reads before others have their turn. Twisted reads 256 KiB,
which small ones never come to."""
RECEIVE_BUFFER_SIZE = 4 << 20
"""Bytes, asked of the kernel for datagrams that wait to be read. Its own choice holds
some 250 small ones; it grants up to C{net.core.rmem_max}."""

FAR_HOP_LIMIT = 194
"""Hop limit of every other answer. Hosts begin with 64, 128 or 255, so that after up to 60
hops, nothing but such an answer arrives with 131 to 194."""
NEAR_HOP_LIMIT = 64
"""Hop limit of the other half. It reaches no host that is 64 hops away, or more."""

MAPPED_PREFIX = bytes(10) + b"\xff\xff"
"""Of an IPv6 address that stands for one of IPv4 (RFC 4291, section 2.5.5.2)."""

# Linux's; Python has no names for some of them yet. The first two hold the
# interface, this machine's address for an answer, and the one that was sent to.
_PKTINFO = (socket.IPPROTO_IP, 8)
_INFO = struct.Struct("=I4s4s")
_PKTINFO_6 = (socket.IPPROTO_IPV6, socket.IPV6_PKTINFO)
_INFO_6 = struct.Struct("=16sI")
_TTL = (socket.IPPROTO_IP, socket.IP_TTL)
_RECVTTL = (socket.IPPROTO_IP, 12)
_HOPLIMIT = (socket.IPPROTO_IPV6, socket.IPV6_HOPLIMIT)
_HOPS = struct.Struct("=i")
_CONTROL_SIZE = 256
"""Bytes: room for all that is asked for, of both families."""

Control = tuple[int, int, bytes]
"""A control message of a socket: its level, its type, and its data."""


def enlargeReceiveBuffer(handle: socket.socket) -> None:
    """Have a socket hold the datagrams that come in a burst, as many as it may."""
    # Linux grants less without a word; others grant nothing.
    with suppress(OSError):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_SIZE)


class PacketInfo(NamedTuple):
    """
    How a datagram came.

    @ivar toMany: whether it was sent to a broadcast or multicast address.
    @ivar hopLimit: how many it might have gone through still.
    @ivar replyControl: control messages that send an answer from the address that was asked,
        with a hop limit of L{NEAR_HOP_LIMIT}; and the same with L{FAR_HOP_LIMIT}.
    """

    toMany: bool = False
    hopLimit: int | None = None
    replyControl: tuple[tuple[Control, ...], tuple[Control, ...]] = ((), ())


NO_PACKET_INFO = PacketInfo()
"""Where the system does not tell."""


@lru_cache(maxsize=1024)
def packetInfo(*control: Control) -> PacketInfo:
    """Read what the system tells with a datagram."""
    toMany = False
    hops = None
    back: list[Control] = []
    near: list[Control] = []
    far: list[Control] = []
    for level, kind, value in control:
        if (level, kind) == _PKTINFO:
            # What this machine would answer a broadcast from is another address.
            _, local, to = _INFO.unpack(value)
            toMany |= local != to
            back.append((level, kind, _INFO.pack(0, local, bytes(4))))
        elif (level, kind) == _PKTINFO_6 and not value.startswith(MAPPED_PREFIX):
            to, interface = _INFO_6.unpack(value)
            toMany |= to[0] == 0xFF
            # By whatever way; but an address of a link is one only on that link.
            linkLocal = to[0] == 0xFE and to[1] & 0xC0 == 0x80
            back.append((level, kind, _INFO_6.pack(to, interface if linkLocal else 0)))
        elif (level, kind) in (_TTL, _HOPLIMIT):
            (hops,) = _HOPS.unpack(value)
            near.append((level, kind, _HOPS.pack(NEAR_HOP_LIMIT)))
            far.append((level, kind, _HOPS.pack(FAR_HOP_LIMIT)))
    return PacketInfo(toMany, hops, ((*back, *near), (*back, *far)))


class ListeningProtocol(Protocol):
    """What a L{DatagramPort} tells."""

    def datagramReceived(
        self, datagram: bytes, addr: tuple[Any, ...], info: PacketInfo, /
    ) -> None:
        """A datagram has come."""


class ConnectedProtocol(Protocol):
    """What a connected socket tells."""

    def opened(self, address: IAddress) -> None:
        """The socket is there, and sends to this address."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int], /) -> None:
        """A datagram has come."""

    def connectionRefused(self) -> None:
        """There is an ICMP error for what was sent: the port is closed."""

    def unreachable(self, error: OSError) -> None:
        """The system says that there is no way there."""

    def doStop(self) -> None:
        """The socket is closed."""


class DatagramPort(Port):
    """
    A UDP port that says how each datagram came, and reads
    L{DATAGRAMS_PER_PASS} at most before others have their turn.
    """

    def __init__(
        self, reactor: IReactorFDSet, address: tuple[Any, ...], protocol: ListeningProtocol
    ) -> None:
        """
        @param address: this machine's, as a socket takes it; port 0 has the system
            choose.
        """
        host, number, *_ = address
        super().__init__(number, protocol, host, BUFFER_SIZE, reactor)
        self._address = address

    def createInternetSocket(self) -> socket.socket:
        """Make the socket; before it is bound, so that nothing comes without its way."""
        made = super().createInternetSocket()
        enlargeReceiveBuffer(made)
        if sys.platform == "linux":
            # A socket of IPv6 may have both.
            made.setsockopt(*_PKTINFO, 1)
            made.setsockopt(*_RECVTTL, 1)
            if self.addressFamily == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        return made

    def _bindSocket(self) -> None:
        # Twisted's leaves out which link an address is one of.
        made = self.createInternetSocket()
        try:
            made.bind(self._address)
        except OSError as error:
            made.close()
            raise CannotListenError(self.interface, self.port, error) from error
        self.socket: Any = made
        self.fileno: Any = made.fileno
        self._realPortNumber = made.getsockname()[1]
        self.connected = True

    def doRead(self) -> None:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        for _ in range(DATAGRAMS_PER_PASS):
            try:
                datagram, control, _, addr = self.socket.recvmsg(BUFFER_SIZE, _CONTROL_SIZE)
            except (BlockingIOError, ConnectionRefusedError):
                return
            try:
                self.protocol.datagramReceived(datagram, addr, packetInfo(*control))
            except Exception:
                # One datagram's fault is not the others'.
                _log.failure("while a datagram was answered")

    def write(
        self,
        datagram: bytes,
        addr: tuple[Any, ...] | None = None,
        control: Iterable[Control] = (),
    ) -> None:
        """
        Send a datagram.

        @param control: what to tell the system of it.
        @raise OSError: if it does not take it.
        """
        self.socket.sendmsg([datagram], control, 0, addr)


class _ConnectedPort(Port):
    """
    A socket that talks to one address. It tells its protocol of the errors that ICMP
    brings, and goes on after those that cost a datagram and no more. Unlike Twisted's
    it logs nothing: a run may have one for each message.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        handle: socket.socket,
        address: tuple[str, int],
        protocol: ConnectedProtocol,
    ) -> None:
        """
        @param handle: connected; it becomes this port's.
        @param address: what to.
        """
        host, port, *_ = handle.getsockname()
        super().__init__(port, protocol, host, BUFFER_SIZE, reactor)
        self.socket: Any = handle
        self._connectedAddr = address

    def _bindSocket(self) -> None:
        self._realPortNumber = self.port
        self.fileno: Any = self.socket.fileno
        self.connected = True

    def doRead(self) -> None:
        """See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}."""
        for _ in range(DATAGRAMS_PER_PASS):
            try:
                datagram = self.socket.recv(BUFFER_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self._hear(error)
                return
            self.protocol.datagramReceived(datagram, self._connectedAddr)

    def _hear(self, error: OSError) -> None:
        """Learn of an error that the system keeps for the next call."""
        if error.errno == errno.ECONNREFUSED:
            self.protocol.connectionRefused()
        elif error.errno != errno.EMSGSIZE:
            self.protocol.unreachable(error)

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Close; unless a reactor says that it is over because there is an error and
        nothing to read. Over UDP that is no end.
        """
        if reason is not None and reason.check(ConnectionDone):
            self.startReading()
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # 0: what was written since has met it.
            if number:
                self._hear(OSError(number, os.strerror(number)))
            return
        FileDescriptor.connectionLost(self, reason)
        self.protocol.doStop()
        self.socket.close()
        del self.socket, self.fileno
        if hasattr(self, "d"):
            self.d.callback(None)


@implementer(IStreamClientEndpoint)
class DatagramEndpoint:
    """
    What opens the sockets to one address. No stream comes of it, but it is asked for
    one in the same way, and gives a L{ConnectedProtocol} its socket.
    """

    def __init__(
        self, reactor: IReactorFDSet, host: str, port: int, source: str | None = None
    ) -> None:
        """
        @param host: an IP address.
        @param source: this machine's address to send from; C{None}: the system chooses.
        """
        self._reactor = reactor
        self._host = host
        self._port = port
        self._source = source
        self._family = socket.AF_INET6 if ":" in host else socket.AF_INET

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        return execute(self._open, protocolFactory)

    def _open(self, protocolFactory: Any) -> Any:
        address = (IPv6Address if ":" in self._host else IPv4Address)(
            "UDP", self._host, self._port
        )
        try:
            handle = self._socket()
        except OSError as error:
            if error.errno in {errno.EAGAIN, errno.EADDRINUSE}:
                # What Linux says when every port is taken.
                error = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            raise getConnectError(error) from error
        protocol = protocolFactory.buildProtocol(address)
        _ConnectedPort(
            self._reactor, handle, (self._host, self._port), protocol
        ).startListening()
        protocol.opened(address)
        return protocol

    def _socket(self) -> socket.socket:
        with ExitStack() as unfit:
            while True:
                handle = self._connected()
                # An echo that guards itself against loops does not answer its own port.
                if handle.getsockname()[1] != self._port:
                    return handle
                # Kept until there is another, or the system might choose it again.
                unfit.enter_context(handle)

    def _connected(self) -> socket.socket:
        with ExitStack() as failing:
            handle = socket.socket(self._family, socket.SOCK_DGRAM)
            failing.enter_context(handle)
            handle.setblocking(False)
            enlargeReceiveBuffer(handle)
            if self._source is not None:
                handle.bind(_withZone(self._source, 0))
            handle.connect(_withZone(self._host, self._port))
            failing.pop_all()
            return handle


def _withZone(host: str, port: int) -> Any:
    """
    Return an address as a socket takes it: with the number of the link that C{%eth0}
    names.

    @raise OSError: if there is no such link.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][-1]
