"""
Endpoint strings: parsing, joining, and server endpoints with a long backlog.

This module replaces three of Twisted's endpoint types, and changes C{ssl:}:

 - C{haproxy:} (L{echofactory.net.proxyprotocol}). Twisted's closes connections of real
   proxies.
 - C{systemd:} (L{echofactory.net.socketactivation}). Twisted's refuses sockets without a
   name.
 - C{tls:} and C{ssl:} (L{echofactory.net.alpn}). Twisted's refuse clients that offer
   application protocols.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import (
    SSL4ServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from echofactory.express.ports import withPorts
from echofactory.express.reactor import onExpress
from echofactory.net.abstractsockets import abstractEndpoint, isAbstract
from echofactory.net.alpn import acceptOffers, tlsEndpoint
from echofactory.net.proxyprotocol import HeaderReactor, Refused
from echofactory.net.socketactivation import passedEndpoint
from echofactory.net.tlscontext import PEM_KIND, pemEndpoint
from echofactory.net.tracing import reasonText
from echofactory.values.checks import checkType
from echofactory.values.printable import printable

BACKLOG = 4096
"""Connections that can wait to be accepted. Twisted's default is 50: if 80 clients connect
to a busy server at the same time, 30 of them wait a second for their next attempt."""

# The position of the backlog among the positional arguments of an endpoint type.
_BACKLOG_POSITIONS = {"tcp": 3, "tcp6": 2, "unix": 3, "ssl": 6, "tls": 3, "reuseport": 3}
_WRAPPERS = ("express", "haproxy")
_PORT_KINDS = ("tcp", "tcp6", "ssl", "tls", "reuseport")

SEPARATOR = re.compile(r"(?<!\\):")
"""Separates the parts of an endpoint string."""

_EQUALS = re.compile(r"(?<!\\)=")
_ESCAPED = re.compile(r"\\(.)")
_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]*(?:%[^\]]*)?)\]")


def unbracketed(description: str) -> str:
    """
    Return an endpoint string with its IPv6 addresses in Twisted's form. A URL has
    C{[fe80::1%eth0]}; Twisted has no brackets, and escapes each colon.
    """

    def escaped(match: re.Match[str]) -> str:
        address, _, _ = match[1].partition("%")
        if not isIPv6Address(address):
            # The brackets are part of a path.
            return match[0]
        return match[1].replace(":", r"\:")

    return _BRACKETED.sub(escaped, description)


_NO_TYPE = " is not an endpoint type, such as 'tcp'"

_HOST_PORT = re.compile(r"(?:([\w.-]*|\[[0-9a-fA-F:]+\]):)?(\d{1,5})", re.ASCII)
"""C{HOST:PORT} or C{PORT}, which many other programs accept."""

_OF_ITS_STRING = (
    (r".* missing 1 required positional argument: (.*)", r"\1 is missing"),
    (r".* missing \d+ required positional arguments: (.*)", r"\1 are missing"),
    (r".* got an unexpected keyword argument ('.*')", r"there is no argument \1"),
    (r".* takes .* positional arguments? but \d+ (was|were) given", "too many arguments"),
    (r".* got multiple values for argument ('.*')", r"\1 is given twice"),
    (r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is not a number"),
    (r"\('unrecognized keyword arguments present', \['(.*)'\]\)", r"there is no argument '\1'"),
    (r"unsupported|no start line", "a file has no key or no certificate in PEM"),
    (r"Unknown endpoint type: ('.*')", rf"\1{_NO_TYPE}"),
)
"""Python's messages about the call that an endpoint string becomes, and the replacement for
each: a message about the string."""


def checkServerEndpoint(field: str, value: object) -> None:
    """
    @raise TypeError: if the value is neither a string nor an object with C{listen}.
    """
    if not callable(getattr(value, "listen", None)):
        checkType(field, value, str, "an endpoint string, such as 'tcp:7007', or an endpoint")


class EndpointError(ValueError):
    """
    An endpoint string is wrong, or it names a file that cannot be used.

    @ivar description: the endpoint string.
    """

    def __init__(self, description: str, reason: Exception) -> None:
        text = reasonText(reason)
        for internal, plain in _OF_ITS_STRING:
            if match := re.fullmatch(internal, text):
                text = match.expand(plain)
        if text.endswith(_NO_TYPE) and (match := _HOST_PORT.fullmatch(description)):
            host, port = match[1] or "127.0.0.1", match[2]
            text += (
                f". To listen, write tcp:{port}:interface={host}; to connect, tcp:{host}:{port}"
            )
        super().__init__(printable(f"{description or repr(description)}: {text}"))
        self.description = description


class ListenError(Exception):
    """
    A server cannot listen on an endpoint.

    @ivar endpoint: the endpoint string or endpoint, as the caller gave it.
    """

    def __init__(self, endpoint: object, reason: BaseException | None) -> None:
        # Twisted wraps the error of the operating system in some cases.
        cause = getattr(reason, "socketError", None) or reason
        super().__init__(printable(f"cannot listen on {endpoint}: {reasonText(cause)}"))
        self.endpoint = endpoint


def joined(positional: Iterable[object], named: Mapping[str, object]) -> str:
    """Join arguments into an endpoint string. The first positional argument is the type."""
    return ":".join(
        [
            *(quoteStringArgument(str(value)) for value in positional),
            *(f"{name}={quoteStringArgument(str(value))}" for name, value in named.items()),
        ]
    )


def unwrapped(description: str) -> tuple[list[str], str]:
    """
    Return the prefixes C{express} and C{haproxy} of an endpoint string, in order, and the
    rest of the string.
    """
    wrappers = []
    kind, _, rest = description.partition(":")
    while kind.lower() in _WRAPPERS:
        wrappers.append(kind.lower())
        description = rest
        kind, _, rest = rest.partition(":")
    return wrappers, description


def argumentsOf(description: str) -> tuple[list[str], dict[str, str]]:
    """
    Return the positional arguments of an endpoint string, of which the type is the first,
    and the named arguments.
    """
    positional = []
    named = {}
    for part in SEPARATOR.split(description):
        name, *value = (_ESCAPED.sub(r"\1", each) for each in _EQUALS.split(part, maxsplit=1))
        if value:
            (named[name],) = value
        else:
            positional.append(name)
    return positional, named


def withBacklog(description: str) -> str:
    """
    Return the endpoint string with C{backlog=}L{BACKLOG}. If the type takes no backlog, or
    the string has one already, return the string unchanged.
    """
    kind, *arguments = SEPARATOR.split(description)
    position = _BACKLOG_POSITIONS.get(kind)
    positional = [argument for argument in arguments if "=" not in argument]
    if (
        position is None
        or len(positional) >= position
        or any(argument.startswith("backlog=") for argument in arguments)
    ):
        return description
    return f"{description}:backlog={BACKLOG}"


def serverEndpoint(
    reactor: object, description: str, refused: Refused = lambda peer, why: None
) -> IStreamServerEndpoint:
    """
    Make the endpoint that a server endpoint string describes.

    @param reactor: provides the interfaces that the endpoint's type needs.
    @param refused: is called for each connection to C{haproxy:} without a valid header.
    @raise EndpointError: if the string is wrong, or names a file that cannot be used.
    """
    wrappers, inner = unwrapped(unbracketed(description))
    if "express" in wrappers:
        reactor = onExpress(reactor)
    reactor = withPorts(reactor)
    for _ in range(wrappers.count("haproxy")):
        reactor = HeaderReactor(reactor, refused)
    try:
        return _endpoint(reactor, inner)
    except Exception as reason:
        # A plugin and OpenSSL can raise any exception. The user has to change the string.
        raise EndpointError(description, reason) from reason


def startListening(
    endpoint: IStreamServerEndpoint, factory: IProtocolFactory, given: object
) -> Deferred[IListeningPort]:
    """
    Listen on an endpoint.

    @param given: the endpoint as the user wrote it, for the error.
    @return: fires with the port. If the endpoint is one of Twisted's own, it has fired
        already. If another endpoint fails later, fails with a L{ListenError}.
    @raise ListenError: if the endpoint fails immediately.
    """
    errors = []

    def failed(reason: Failure) -> Failure:
        if reason.check(CancelledError):
            return reason
        errors.append(ListenError(given, reason.value))
        return Failure(errors[0])

    listening = maybeDeferred(endpoint.listen, factory).addErrback(failed)
    if errors:
        listening.addErrback(lambda _: None)
        raise errors[0]
    return listening


def _endpoint(reactor: Any, description: str) -> IStreamServerEndpoint:
    positional, named = argumentsOf(description)
    if not positional:
        raise ValueError("the endpoint type is missing, such as 'tcp'")
    kind, *positional = positional
    if kind.lower() == "stdio":
        raise ValueError("a server cannot listen on standard input")
    if kind.lower() == "systemd":
        return passedEndpoint(reactor, *positional, **named)
    if kind.lower() == PEM_KIND:
        return pemEndpoint(reactor, *positional, backlog=BACKLOG, **named)
    if kind.lower() == "unix":
        path = positional[0] if positional else named.get("address", "")
        if isAbstract(path):
            named.pop("address", None)
            return abstractEndpoint(reactor, path, BACKLOG, *positional[1:], **named)
    port = positional[0] if positional else named.get("port", "")
    if kind.lower() in _PORT_KINDS and port.isdecimal() and int(port) > 65535:
        raise ValueError(f"port {port} is not from 0 to 65535")
    description = withBacklog(description)
    if kind.lower() == "tls":
        (_, *positional), named = argumentsOf(description)
        return tlsEndpoint(reactor, *positional, **named)
    endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    if isinstance(endpoint, SSL4ServerEndpoint):
        acceptOffers(endpoint._sslContextFactory.getContext())
    return endpoint
