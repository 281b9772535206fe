"""
The settings of a run of several parts. They travel to each part.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from echofactory.client.settings import Opening, Patience
from echofactory.net.socketoptions import SocketOptions
from echofactory.net.tlscontext import clientTLS, readFile
from echofactory.values.checks import checkSeconds, checkType, checkWhole
from echofactory.values.quantities import counted
from echofactory.workload.settings import Workload
from echofactory.workload.share import MAX_PARTS, Share


@dataclass(frozen=True, kw_only=True)
class ClientTLSSettings:
    """
    The TLS of a client, with the content of its files. So no file has to be at the parts.
    """

    arguments: dict[str, Any]
    """The arguments of L{clientTLS}, except C{read}."""
    contents: dict[str, bytes] = field(repr=False)
    """The content of each file, by its path."""

    @classmethod
    def read(cls, arguments: dict[str, Any]) -> "ClientTLSSettings":
        """
        Read the files that arguments of L{clientTLS} name.

        @raise ValueError: if one of them cannot be read.
        """
        paths = {name: arguments.get(name) for name in ("ca", "cert", "key")}
        return cls(
            arguments=arguments,
            contents={path: readFile(name, path) for name, path in paths.items() if path},
        )

    def made(self) -> Any:
        """Return the TLS of a client."""
        return clientTLS(**self.arguments, read=lambda field, path: self.contents[path])


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """
    The settings of a run.

    @raise TypeError: from the constructor, if a field is of another type.
    @raise ValueError: from the constructor, naming the field and the value.
    """

    target: str
    """A client endpoint string. Files that it names have to be at each part."""
    workload: Workload
    """What each connection sends."""
    connections: int = 2
    """The number of connections of all parts together, 1 or more."""
    patience: Patience = field(default_factory=Patience)
    """The timeouts."""
    opening: Opening = field(default_factory=Opening)
    """How connections are asked for: the rate of all parts together."""
    interval: float = 1.0
    """Seconds; the results are kept by pieces of this length."""
    spin: bool = False
    """Whether each part keeps a core awake, so that messages are sent on time."""
    express: bool = True
    """Whether the connections take the fast lane."""
    family: Literal[4, 6] | None = None
    """The IP version of the target's addresses; C{None}: both."""
    tls: ClientTLSSettings | None = None
    """The TLS of a C{tls:} target; C{None}: the endpoint string decides."""
    socketOptions: SocketOptions = field(default_factory=SocketOptions)
    """The options of the sockets."""

    def __post_init__(self) -> None:
        checkType("target", self.target, str)
        checkType("workload", self.workload, Workload)
        checkWhole("connections", self.connections)
        checkType("patience", self.patience, Patience)
        checkType("opening", self.opening, Opening)
        checkSeconds("interval", self.interval)
        if self.spin and self.workload.rate is None:
            raise ValueError("spin: without a rate, no message is due at a time")

    def partOf(self, share: Share) -> "PartSettings":
        """Return the settings of one part."""
        opening = replace(self.opening, addresses=share.turns(self.opening.addresses))
        return PartSettings(run=replace(self, opening=opening), share=share)


@dataclass(frozen=True, kw_only=True)
class PartSettings:
    """The settings of one part of a run."""

    run: RunSettings
    """The settings of the run, with the source addresses of this part."""
    share: Share
    """Which part it is."""


def refuseTooManyParts(parts: int, connections: int) -> None:
    """
    @raise ValueError: if the connections are too few for the parts, or there are more than
        L{MAX_PARTS} parts.
    """
    checkWhole("parts", parts)
    if parts > connections:
        text = counted(connections, "connection")
        raise ValueError(f"parts: {parts:,} processes for {text}; give at most {connections:,}")
    if parts > MAX_PARTS:
        raise ValueError(f"parts: {parts:,} processes; give at most {MAX_PARTS:,}")
