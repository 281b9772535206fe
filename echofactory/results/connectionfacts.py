"""
What carried the connections of a run: the addresses, the TLS sessions and the options of the
sockets, each with the number of its connections.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from echofactory.values.quantities import counted

MAX_DIFFERENT = 100
"""Different facts of a kind that are counted. The name of a monitor's target can come to mean
any number of addresses."""

F = TypeVar("F", bound=Hashable)


@dataclass(frozen=True)
class TLSFacts:
    """What a TLS handshake agreed on."""

    version: str
    """The protocol version, such as C{TLSv1.3}."""
    cipher: str
    """The cipher suite, as OpenSSL names it."""
    verified: bool
    """Whether the client has verified the certificate of the server: its chain and its name."""
    alpn: str | None
    """The application protocol (RFC 7301); C{None}: none was agreed on."""

    def __str__(self) -> str:
        """Write the session for a report."""
        parts = [self.version, self.cipher, "verified" if self.verified else "not verified"]
        if self.alpn is not None:
            parts.append(f"ALPN {self.alpn}")
        return ", ".join(parts)


@dataclass(frozen=True)
class SocketFacts:
    """The options of a socket, as the kernel has them."""

    dscp: int | None
    """The code point of Differentiated Services (RFC 2474), from 0 to 63; C{None}: it was not
    asked for."""
    congestion: str | None
    """The congestion control of TCP; C{None}: it was not asked for."""

    def __str__(self) -> str:
        """Write the options for a report."""
        parts = [] if self.dscp is None else [f"DSCP {self.dscp}"]
        if self.congestion is not None:
            parts.append(f"congestion control {self.congestion}")
        return ", ".join(parts)


def _note(tally: dict[F, int], fact: F, count: int) -> None:
    if fact in tally or len(tally) < MAX_DIFFERENT:
        tally[fact] = tally.get(fact, 0) + count


def _listed(
    tally: dict[F, int], fields: Callable[[F], dict[str, object]]
) -> list[dict[str, object]]:
    return [{**fields(fact), "connections": count} for fact, count in tally.items()]


def _read(written: Iterable[dict[str, Any]], make: Callable[..., F]) -> dict[F, int]:
    tally: dict[F, int] = {}
    for each in written:
        fields = dict(each)
        count = fields.pop("connections")
        _note(tally, make(**fields), count)
    return tally


def _address(address: str) -> str:
    return address


def tallyText(tally: dict[F, int], established: int) -> str:
    """
    Write the fact of the first connection; and if there are others, the number of connections
    that differ from it, and of how many of them nothing is listed.

    @param tally: the connections by fact, in the order in which the facts appeared. It is not
        empty.
    @param established: the connections of the run.
    """
    (first, count), *others = tally.items()
    if not others:
        return str(first)
    listed = sum(tally.values())
    unlisted = max(0, established - listed) if len(tally) >= MAX_DIFFERENT else 0
    differing = listed + unlisted - count
    of = counted(listed + unlisted, "connection")
    more = f", {unlisted:,} of them in none of the {len(tally)} listed ways" if unlisted else ""
    return f"{first}; {differing:,} of {of} differ{'s' * (differing == 1)}{more}"


@dataclass(kw_only=True)
class ConnectionFacts:
    """
    The connections by what carried them. Each tally is in the order in which its facts
    appeared, and has at most L{MAX_DIFFERENT} of them.

    @ivar addresses: connections by the address at the other end, such as C{127.0.0.1:7007}. A
        UNIX socket has none.
    @ivar tls: connections over TLS by session.
    @ivar sockets: connections by the options of the socket, if options were asked for.
    """

    addresses: dict[str, int] = field(default_factory=dict)
    tls: dict[TLSFacts, int] = field(default_factory=dict)
    sockets: dict[SocketFacts, int] = field(default_factory=dict)

    def noteAddress(self, address: str) -> None:
        """Count a connection to an address."""
        _note(self.addresses, address, 1)

    def noteTLS(self, session: TLSFacts) -> None:
        """Count a connection over TLS."""
        _note(self.tls, session, 1)

    def noteSocket(self, facts: SocketFacts) -> None:
        """Count a connection whose socket has these options."""
        _note(self.sockets, facts, 1)

    def merge(self, other: "ConnectionFacts") -> None:
        """Add the connections of another run."""
        for address, count in other.addresses.items():
            _note(self.addresses, address, count)
        for session, count in other.tls.items():
            _note(self.tls, session, count)
        for facts, count in other.sockets.items():
            _note(self.sockets, facts, count)

    def asJSON(self) -> dict[str, object]:
        """Return the JSON's C{addresses}, C{tls} and C{sockets}."""
        return {
            "addresses": _listed(self.addresses, lambda address: {"address": address}),
            "tls": _listed(self.tls, asdict),
            "sockets": _listed(self.sockets, asdict),
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "ConnectionFacts":
        """Read the same fields of the JSON."""
        return cls(
            addresses=_read(written["addresses"], _address),
            tls=_read(written["tls"], TLSFacts),
            sockets=_read(written["sockets"], SocketFacts),
        )
