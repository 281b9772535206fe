"""
What is done with a stream transport of Twisted's, whatever protocol it has.
"""

from contextlib import suppress
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IConsumer,
    IPushProducer,
    ITCPTransport,
)


class IEchoTransport(ITCPTransport, IConsumer, IPushProducer):
    """What an echo asks of its transport; every stream transport of Twisted's has it."""


def turnOffNagle(transport: IEchoTransport) -> None:
    """
    Have small messages sent at once, where there is Nagle's algorithm (RFC 896)
    to hold them: a message that waits for the peer's acknowledgement waits up
    to 40 ms.
    """
    if isinstance(transport.getPeer(), IPv4Address | IPv6Address):
        # A proxy may name such a peer over a UNIX socket, which has no Nagle's algorithm.
        with suppress(OSError):
            transport.setTcpNoDelay(True)


def lowestTransport(transport: IEchoTransport) -> Any:
    """Return the transport below TLS, which has one; or itself."""
    lowest: Any = transport
    while (below := getattr(lowest, "transport", None)) is not None:
        lowest = below
    return lowest


def releaseClosing(transport: IEchoTransport) -> None:
    """
    Let go of a transport that has sent everything and is to close.

    A transport that is closing waits for its producer to finish. TLS may begin
    to close it without a word to the producer, when the peer's closing alert
    comes with the data that filled the queue; nobody would finish then, and the
    connection would be left over for ever.
    """
    if lowestTransport(transport).disconnecting:
        transport.unregisterProducer()
