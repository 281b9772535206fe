"""
TLS from files: what the options of a command line name. The functions read the files when they
are called. A message of theirs begins with the parameter that is wrong, as those of settings
do.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import SSL4ServerEndpoint
from twisted.internet.interfaces import (
    IOpenSSLClientConnectionCreator,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import (
    Certificate,
    CertificateOptions,
    KeyPair,
    PrivateCertificate,
    optionsForClientTLS,
    trustRootFromCertificates,
)
from zope.interface import implementer

from echofactory.net.alpn import acceptOffers

_CERTIFICATE = re.compile(
    rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL
)
_KEY = re.compile(rb"-----BEGIN ([A-Z ]*)PRIVATE KEY-----.+?-----END", re.DOTALL)

PEM_KIND = "pem"
"""The type of the endpoint string of a server with files, for L{pemEndpoint}:
C{pem:PORT:interface=HOST:cert=FILE} with or without C{:key=FILE} and C{:clientCA=FILE}. It is
how a program hands the options of its command line to its workers."""


Read = Callable[[str, str], bytes]
"""Takes the name of a parameter and the path that it has, and returns the file's content."""


def readFile(field: str, path: str) -> bytes:
    """
    Return the content of a file.

    @param field: the parameter that names the file.
    @raise ValueError: if the file cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{field}: {path!r}: {error.strerror}") from None


def _certificates(field: str, path: str, read: Read) -> list[Certificate]:
    """Return the certificates of a file, one or more."""
    found = _CERTIFICATE.findall(read(field, path))
    if not found:
        raise ValueError(f"{field}: {path!r} has no certificate in PEM")
    try:
        return [Certificate.loadPEM(each) for each in found]
    except (crypto.Error, ValueError):
        raise ValueError(f"{field}: {path!r} has a certificate that cannot be read") from None


def _identity(
    certField: str, cert: str, keyField: str, key: str | None, read: Read
) -> tuple[PrivateCertificate, list[crypto.X509]]:
    """
    Return a certificate with its key, and the certificates between it and an authority.

    @param key: the file of the key; C{None}: that of the certificate.
    """
    leaf, *between = _certificates(certField, cert, read)
    alone = key is None
    if key is None:
        keyField, key = certField, cert
    content = read(keyField, key)
    match = _KEY.search(content)
    if match is None and alone:
        raise ValueError(f"{keyField}: {key!r} has no private key, and no file of one is given")
    if match is None:
        raise ValueError(f"{keyField}: {key!r} has no private key in PEM")
    if match[1].startswith(b"ENCRYPTED") or b"ENCRYPTED" in match[0]:
        # OpenSSL would ask for the passphrase on the terminal.
        raise ValueError(f"{keyField}: {key!r} is encrypted, and there is no passphrase")
    try:
        pair = KeyPair.load(content[match.start() :], crypto.FILETYPE_PEM)
    except (crypto.Error, ValueError, TypeError):
        raise ValueError(f"{keyField}: {key!r} has a key that cannot be read") from None
    if not pair.matches(leaf.getPublicKey()):
        raise ValueError(f"{keyField}: {key!r} is not the key of the certificate in {cert!r}")
    identity = PrivateCertificate.fromCertificateAndKeyPair(leaf, pair)
    return identity, [each.original for each in between]


@implementer(IOpenSSLClientConnectionCreator)
class Unverified:
    """
    TLS of a client that does not verify the server.

    @cvar verifies: whether the server is verified: never.
    """

    verifies = False

    def __init__(self, name: str | None, options: CertificateOptions) -> None:
        """
        @param name: the server name to send (RFC 6066); C{None}: none.
        @param options: make the context.
        """
        self._name = None if name is None else name.encode("idna")
        self._context: SSL.Context = options.getContext()

    def clientConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """See L{IOpenSSLClientConnectionCreator}."""
        connection = SSL.Connection(self._context, None)
        if self._name is not None:
            connection.set_tlsext_host_name(self._name)
        return connection


def clientTLS(
    host: str,
    ca: str | None = None,
    insecure: bool = False,
    sni: str | None = None,
    cert: str | None = None,
    key: str | None = None,
    alpn: Sequence[str] = (),
    read: Read = readFile,
) -> IOpenSSLClientConnectionCreator:
    """
    Return the TLS of a client.

    @param host: the name or address of the server.
    @param ca: the file of the authorities that are trusted; C{None}: those of the system.
    @param insecure: whether the certificate of the server is not verified.
    @param sni: the name to send to the server and to verify instead of C{host}.
    @param cert: the file of the client's certificate, and of those between it and an
        authority; C{None}: the client has none.
    @param key: the file of the certificate's key; C{None}: the key is in the file of the
        certificate.
    @param alpn: the application protocols to offer (RFC 7301), the best one first.
    @param read: reads the files.
    @raise ValueError: if a file or a name is wrong.
    """
    if insecure and ca is not None:
        raise ValueError("ca: without verification, nothing is trusted")
    if cert is None and key is not None:
        raise ValueError("key: it needs the file of a certificate too")
    options: dict[str, Any] = {}
    identity = None
    if cert is not None:
        identity, between = _identity("cert", cert, "key", key, read)
        if between:
            options["extraCertChain"] = between
    protocols = [name.encode("ascii") for name in alpn] or None
    name = host if sni is None else sni
    numeric = isIPAddress(name) or isIPv6Address(name)
    try:
        if insecure:
            if sni is not None and (numeric or not sni):
                raise ValueError(f"sni: {sni!r} is not a name that a client can send")
            if identity is not None:
                options["privateKey"] = identity.privateKey.original
                options["certificate"] = identity.original
            made = CertificateOptions(acceptableProtocols=protocols, **options)
            return Unverified(None if numeric else name, made)
        trusted = (
            None if ca is None else trustRootFromCertificates(_certificates("ca", ca, read))
        )
        verified: IOpenSSLClientConnectionCreator = optionsForClientTLS(
            name,
            trustRoot=trusted,
            clientCertificate=identity,
            acceptableProtocols=protocols,
            extraCertificateOptions=options,
        )
        return verified
    except UnicodeError:
        # Of IDNA, whose errors have no text for a person.
        field = "host" if sni is None else "sni"
        raise ValueError(f"{field}: {name!r} is not the name of a host") from None


def serverTLS(
    cert: str, key: str | None = None, clientCA: str | None = None
) -> CertificateOptions:
    """
    Return the TLS of a server.

    @param cert: the file of the certificate, and of those between it and an authority.
    @param key: the file of its key; C{None}: the key is in the file of the certificate.
    @param clientCA: the file of the authorities whose certificates the clients must have;
        C{None}: clients need none.
    @raise ValueError: if a file is wrong.
    """
    identity, between = _identity("cert", cert, "key", key, readFile)
    options: dict[str, Any] = {}
    if clientCA is not None:
        options["trustRoot"] = trustRootFromCertificates(
            _certificates("clientCA", clientCA, readFile)
        )
    return CertificateOptions(
        privateKey=identity.privateKey.original,
        certificate=identity.original,
        extraCertChain=between,
        **options,
    )


def pemEndpoint(
    reactor: Any,
    port: str,
    *,
    backlog: int,
    interface: str,
    cert: str,
    key: str | None = None,
    clientCA: str | None = None,
) -> IStreamServerEndpoint:
    """
    Make the endpoint of a server with files. L{PEM_KIND} has its string.

    @raise ValueError: if a file is wrong.
    """
    options = serverTLS(cert, key, clientCA)
    acceptOffers(options.getContext())
    endpoint: IStreamServerEndpoint = SSL4ServerEndpoint(
        reactor, int(port), options, backlog, interface
    )
    return endpoint
