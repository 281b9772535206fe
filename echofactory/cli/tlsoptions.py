"""
The options of TLS on HOST PORT, of the client and of the server.
"""

from typing import Any

from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
from twisted.python import usage

from echofactory.cli.options import CommandOptions, Flag, Option
from echofactory.net.endpoints import joined
from echofactory.net.tlscontext import PEM_KIND, clientTLS, serverTLS

_MAX_PROTOCOL = 255
"""Bytes of the name of an application protocol (RFC 7301, section 3.1)."""


def parseProtocols(text: str) -> tuple[str, ...]:
    """Read the names of application protocols, such as C{h2,http/1.1}."""
    names = tuple(text.split(","))
    if not all(name.isascii() and 0 < len(name) <= _MAX_PROTOCOL for name in names):
        raise ValueError("not the name of a protocol such as h2, nor several: h2,http/1.1")
    return names


CLIENT_TLS_FLAGS = (
    Flag(
        "tls",
        "Use TLS on HOST PORT. The certificate of the server is verified: its chain, and that"
        " it is for HOST.",
    ),
    Flag("insecure", "With --tls: verify nothing."),
)

CLIENT_TLS_OPTIONS = (
    Option(
        "ca",
        "FILE",
        str,
        None,
        "With --tls: PEM file of the authorities to trust.",
        defaultHelp="those of the system",
        example="ca.pem",
    ),
    Option(
        "sni",
        "NAME",
        str,
        None,
        "With --tls: server name to send and to verify.",
        defaultHelp="HOST",
        example="echo.example",
    ),
    Option(
        "cert",
        "FILE",
        str,
        None,
        "With --tls: PEM file of the client's certificate, followed by those between it and an"
        " authority. Without --key, the file has the private key too.",
        defaultHelp="none",
        example="client.pem",
    ),
    Option(
        "key",
        "FILE",
        str,
        None,
        "With --tls: PEM file of the private key of --cert, without a passphrase.",
        defaultHelp="the file of --cert",
        example="client.key",
    ),
    Option(
        "alpn",
        "NAMES",
        parseProtocols,
        None,
        "With --tls: application protocols to offer (ALPN), joined with commas, the best one"
        " first.",
        defaultHelp="none",
        example="h2,http/1.1",
    ),
)

CLIENT_TLS_NAMES = ("tls", "ca", "insecure", "sni", "cert", "key", "alpn")
"""The options of the client, in the order of its help."""

_FIELDS = {name: name for name in CLIENT_TLS_NAMES if name != "tls"}
"""The option of each argument of L{clientTLS}."""

SERVER_TLS_OPTIONS = (
    Option(
        "tls-cert",
        "FILE",
        str,
        None,
        "Use TLS on HOST PORT, with the certificate in this PEM file. Those between it and an"
        " authority follow it. Without --tls-key, the file has the private key too.",
        defaultHelp="no TLS on HOST PORT",
        example="server.pem",
    ),
    Option(
        "tls-key",
        "FILE",
        str,
        None,
        "PEM file of the private key of --tls-cert, without a passphrase.",
        defaultHelp="the file of --tls-cert",
        example="server.key",
    ),
    Option(
        "tls-client-ca",
        "FILE",
        str,
        None,
        "PEM file of authorities. Each client must have a certificate that one of them has"
        " issued. Give --tls-cert too.",
        defaultHelp="clients need no certificate",
        example="ca.pem",
    ),
)

SERVER_TLS_NAMES = tuple(option.name for option in SERVER_TLS_OPTIONS)
"""The options of the server, in the order of its help."""


def clientTLSArguments(options: CommandOptions, host: str | None) -> dict[str, Any] | None:
    """
    Return the arguments of L{clientTLS}, if L{readClientTLS} has accepted the options; C{None}:
    the client uses no TLS on HOST PORT.
    """
    return options.built(dict, _FIELDS, host=host) if options["tls"] else None


def readClientTLS(
    options: CommandOptions, host: str | None
) -> IOpenSSLClientConnectionCreator | None:
    """
    Return the TLS of a client; C{None}: the client uses none on HOST PORT.

    @param host: HOST; C{None}: it was not given.
    @raise usage.UsageError: naming the option that is wrong, or needs another one.
    """
    if not options["tls"]:
        for name in CLIENT_TLS_NAMES:
            if options[name]:
                raise usage.UsageError(f"--{name}: give --tls too")
        return None
    if host is None:
        raise usage.UsageError("--tls: give HOST PORT too. --connect has tls: for endpoints")
    if options["ca"] is not None and options["insecure"]:
        raise usage.UsageError("--ca and --insecure: without verification, nothing is trusted")
    if options["key"] is not None and options["cert"] is None:
        raise usage.UsageError("--key: give --cert too")
    made: Any = None
    try:
        made = options.built(clientTLS, _FIELDS, host=host)
    except ValueError as error:
        # HOST itself.
        raise usage.UsageError(f"HOST: {str(error).partition(': ')[2]}") from None
    found: IOpenSSLClientConnectionCreator = made
    return found


def readServerTLS(options: CommandOptions, port: int, host: str | None) -> str | None:
    """
    Return the endpoint string of HOST PORT with TLS; C{None}: there is no TLS on it.

    @param port: PORT.
    @param host: HOST; C{None}: it was not given.
    @raise usage.UsageError: naming the option that is wrong, or needs another one.
    """
    given = {name: options[name] for name in SERVER_TLS_NAMES if options[name] is not None}
    if not given:
        return None
    for name in given:
        if host is None:
            raise usage.UsageError(f"--{name}: give HOST PORT too. --listen has ssl:")
        if "tls-cert" not in given:
            raise usage.UsageError(f"--{name}: give --tls-cert too")
    fields = {"cert": "tls-cert", "key": "tls-key", "clientCA": "tls-client-ca"}
    # A mistake is told before anything listens.
    options.built(serverTLS, fields)
    files = {field: given[name] for field, name in fields.items() if name in given}
    return joined([PEM_KIND, port], {"interface": host, **files})
