"""
What carries a connection, for the books: the address at its other end, its TLS session and the
options of its socket.
"""

from contextlib import suppress
from typing import Any

from OpenSSL.SSL import VERIFY_PEER, Connection
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

from echofactory.client.target import Destination
from echofactory.express.addresstext import hostPortText
from echofactory.net.transport import lowestTransport
from echofactory.results.connectionfacts import ConnectionFacts, SocketFacts, TLSFacts
from echofactory.values.printable import printable


def noteConnection(
    facts: ConnectionFacts, destination: Destination, transport: Any, peer: IAddress | None
) -> None:
    """
    Count an established connection. With TLS, the handshake is complete.

    @param facts: count it.
    @param destination: where the connection goes.
    @param peer: the address at the other end.
    """
    if isinstance(peer, IPv4Address | IPv6Address):
        facts.noteAddress(hostPortText(peer.host, peer.port))
    handle = getattr(transport, "getHandle", lambda: None)()
    if isinstance(handle, Connection):
        facts.noteTLS(_session(handle, destination.verifiesName))
    if destination.socketOptions:
        # The connection can be lost already.
        with suppress(OSError):
            read = destination.socketOptions.readFrom(_socket(transport))
            facts.noteSocket(SocketFacts(read.dscp, read.congestion))


def _socket(transport: Any) -> Any:
    # A UDP port has no handle.
    found = getattr(transport, "socket", None)
    return lowestTransport(transport).getHandle() if found is None else found


def _session(handle: Connection, verifiesName: bool) -> TLSFacts:
    # With VERIFY_PEER, a certificate without a valid chain ends the handshake.
    chain = bool(handle.get_context().get_verify_mode() & VERIFY_PEER)
    alpn = handle.get_alpn_proto_negotiated()
    return TLSFacts(
        version=handle.get_protocol_version_name(),
        cipher=handle.get_cipher_name() or "",
        verified=chain and verifiesName,
        alpn=printable(alpn.decode("latin-1")) if alpn else None,
    )
