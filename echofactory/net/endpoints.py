"""
Endpoint strings: how they are taken apart and put together, and servers' with a
backlog fit for many connections that arrive at once.

Of Twisted's endpoint types, C{haproxy:} and C{systemd:} are made here: Twisted's own
close connections of real proxies (L{echofactory.net.proxied}), and do not take sockets
without a name (L{echofactory.net.passed}).
"""

import re
from collections.abc import Iterable, Mapping

from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure

from echofactory.express.ports import withPorts
from echofactory.express.reactor import laneOf
from echofactory.net.passed import passedEndpoint
from echofactory.net.proxied import HeaderReactor, Refused
from echofactory.net.tracing import reasonText
from echofactory.values.checks import checkType
from echofactory.values.printable import printable

BACKLOG = 4096
"""Connections. Twisted's default is 50: of 80 clients that connect to a busy
server at once, 30 wait a second for their next attempt."""

# Where a backlog stands among the positional arguments of an endpoint type.
_BACKLOG_POSITIONS = {"tcp": 3, "tcp6": 2, "unix": 3, "ssl": 6, "tls": 3, "reuseport": 3}
_WRAPPERS = ("express", "haproxy")

SEPARATOR = re.compile(r"(?<!\\):")
"""What stands between the parts of an endpoint string."""

_EQUALS = re.compile(r"(?<!\\)=")
_ESCAPED = re.compile(r"\\(.)")


_BRACKETED = re.compile(r"\[([0-9a-fA-F:.]*(?:%[^\]]*)?)\]")


def unbracketed(description: str) -> str:
    """
    Return an endpoint string with its IPv6 addresses as Twisted takes them: not
    C{[fe80::1%eth0]}, as in a URL, but with each colon escaped.
    """

    def escaped(match: re.Match[str]) -> str:
        address, _, _ = match[1].partition("%")
        if not isIPv6Address(address):
            # Brackets of a path.
            return match[0]
        return match[1].replace(":", r"\:")

    return _BRACKETED.sub(escaped, description)


_OF_ITS_STRING = (
    (r".* missing 1 required positional argument: (.*)", r"\1 is missing"),
    (r".* missing \d+ required positional arguments: (.*)", r"\1 are missing"),
    (r".* got an unexpected keyword argument ('.*')", r"there is no argument \1"),
    (r".* takes .* positional arguments? but \d+ (was|were) given", "too many arguments"),
    (r".* got multiple values for argument ('.*')", r"\1 is given twice"),
    (r"invalid literal for int\(\) with base 10: ('.*')", r"\1 is not a number"),
    (r"Unknown endpoint type: ('.*')", r"\1 is not a type of endpoint, as 'tcp' is"),
)
"""What Twisted lets Python say of an endpoint string, and what that means to who
wrote the string."""


def checkServerEndpoint(field: str, value: object) -> None:
    """
    @raise TypeError: if it is neither a server endpoint string nor anything that listens.
    """
    if not callable(getattr(value, "listen", None)):
        checkType(field, value, str, "an endpoint string, such as 'tcp:7007', or an endpoint")


class EndpointError(ValueError):
    """
    An endpoint string that cannot be understood, or names files that cannot
    be used.

    @ivar description: the string.
    """

    def __init__(self, description: str, reason: Exception) -> None:
        text = reasonText(reason)
        for internal, plain in _OF_ITS_STRING:
            if match := re.fullmatch(internal, text):
                text = match.expand(plain)
        super().__init__(printable(f"{description}: {text}"))
        self.description = description


class ListenError(Exception):
    """
    An endpoint cannot be listened on.

    @ivar endpoint: the endpoint, as it was given.
    """

    def __init__(self, endpoint: object, reason: BaseException | None) -> None:
        # The operating system's words, where Twisted wraps them.
        cause = getattr(reason, "socketError", None) or reason
        super().__init__(printable(f"cannot listen on {endpoint}: {reasonText(cause)}"))
        self.endpoint = endpoint


def joined(positional: Iterable[object], named: Mapping[str, object]) -> str:
    """Put an endpoint string together of its arguments, its type the first of them."""
    return ":".join(
        [
            *(quoteStringArgument(str(value)) for value in positional),
            *(f"{name}={quoteStringArgument(str(value))}" for name, value in named.items()),
        ]
    )


def unwrapped(description: str) -> tuple[list[str], str]:
    """
    Return the prefixes of an endpoint string that only say how another endpoint is
    listened on, C{express} and C{haproxy}, and the string of that one.
    """
    wrappers = []
    kind, _, rest = description.partition(":")
    while kind.lower() in _WRAPPERS:
        wrappers.append(kind.lower())
        description = rest
        kind, _, rest = rest.partition(":")
    return wrappers, description


def argumentsOf(description: str) -> tuple[list[str], dict[str, str]]:
    """Return an endpoint string's positional arguments, its type first, and its named ones."""
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
    Return the endpoint string with C{backlog=}L{BACKLOG}, if its type takes a
    backlog and it names none.
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

    @param reactor: provides what the endpoint's type asks for.
    @param refused: receives each connection to C{haproxy:} without a valid header.
    @raise EndpointError: if it describes none.
    """
    wrappers, inner = unwrapped(unbracketed(description))
    if "express" in wrappers:
        reactor = laneOf(reactor)
    reactor = withPorts(reactor)
    for _ in range(wrappers.count("haproxy")):
        reactor = HeaderReactor(reactor, refused)
    try:
        return _endpoint(reactor, inner)
    except Exception as reason:
        # Whatever a plugin or OpenSSL raises, the string is what has to change.
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


def _endpoint(reactor: object, description: str) -> IStreamServerEndpoint:
    positional, named = argumentsOf(description)
    if not positional:
        raise ValueError("there is no type of endpoint, as 'tcp' is")
    kind, *positional = positional
    if kind.lower() == "stdio":
        raise ValueError("standard input is nothing to listen on")
    if kind.lower() == "systemd":
        return passedEndpoint(reactor, *positional, **named)
    endpoint: IStreamServerEndpoint = serverFromString(reactor, withBacklog(description))
    return endpoint
