"""
Where the connections go: a client endpoint string whose host name is looked up
once, not once per connection.
"""

import os
import re
from collections.abc import Sequence
from ipaddress import ip_address
from math import ceil
from typing import Any, Literal, NamedTuple, cast

from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import clientFromString, wrapClientTLS
from twisted.internet.error import ConnectError, DNSLookupError
from twisted.internet.interfaces import (
    IAddress,
    IHostResolution,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorPluggableNameResolver,
    IReactorTime,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from zope.interface import implementer

from echofactory.client.race import AddressChoice
from echofactory.express.addresstext import hostPortText
from echofactory.express.reactor import onExpress, reactorBehind
from echofactory.net.abstractsockets import abstractAddress, isAbstract
from echofactory.net.endpoints import SEPARATOR, EndpointError, joined, unbracketed
from echofactory.net.socketoptions import SocketOptions, SocketOptionsReactor
from echofactory.net.udp import DatagramEndpoint
from echofactory.values.checks import checkType
from echofactory.values.printable import printable

_TO_HOSTS = ("tcp", "ssl", "tls", "udp")
_LONGEST_PATH = 107
"""Bytes, without the null byte at the end: of C{sun_path}, in C{sys/un.h}."""
_UDP_OPTIONS = {"host", "port", "bindAddress"}
_ESCAPE = re.compile(r"\\(.)")
_PATH = re.compile(r"path=|(?!\w+=)")
"""The beginning of an argument of C{unix:} that is the path."""


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
    @ivar socketOptions: the options that its sockets should have.
    """

    name: str
    tutorialName: str
    description: str
    overUNIX: bool = False
    datagrams: bool = False
    verifiesName: bool = False
    socketOptions: SocketOptions = SocketOptions()

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
            endpoint.socketOptions,
        )


NOWHERE = Destination("", "", "")
"""Before there is an endpoint."""


@implementer(IStreamClientEndpoint)
class Target:
    """
    The endpoint that a client endpoint string describes. C{udp:HOST:PORT} is not one of
    Twisted's: it describes sockets that send datagrams.

    If a name has several addresses, all connections go to the one that answers first
    (L{AddressChoice}). Over UDP nothing answers a connection, so the first address with a
    route is taken.

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
        *,
        family: Literal[4, 6] | None = None,
        tls: IOpenSSLClientConnectionCreator | None = None,
        socketOptions: SocketOptions | None = None,
    ) -> None:
        """
        @param connectTimeout: seconds that an attempt to connect takes at most, unless
            the string has a timeout of its own.
        @param sources: source addresses, used in turn; none: the kernel chooses.
        @param family: the IP version of the addresses that a name can mean; C{None}: both.
        @param tls: makes the TLS of C{tls:}, and verifies names unless it has an attribute
            C{verifies} that is false; C{None}: what the endpoint string says.
        @param socketOptions: of each socket; C{None}: the kernel's.
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
        self._family = family
        self._tls = tls
        self.socketOptions = socketOptions or SocketOptions()
        # Makes connections; the other makes UDP sockets, and looks up names.
        self._connecting: Any = reactor
        if self.socketOptions:
            self._connecting = SocketOptionsReactor(reactor, self.socketOptions)
        # Why the target cannot be reached, if that is known without trying.
        self._unreachable: str | None = None
        # If there is no name to look up.
        self._endpoint: IStreamClientEndpoint | None = None
        # The addresses to choose from, by the version of the source address.
        self._choices: dict[int | None, AddressChoice] = {}
        # By the address and the source address. To make one can mean to read certificates.
        self._endpoints: dict[tuple[str, str | None], IStreamClientEndpoint] = {}
        plain = unbracketed(description)
        kind, *arguments = SEPARATOR.split(plain)
        self.datagrams = kind.lower() == "udp"
        self.verifiesName = kind.lower() == "tls" and getattr(tls, "verifies", True)
        self.overUNIX = kind.lower() == "unix"
        try:
            if self.overUNIX:
                plain = self._readPath(plain, arguments)
            if not self.datagrams:
                self._endpoint = clientFromString(self._connecting, plain)
            elif description is not self.description:
                raise ValueError("the fast lane carries no datagrams")
            if kind.lower() in _TO_HOSTS:
                self._readHost(kind.lower(), arguments)
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

    def _readPath(self, plain: str, arguments: list[str]) -> str:
        """
        Return the endpoint string, with the null byte of an abstract socket. Check that a path
        fits into an address: Twisted raises too late.

        @raise ValueError: if the string is not right for an abstract socket.
        """
        paths = [each.removeprefix("path=") for each in arguments if _PATH.match(each)]
        path = _ESCAPE.sub(r"\1", paths[0]) if paths else ""
        if isAbstract(path):
            if any(each.startswith("lockfile=") for each in arguments):
                raise ValueError("an abstract socket has no lock file")
            abstractAddress(path)
            # Neither the type nor a name of an argument has this character.
            return plain.replace("@", "\0", 1)
        size = len(os.fsencode(path))
        if size > _LONGEST_PATH:
            self._unreachable = (
                f"the path has {size} bytes, and a UNIX socket's has {_LONGEST_PATH} at most"
            )
        return plain

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
            addresses = await lookUp(self._reactor, self._host, self._family)
        versions = {
            None if each is None else ip_address(each).version: each for each in self._sources
        }
        self._endpoints.clear()
        for version, source in versions.items():
            fitting = [
                each for each in addresses if version in (None, ip_address(each).version)
            ]
            if not fitting:
                raise DNSLookupError(f"no address to connect to from {source}")
            before = self._choices.get(version)
            self._choices[version] = AddressChoice(
                self._reactor, fitting, None if before is None else before.chosen
            )

    def _endpointAt(self, address: str, source: str | None) -> IStreamClientEndpoint:
        """Return the endpoint of one address."""
        if self.datagrams:
            source = source or self._options.get("bindAddress")
            return DatagramEndpoint(
                reactorBehind(self._reactor),
                address,
                int(self._options["port"]),
                source,
                self.socketOptions,
            )
        # The caller's timeout counts, because it leaves standstills out.
        options = {"timeout": str(10 * ceil(self._connectTimeout)), **self._options}
        if source is not None:
            options["bindAddress"] = source
        endpoint: IStreamClientEndpoint
        if self._kind == "tls" and self._tls is not None:
            plain = self._plainAt(address, options)
            endpoint = wrapClientTLS(self._tls, clientFromString(self._connecting, plain))
        else:
            endpoint = clientFromString(self._connecting, self._at(address, options))
        return endpoint

    def _at(self, address: str, options: dict[str, str]) -> str:
        """Return the endpoint string, with an address instead of the name."""
        if self._kind != "tls":
            return joined([self._kind], options | {"host": address})
        # The name stays, because the certificate is checked against it.
        plain = self._plainAt(address, options)
        left = {name: options[name] for name in options.keys() - {"timeout", "bindAddress"}}
        return joined(["tls"], left | {"endpoint": plain})

    def _plainAt(self, address: str, options: dict[str, str]) -> str:
        """Return the endpoint string of the TCP connection below TLS."""
        wanted = {"host": address, "port": options["port"], "timeout": options["timeout"]}
        if "bindAddress" in options:
            wanted["bindAddress"] = options["bindAddress"]
        return joined(["tcp"], wanted)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        See L{IStreamClientEndpoint}. If the factory has a method C{attemptBegins}, it is called
        if the attempt has waited for the choice of an address, when it begins.
        """
        if self._unreachable is not None:
            return fail(ConnectError(string=self._unreachable))
        if not self._choices:
            assert self._endpoint is not None
            connecting: Deferred[IProtocol] = self._endpoint.connect(protocolFactory)
            return connecting
        source = self._sources[self._turn]
        self._turn = (self._turn + 1) % len(self._sources)
        choice = self._choices[None if source is None else ip_address(source).version]

        def connectTo(address: str) -> Deferred[IProtocol]:
            endpoint = self._endpoints.get((address, source))
            if endpoint is None:
                endpoint = self._endpointAt(address, source)
                self._endpoints[address, source] = endpoint
            made: Deferred[IProtocol] = endpoint.connect(protocolFactory)
            return made

        begins = getattr(protocolFactory, "attemptBegins", lambda: None)
        return choice.connect(connectTo, begins)


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


async def lookUp(
    reactor: IReactorTime, host: str, family: Literal[4, 6] | None = None
) -> list[str]:
    """
    Return a name's addresses, in the order in which they should be tried.

    @param family: the IP version of the addresses; C{None}: both.
    @raise DNSLookupError: if the name has none.
    """
    try:
        # The resolver of Twisted 26.10 never ends if the name cannot be encoded.
        host.encode("idna")
    except UnicodeError as reason:
        raise DNSLookupError(f"{host!r} is not a host's name") from reason
    receiver = _Receiver()
    # Every reactor of Twisted has a resolver; its published type does not say so.
    resolving = cast(IReactorPluggableNameResolver, reactor)
    kinds = [IPv4Address, IPv6Address]
    if family is not None:
        kinds = [IPv4Address if family == 4 else IPv6Address]
    resolving.nameResolver.resolveHostName(receiver, host, addressTypes=kinds)
    await receiver.complete
    if not receiver.addresses:
        kind = "" if family is None else f"IPv{family} "
        raise DNSLookupError(f"{host!r} has no {kind}address")
    return receiver.addresses
