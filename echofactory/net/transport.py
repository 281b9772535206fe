"""
Functions for Twisted's stream transports that do not depend on the protocol.
"""

from contextlib import suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IConsumer,
    INegotiated,
    IPushProducer,
    ITCPTransport,
)

from echofactory.express.ports import TCPPort
from echofactory.express.tls import LaneTLS


class IEchoTransport(ITCPTransport, IConsumer, IPushProducer):
    """The interfaces that an echo needs. Every stream transport of Twisted provides them."""


def turnOffNagle(transport: IEchoTransport) -> None:
    """
    Turn off Nagle's algorithm (RFC 896) on a TCP transport. The algorithm delays a small
    message until the peer acknowledges the message before it, for up to 40 ms.
    """
    if isinstance(transport.getPeer(), IPv4Address | IPv6Address):
        # Over a UNIX socket, a proxy may name a TCP peer. Setting the option then fails.
        with suppress(OSError):
            transport.setTcpNoDelay(True)


def halfCloses(transport: IEchoTransport) -> bool:
    """
    Return whether this side can end its stream and go on receiving.

    @param transport: over TLS, the handshake is complete.
    """
    if isinstance(transport, LaneTLS):
        return transport.halfCloses()
    return not INegotiated.providedBy(transport)


def inheritsOptions(transport: IEchoTransport) -> bool:
    """
    Tell whether the transport's socket has inherited its options from the listening socket, on
    which the factory has set them.
    """
    port = getattr(lowestTransport(transport), "server", None)
    return isinstance(port, TCPPort) and port.prepared


def lowestTransport(transport: IEchoTransport) -> Any:
    """Return the transport below TLS; without TLS, the transport itself."""
    lowest: Any = transport
    while (below := getattr(lowest, "transport", None)) is not None:
        lowest = below
    return lowest


def releaseClosing(transport: IEchoTransport) -> None:
    """
    Unregister the producer of a transport that is closing.

    A closing transport waits for its producer to finish. If the peer's closing alert arrives
    with the data that filled the queue, TLS starts to close the transport, but does not tell
    the producer. The connection would then stay open for ever.
    """
    if lowestTransport(transport).disconnecting:
        transport.unregisterProducer()
