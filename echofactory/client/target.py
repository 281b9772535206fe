"""
Where the connections go: a client endpoint string whose host name is looked up
once, not once per connection.
"""

import os
import re
from collections import deque
from collections.abc import Sequence
from ipaddress import ip_address
from math import ceil
from typing import NamedTuple, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from echofactory.express.addresstext import hostPortText
from echofactory.express.reactor import onExpress, reactorBehind
from echofactory.net.endpoints import SEPARATOR, EndpointError, joined, unbracketed
from echofactory.net.udp import DatagramEndpoint
from echofactory.values.checks import checkType
from echofactory.values.printable import printable

_TO_HOSTS = ("tcp", "ssl", "tls", "udp")
_LONGEST_PATH = 107
"""Bytes, without the null byte at the end: of C{sun_path}, in C{sys/un.h}."""
_UDP_OPTIONS = {"host", "port", "bindAddress"}
_ESCAPE = re.compile(r"\\(.)")


def checkClientEndpoint(value: object) -> None:
    """
    @raise TypeError: if it is neither a client endpoint string nor anything that connects.
    """
    if not callable(getattr(value, "connect", None)):
        accepted = "an endpoint string, such as 'tcp:127.0.0.1:7007', or an endpoint"
        checkType("endpoint", value, str, accepted)


class Destination(NamedTuple):
    """
    What an endpoint is called, and what it is.

    @ivar name: for a person.
    @ivar tutorialName: in the tutorial's lines, which C{--trace data} logs.
    @ivar description: the endpoint string, as it was given.
    @ivar overUNIX: whether it is known to be a UNIX socket.
    @ivar verifiesName: whether it is known to check for which host a certificate is.
    @ivar datagrams: whether it is of UDP.
    """

    name: str
    tutorialName: str
    description: str
    overUNIX: bool = False
    datagrams: bool = False
    verifiesName: bool = False

    @classmethod
    def of(cls, endpoint: IStreamClientEndpoint) -> "Destination":
        """Return what is known of an endpoint."""
        if not isinstance(endpoint, Target):
            text = printable(repr(endpoint))
            return cls(text, text, text)
        return cls(
            printable(endpoint.text),
            printable(endpoint.tutorialText),
            printable(endpoint.description),
            endpoint.overUNIX,
            endpoint.datagrams,
            endpoint.verifiesName,
        )


NOWHERE = Destination("", "", "")
"""Before there is an endpoint."""


