"""
UDP sockets: a listening socket that reports how each datagram arrived, and a connected socket
that reports ICMP errors.

The private names of Twisted that this module uses are listed in
C{tests/test_private_names.py}, with the reasons.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from typing import Any, Protocol

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, execute
from twisted.internet.error import (
    CannotListenError,
    ConnectionDone,
    MessageLengthError,
    getConnectError,
)
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

from echofactory.net.packetinfo import PKTINFO, RECVTTL, Control, PacketInfo, packetInfo
from echofactory.net.socketoptions import SocketOptions

_log = Logger()
BUFFER_SIZE = 65_536
"""Bytes: the greatest length of a datagram."""
DATAGRAMS_PER_PASS = 64
"""Datagrams that one socket reads in a pass of the reactor. Twisted's limit is 256 KiB,
which small datagrams hardly ever reach."""
RECEIVE_BUFFER_SIZE = 4 << 20
"""Bytes that the kernel is asked to buffer for a socket. The default of Linux holds some 250
small datagrams. The kernel grants up to C{net.core.rmem_max}."""

NO_ROOM = (errno.EAGAIN, errno.ENOBUFS)
"""Errors of a send that are no pending error: the system has no room for the datagram now."""

_CONTROL_SIZE = 256
"""Bytes: enough for all control messages of both address families."""


def enlargeReceiveBuffer(handle: socket.socket) -> None:
    """Ask the kernel for L{RECEIVE_BUFFER_SIZE}, so that a socket can buffer a burst."""
    # If the size is over the limit, Linux grants the limit, and other systems raise an error.
    with suppress(OSError):
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_SIZE)


class ListeningProtocol(Protocol):
    """The calls of a L{DatagramPort}."""

    def datagramReceived(
        self, datagram: bytes, addr: tuple[Any, ...], info: PacketInfo, /
    ) -> None:
        """A datagram has arrived."""


class ConnectedProtocol(Protocol):
    """The calls of a connected socket."""

    def opened(self, address: IAddress) -> None:
        """The socket is open, and sends to this address."""

    def datagramReceived(self, datagram: bytes, addr: tuple[str, int], /) -> None:
        """A datagram has arrived."""

    def connectionRefused(self) -> None:
        """An ICMP error has arrived: the port is closed."""

    def unreachable(self, error: OSError) -> None:
        """The system has no route, or an ICMP error says that the address is unreachable."""

    def doStop(self) -> None:
        """The socket is closed."""


class DatagramPort(Port):
    """
    A UDP port that reports how each datagram arrived. It reads at most
    L{DATAGRAMS_PER_PASS} datagrams in a pass of the reactor.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        address: tuple[Any, ...],
        protocol: ListeningProtocol,
        options: SocketOptions | None = None,
    ) -> None:
        """
        @param address: the local address, in the form that a socket takes. With port 0, the
            system chooses a port.
        @param options: of the socket; C{None}: the kernel's.
        """
        self._options = options or SocketOptions()
        host, number, *_ = address
        super().__init__(number, protocol, host, BUFFER_SIZE, reactor)
        self._address = address

    def createInternetSocket(self) -> socket.socket:
        """Make the socket. It has its options before it is bound, and so for every datagram."""
        made = super().createInternetSocket()
        enlargeReceiveBuffer(made)
        self._options.setOn(made)
        if sys.platform == "linux":
            # A socket of IPv6 can receive datagrams of both families.
            made.setsockopt(*PKTINFO, 1)
            made.setsockopt(*RECVTTL, 1)
            if self.addressFamily == socket.AF_INET6:
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
                made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        return made

    def _bindSocket(self) -> None:
        # Twisted's method drops the scope of a link-local address.
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
                # An error with one datagram must not stop the others.
                _log.failure("while answering a datagram")

    def write(
        self,
        datagram: bytes,
        addr: tuple[Any, ...] | None = None,
        control: Iterable[Control] = (),
    ) -> None:
        """
        Send a datagram.

        @param control: control messages for the system.
        @raise OSError: if the system does not take the datagram.
        """
        self.socket.sendmsg([datagram], control, 0, addr)


