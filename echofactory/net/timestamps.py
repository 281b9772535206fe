"""
When the kernel received data: its timestamps of a socket (C{SO_TIMESTAMPING}, see
U{Documentation/networking/timestamping<https://docs.kernel.org/networking/timestamping.html>}).

Linux notes the time at which it took a packet from the network device, on C{CLOCK_REALTIME}.
Over TCP, a read has one timestamp: that of the last segment whose bytes are in it. If the
kernel has joined segments that arrived one after the other, they have the timestamp of the last
one. Data that is read after its successors arrived can thus look younger than it is.

The timestamp is read with C{MSG_PEEK} before the usual read, so that transports need no change,
and OpenSSL can read the socket itself. C{MSG_TRUNC} spares the copy. Data that arrives between
the two has the timestamp of what was there before, and looks older than it is.

UNIX sockets have no timestamps. Other systems than Linux have other ways.
"""

import socket
import struct
import sys
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import Any

from twisted.internet.main import CONNECTION_LOST
from twisted.protocols.policies import ProtocolWrapper

from echofactory.net.udp import ConnectedPort

# From Linux 5.1 on: the option whose times have 64 bits on every architecture.
_SO_TIMESTAMPING_NEW = 65
_RX_SOFTWARE = 1 << 3
_SOFTWARE = 1 << 4
# Three times, of which the first is that of the software. Each is of seconds and nanoseconds.
_TIMES = struct.Struct("=6q")
_SPACE = socket.CMSG_SPACE(_TIMES.size) if hasattr(socket, "CMSG_SPACE") else 0
_FLAGS = socket.MSG_PEEK | getattr(socket, "MSG_TRUNC", 0)

# The kernel does not write into it. Its size is that of the largest read.
_unused = bytearray(1 << 17)
_RECORD = 5 + (1 << 14)


def _descriptorOf(transport: Any) -> Any:
    """Return what the reactor calls when the transport's socket is readable."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def stampArrivals(transport: Any) -> bool:
    """
    Have the kernel note when data arrives from now on.

    @param transport: a connected one, with TLS or without; or a L{ConnectedPort}.
    @return: whether it does.
    """
    made = getattr(_descriptorOf(transport), "socket", None)
    if sys.platform != "linux" or not isinstance(made, socket.socket):
        return False
    if made.family not in {socket.AF_INET, socket.AF_INET6}:
        return False
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING_NEW, _RX_SOFTWARE | _SOFTWARE)
    except OSError:
        return False
    return True


def arrivalOf(control: list[tuple[int, int, bytes]]) -> int | None:
    """
    Return when data arrived, in nanoseconds of C{CLOCK_REALTIME}; C{None}: that is not known,
    because the data arrived before L{stampArrivals} was called.

    @param control: the control messages of C{recvmsg}.
    """
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING_NEW):
            seconds, ns, *_ = _TIMES.unpack(data)
            return int(seconds * 1_000_000_000 + ns) or None
    return None


class StampedReads:
    """
    Reports for each read of a connection when its data arrived, until it is told to stop.

    Meanwhile the descriptor has another C{doRead}. Other reads, and other connections, cost
    nothing more.
    """

    def __init__(self, transport: Any, came: Callable[[int | None, int], bool]) -> None:
        """
        @param transport: for which L{stampArrivals} has returned true.
        @param came: called after each read, with when the data arrived (C{CLOCK_REALTIME};
            C{None}: not known) and when the read began (C{perf_counter_ns}), both in
            nanoseconds. If it returns true, this was the last read.
        """
        self._came = came
        self._descriptor = descriptor = _descriptorOf(transport)
        if isinstance(getattr(descriptor.doRead, "__self__", None), StampedReads):
            # Somebody waits for this connection already.
            return
        usual: Callable[[], Any] = descriptor.doRead
        # What a session of TLS has set is set again afterwards. A look into the __dict__ would
        # make one, which stays.
        own = getattr(usual, "__self__", None) is descriptor
        self._set = None if own else usual
        self._doRead = usual
        self._size = len(_unused) if descriptor is transport else _RECORD
        if isinstance(descriptor, ConnectedPort):
            # The timestamp is of the first datagram.
            self._doRead = partial(descriptor.doRead, 1)
        descriptor.doRead = self._read

    def _read(self) -> Any:
        begun = perf_counter_ns()
        view = memoryview(_unused)[: self._size]
        try:
            _, control, _, _ = self._descriptor.socket.recvmsg_into([view], _SPACE, _FLAGS)
        except BlockingIOError:
            control = []
        except OSError as error:
            # The kernel reports an error only once.
            if isinstance(self._descriptor, ConnectedPort):
                self._descriptor.hear(error)
                return None
            return CONNECTION_LOST
        why = self._doRead()
        if self._came(arrivalOf(control), begun):
            self._stop()
        return why

    def _stop(self) -> None:
        # If the connection was lost, its session of TLS has removed the method.
        if self._descriptor.doRead != self._read:
            return
        if self._set is not None:
            self._descriptor.doRead = self._set
        else:
            del self._descriptor.doRead