@implementer(IStreamClientEndpoint)
class Target:
    """
    The endpoint that a client endpoint string describes. C{udp:HOST:PORT} is not one of
    Twisted's: it describes sockets that send datagrams.

    If a name has several addresses, each of them is tried in turn, beginning with the one
    that answered last. The time for connecting is divided among them. Over UDP nothing
    answers a connection, so the first address with a route is taken.

    @ivar description: the endpoint string, as it was given.
    @ivar text: the target for a person: C{127.0.0.1:7} for plain TCP.
    @ivar tutorialText: the target in the tutorial's lines: C{('127.0.0.1', 7)} for plain TCP
        (L{tracedAddressText<echofactory.net.tracing.tracedAddressText>}).
    @ivar datagrams: whether the transport is UDP.
    @ivar overUNIX: whether the transport is a UNIX socket.
    """

    def __init__(
        self,
        reactor: IReactorTime,
        description: str,
        connectTimeout: float,
        sources: Sequence[str] = (),
    ) -> None:
        """
        @param connectTimeout: seconds that an attempt to connect takes at most, unless
            the string has a timeout of its own.
        @param sources: source addresses, used in turn; none: the kernel chooses.
        @raise EndpointError: if the string describes no endpoint, or if there are source
            addresses and the endpoint has none.
        """
        self.description = self.text = self.tutorialText = description
        prefix, _, rest = description.partition(":")
        if prefix.lower() == "express":
            reactor, description = onExpress(reactor), rest
        self._reactor = reactor
        self._connectTimeout = connectTimeout
        self._host: str | None = None
        self._sources = tuple(sources) or (None,)
        self._turn = 0
        self._works = 0
        # Why the target cannot be reached, if that is known without trying.
        self._unreachable: str | None = None
        # For each source, the addresses to try.
        self._endpoints: list[list[IStreamClientEndpoint]] = []
        plain = unbracketed(description)
        kind, *arguments = SEPARATOR.split(plain)
        self.datagrams = kind.lower() == "udp"
        self.verifiesName = kind.lower() == "tls"
        self.overUNIX = kind.lower() == "unix"
        try:
            if not self.datagrams:
                self._endpoints = [[clientFromString(reactor, plain)]]
            elif description is not self.description:
                raise ValueError("the fast lane carries no datagrams")
            if kind.lower() in _TO_HOSTS:
                self._readHost(kind.lower(), arguments)
            elif self.overUNIX:
                self._readPath(arguments)
            if sources and self._host is None:
                raise ValueError("nothing is known of its source address")
        except Exception as reason:
            # A plugin or OpenSSL can raise anything: the string is what is wrong.
            raise EndpointError(self.description, reason) from reason

    def _readHost(self, kind: str, arguments: list[str]) -> None:
        self._kind = kind
        self._options: dict[str, str] = {}
        names = iter(("host", "port", "timeout", "bindAddress"))
        for argument in arguments:
            name, equals, value = argument.partition("=")
            if not equals:
                # Too many arguments, which only UDP can have here.
                name, value = next((n for n in names if n not in self._options), ""), name
            self._options[name] = _ESCAPE.sub(r"\1", value)
        # ssl: does if it is told the host's name.
        self.verifiesName |= "hostname" in self._options
        if "endpoint" in self._options:
            return
        if self.datagrams:
            self._refuseMalformed()
        port = int(self._options["port"])
        if not 0 < port < 65536:
            raise ValueError(f"port {port} is not from 1 to 65535")
        self._host = self._options["host"]
        if kind == "tcp":
            self.text = hostPortText(self._host, port)
            self.tutorialText = repr((self._host, port))
        elif kind == "udp":
            self.text = self.tutorialText = f"udp {hostPortText(self._host, port)}"

    def _readPath(self, arguments: list[str]) -> None:
        """Check that the path fits into an address: Twisted raises too late."""
        path = arguments[0].removeprefix("path=")
        size = len(os.fsencode(_ESCAPE.sub(r"\1", path)))
        if size > _LONGEST_PATH:
            self._unreachable = (
                f"the path has {size} bytes, and a UNIX socket's has {_LONGEST_PATH} at most"
            )

    def _refuseMalformed(self) -> None:
        """
        @raise ValueError: if the options are not those of C{udp:}.
        """
        options = self._options
        if not {"host", "port"} <= options.keys() <= _UDP_OPTIONS or not options["host"]:
            raise ValueError("not udp:HOST:PORT, with or without :bindAddress=ADDRESS")
        if re.fullmatch(r"\d{1,5}", options["port"], re.ASCII) is None:
            raise ValueError(f"port {options['port']!r} is not from 1 to 65535")
        source = options.get("bindAddress")
        if source is not None and not (isIPAddress(source) or isIPv6Address(source)):
            raise ValueError(f"bindAddress {source!r} is not an IPv4 or IPv6 address")

    async def resolve(self) -> None:
        """
        Look up the host's name, if there is one to look up.

        @raise DNSLookupError: if it has no address.
        """
        if self._host is None:
            return
        try:
            addresses = [str(ip_address(self._host))]
        except ValueError:
            addresses = await lookUp(self._reactor, self._host)
        # If there are several addresses, one that does not answer must leave time for the
        # others. If there is one, the caller's timeout counts: it leaves standstills out.
        timeout = ceil(self._connectTimeout / len(addresses))
        if len(addresses) == 1:
            timeout *= 10
        self._endpoints = [
            [
                self._endpoint(address, timeout, source)
                for address in addresses
                if source is None or ip_address(source).version == ip_address(address).version
            ]
            for source in self._sources
        ]
        if [] in self._endpoints:
            source = self._sources[self._endpoints.index([])]
            raise DNSLookupError(f"no address to connect to from {source}")

    def _endpoint(
        self, address: str, timeout: int, source: str | None
    ) -> IStreamClientEndpoint:
        if self.datagrams:
            source = source or self._options.get("bindAddress")
            port = int(self._options["port"])
            return DatagramEndpoint(reactorBehind(self._reactor), address, port, source)
        endpoint: IStreamClientEndpoint = clientFromString(
            self._reactor, self._at(address, timeout, source)
        )
        return endpoint

    def _at(self, address: str, timeout: int, source: str | None) -> str:
        """Return the endpoint string, with an address instead of the name."""
        options = {"timeout": str(timeout), **self._options}
        if source is not None:
            options["bindAddress"] = source
        if self._kind != "tls":
            options["host"] = address
            return joined([self._kind], options)
        # The name stays, because the certificate is checked against it.
        inner = {"host": address, "port": options["port"], "timeout": options.pop("timeout")}
        if "bindAddress" in options:
            inner["bindAddress"] = options.pop("bindAddress")
        return joined(["tls"], options | {"endpoint": joined(["tcp"], inner)})

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """See L{IStreamClientEndpoint}."""
        if self._unreachable is not None:
            return fail(ConnectError(string=self._unreachable))
        endpoints = self._endpoints[self._turn]
        self._turn = (self._turn + 1) % len(self._endpoints)
        if len(endpoints) == 1:
            connecting: Deferred[IProtocol] = endpoints[0].connect(protocolFactory)
            return connecting
        return Deferred.fromCoroutine(self._tryEach(endpoints, protocolFactory))

    async def _tryEach(
        self, endpoints: list[IStreamClientEndpoint], protocolFactory: IProtocolFactory
    ) -> IProtocol:
        # In order, beginning with the one that worked last.
        candidates = deque(enumerate(endpoints))
        candidates.rotate(-self._works)
        while True:
            index, endpoint = candidates.popleft()
            try:
                protocol: IProtocol = await endpoint.connect(protocolFactory)
            except ConnectError:
                if not candidates:
                    raise
            else:
                self._works = index
                return protocol


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses of a name."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        """See L{IResolutionReceiver}."""

    def addressResolved(self, address: IAddress) -> None:
        """See L{IResolutionReceiver}."""
        host = getattr(address, "host")  # noqa: B009 - IAddress does not promise it
        if host not in self.addresses:
            self.addresses.append(host)

    def resolutionComplete(self) -> None:
        """See L{IResolutionReceiver}."""
        if not self.complete.called:
            self.complete.callback(None)


async def lookUp(reactor: IReactorTime, host: str) -> list[str]:
    """
    Return a name's addresses, in the order in which they should be tried.

    @raise DNSLookupError: if the name has none.
    """
    try:
        # The resolver of Twisted 26.10 never ends if the name cannot be encoded.
        host.encode("idna")
    except UnicodeError as reason:
        raise DNSLookupError(f"{host!r} is not a host's name: {reason}") from reason
    receiver = _Receiver()
    # Every reactor of Twisted has a resolver; its published type does not say so.
    resolving = cast(IReactorPluggableNameResolver, reactor)
    resolving.nameResolver.resolveHostName(receiver, host)
    await receiver.complete
    if not receiver.addresses:
        raise DNSLookupError(f"{host!r} has no address")
    return receiver.addresses
