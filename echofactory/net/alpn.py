"""
Application protocols (ALPN, RFC 7301) of servers over TLS.

If a client offers application protocols, Twisted's servers refuse it, unless the factory
names one of them (L{IProtocolNegotiationFactory}). An echo has no application protocol. Its
server goes on without one, as RFC 7301 says of a server that does not know the extension.
"""

from collections.abc import Sequence

from OpenSSL.SSL import NO_OVERLAPPING_PROTOCOLS, Connection, Context
from twisted.internet.endpoints import TCP6ServerEndpoint, wrapServerTLS
from twisted.internet.interfaces import (
    IProtocolNegotiationFactory,
    IReactorTCP,
    IStreamServerEndpoint,
)
from twisted.internet.ssl import CertificateOptions
from twisted.protocols._sni import PEMObjects, SNIConnectionCreator
from twisted.python.filepath import FilePath


def _select(connection: Connection, offered: Sequence[bytes]) -> object:
    """
    Return the first protocol of the factory that the client offers. If there is none, return
    C{b""}, which refuses the client.
    """
    factory = IProtocolNegotiationFactory(
        connection.get_app_data().factory.wrappedFactory, None
    )
    if factory is None:
        return NO_OVERLAPPING_PROTOCOLS
    return next((each for each in factory.acceptableProtocols() if each in offered), b"")


def acceptOffers(context: Context) -> Context:
    """
    Let a server without application protocols accept clients that offer some.

    @param context: has no connection yet.
    @return: the context.
    """
    # pyOpenSSL's annotation lacks the class of NO_OVERLAPPING_PROTOCOLS.
    context.set_alpn_select_callback(_select)  # type: ignore[arg-type]
    return context


class CertificateDirectory:
    """
    The certificates and keys in the C{.pem} files of a directory, by server name. The directory
    is read once.
    """

    def __init__(self, path: str) -> None:
        """
        @raise OSError: if the directory or a file cannot be read.
        """
        self._path = FilePath(path)
        self._byName = self._read()

    def _read(self) -> dict[str, CertificateOptions]:
        byName = PEMObjects.fromDirectory(self._path).inferDomainMapping()
        for options in {id(each): each for each in byName.values()}.values():
            acceptOffers(options.getContext())
        return byName

    def __call__(self, name: bytes | None) -> Context | None:
        """
        Return the context for a server name.

        @param name: C{None}: the client has sent no name. It gets the first certificate.
        """
        if not name:
            name = next(iter(self._byName), "").encode()
        options = self._byName.get(name.decode())
        return None if options is None else options.getContext()


def tlsEndpoint(
    reactor: IReactorTCP,
    path: str,
    port: str = "443",
    backlog: str = "50",
    interface: str = "::",
) -> IStreamServerEndpoint:
    """
    Make the endpoint of C{tls:}. The parameters are those of Twisted's.

    @param path: the directory with the certificates.
    """
    endpoint: IStreamServerEndpoint = wrapServerTLS(
        SNIConnectionCreator(CertificateDirectory(path)),
        TCP6ServerEndpoint(reactor, int(port), int(backlog), interface),
    )
    return endpoint