class ConnectedPort(Port):
    """
    A socket that is connected to one address. It reports ICMP errors to its protocol, and
    stays open after them. Unlike Twisted's port it does not log, because a run may open one
    port for each message.

    After a pending error was read from the socket, the reactor has to watch the socket again:
    libuv, which is below uvloop, stops watching a descriptor on which an error waits.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        handle: socket.socket,
        address: tuple[str, int],
        protocol: ConnectedProtocol,
    ) -> None:
        """
        @param handle: a connected socket. The port closes it.
        @param address: the address to which the socket is connected.
        """
        host, port, *_ = handle.getsockname()
        super().__init__(port, protocol, host, BUFFER_SIZE, reactor)
        self.socket: Any = handle
        self._connectedAddr = address

    def _bindSocket(self) -> None:
        self._realPortNumber = self.port
        self.fileno: Any = self.socket.fileno
        self.connected = True

    def doRead(self, most: int = DATAGRAMS_PER_PASS) -> None:
        """
        See L{IReadDescriptor<twisted.internet.interfaces.IReadDescriptor>}.

        @param most: datagrams to read.
        """
        for _ in range(most):
            try:
                datagram = self.socket.recv(BUFFER_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                self.hear(error)
                return
            self.protocol.datagramReceived(datagram, self._connectedAddr)

    def write(self, datagram: bytes, addr: tuple[str, int] | None = None) -> None:
        """
        Send a datagram to the address to which the socket is connected.

        @raise MessageLengthError: if this datagram is too long, or if an ICMP error says so of
            an earlier one.
        @raise OSError: if the system does not take the datagram.
        """
        try:
            self.socket.send(datagram)
        except OSError as error:
            if error.errno not in NO_ROOM:
                self._watchAgain()
            if error.errno == errno.EMSGSIZE:
                raise MessageLengthError("message too long") from error
            if error.errno != errno.ECONNREFUSED:
                raise
            self.protocol.connectionRefused()

    def hear(self, error: OSError) -> None:
        """Report a pending error of the socket."""
        self._watchAgain()
        if error.errno == errno.ECONNREFUSED:
            self.protocol.connectionRefused()
        elif error.errno != errno.EMSGSIZE:
            self.protocol.unreachable(error)

    def _watchAgain(self) -> None:
        self.stopReading()
        self.startReading()

    def connectionLost(self, reason: Failure | None = None) -> None:
        """
        Close the socket. If the reason is C{ConnectionDone}, report the pending error instead
        and stay open: a reactor gives this reason if there is an error and no data. Over UDP,
        an error does not end anything.
        """
        if reason is not None and reason.check(ConnectionDone):
            self.startReading()
            number = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            # 0: a later write has already reported the error.
            if number:
                self.hear(OSError(number, os.strerror(number)))
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
    Opens connected UDP sockets to one address. It has the interface of a stream endpoint, but
    its protocols are each a L{ConnectedProtocol}.
    """

    def __init__(
        self,
        reactor: IReactorFDSet,
        host: str,
        port: int,
        source: str | None = None,
        options: SocketOptions | None = None,
    ) -> None:
        """
        @param host: an IP address.
        @param port: from 1 to 65535.
        @param source: the local address to send from; C{None}: the system chooses.
        @param options: of each socket; C{None}: the kernel's.
        """
        self._options = options or SocketOptions()
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
                # Linux raises this error if every local port is in use.
                error = OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL))
            raise getConnectError(error) from error
        protocol = protocolFactory.buildProtocol(address)
        ConnectedPort(
            self._reactor, handle, (self._host, self._port), protocol
        ).startListening()
        protocol.opened(address)
        return protocol

    def _socket(self) -> socket.socket:
        with ExitStack() as unfit:
            while True:
                handle = self._connected()
                # A server with loop protection does not answer its own port number.
                if handle.getsockname()[1] != self._port:
                    return handle
                # The socket stays open until there is another. Otherwise the system could
                # choose the same port again.
                unfit.enter_context(handle)

    def _connected(self) -> socket.socket:
        with ExitStack() as failing:
            handle = socket.socket(self._family, socket.SOCK_DGRAM)
            failing.enter_context(handle)
            handle.setblocking(False)
            enlargeReceiveBuffer(handle)
            self._options.setOn(handle)
            if self._source is not None:
                handle.bind(_withZone(self._source, 0))
            handle.connect(_withZone(self._host, self._port))
            failing.pop_all()
            return handle


def _withZone(host: str, port: int) -> Any:
    """
    Return an address in the form that a socket takes. A zone such as C{%eth0} becomes the
    number of the link.

    @raise OSError: if there is no such link.
    """
    return socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0][-1]
