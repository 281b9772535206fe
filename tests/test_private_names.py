"""
The private and undocumented names of Twisted and pyOpenSSL that the package uses: one list,
each name with its reason. A release can remove any of them without notice.
"""

import ast
import builtins
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from OpenSSL.SSL import TLS_METHOD, Connection, Context
from twisted.internet import tcp, udp, unix
from twisted.internet.abstract import FileDescriptor
from twisted.internet.base import ReactorBase
from twisted.internet.endpoints import SSL4ServerEndpoint, _WrappingProtocol
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactor
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.http import HTTPChannel

PACKAGE = Path(__file__).parent.parent / "echofactory"


class Name(NamedTuple):
    """
    A name that a module of the package uses.

    @ivar module: within the package.
    @ivar owner: the class of Twisted or pyOpenSSL; or what makes an instance, if only instances
        have the name.
    """

    module: str
    owner: Callable[..., Any]
    name: str
    reason: str


def descriptor() -> FileDescriptor:
    return FileDescriptor(MemoryReactor())


def udpPort() -> udp.Port:
    return udp.Port(0, DatagramProtocol())


def wrapping() -> _WrappingProtocol:
    return _WrappingProtocol(None, Protocol())


def tlsFactory() -> TLSMemoryBIOFactory:
    return TLSMemoryBIOFactory(CertificateOptions(), False, Factory(), clock=Clock())


def sslEndpoint() -> SSL4ServerEndpoint:
    return SSL4ServerEndpoint(MemoryReactor(), 0, CertificateOptions())


def handle() -> Connection:
    return Connection(Context(TLS_METHOD))


NAMES = [
    Name(
        "express.transports", descriptor, "_tempDataLen",
        "A write may go to the kernel immediately only if no byte is queued.",
    ),
    Name(
        "express.transports", FileDescriptor, "_writeDisconnected",
        "A write may go to the kernel only if the sending side is open.",
    ),
    Name(
        "express.transports", FileDescriptor, "_writeDisconnecting",
        "A write may go to the kernel only if the sending side is not about to close.",
    ),
    Name(
        "express.transports", tcp.Connection, "_aborting",
        "A write may go to the kernel only if abortConnection has not been called.",
    ),
    Name(
        "express.transports", FileDescriptor, "_maybePauseProducer",
        "If the kernel takes only part of a write, the producer may have to pause.",
    ),
    Name(
        "express.transports", tcp.Connector, "_makeTransport",
        "A connector makes its transport here.",
    ),
    Name(
        "express.transports", tcp.Server, "_addressType",
        "tcp.Server.__init__ sets it. TCPServer does not call that method, because it formats"
        " strings for the log.",
    ),
    Name(
        "express.transports", tcp.Server, "_getLogPrefix",
        "It makes the log prefix when the log asks for the prefix.",
    ),
    Name(
        "express.transports", tcp.Port, "_realPortNumber",
        "The repr of an accepted connection shows it.",
    ),
    Name(
        "express.unixtransports", unix.Connector, "_makeTransport",
        "A connector makes its transport here.",
    ),
    Name(
        "express.accepting", tcp.Port, "_buildAddr",
        "It makes the address object of an accepted connection.",
    ),
    Name(
        "express.ports", tcp.Port, "_fromListeningDescriptor",
        "It makes a port of a descriptor that listens already.",
    ),
    Name(
        "express.ports", unix.Port, "_fromListeningDescriptor",
        "It makes a port of a descriptor that listens already.",
    ),
    Name(
        "express.ports", tcp.Port, "_getLogPrefix",
        "An adopted UNIX port logs the name of its factory, as Twisted's ports do.",
    ),
    Name(
        "express.ports", tcp.Port, "_preexistingSocket",
        "It is set if another process made the socket.",
    ),
    Name(
        "express.accepting", tcp.Port, "_shouldShutdown",
        "It is false if another process made the socket.",
    ),
    Name(
        "express.ports", tcp.Port, "_shouldShutdown",
        "A stop serves the queue of a socket that processes share.",
    ),
    Name(
        "express.ports", tcp.Port, "_type",
        "listenSSL makes the port log the type TLS.",
    ),
    Name(
        "express.transports", tcp.Server, "_tlsClientDefault",
        "It says which side begins the handshake after startTLS.",
    ),
    Name(
        "express.tls", wrapping, "_wrappedProtocol",
        "An endpoint of a client has its wrapper between the transport and TLS.",
    ),
    Name(
        "express.tlssession", tlsFactory, "_creatorCallable",
        "It makes the connection of OpenSSL from the options, of whatever kind they are.",
    ),
    Name(
        "express.openssl", handle, "_ssl",
        "It is the argument of OpenSSL's functions.",
    ),
    Name(
        "express.openssl", handle, "_raise_ssl_error",
        "It turns a result of OpenSSL into pyOpenSSL's exception.",
    ),
    Name(
        "express.openssl", handle, "_socket",
        "pyOpenSSL asks it whether the connection has a socket.",
    ),
    Name(
        "express.openssl", handle, "_into_ssl",
        "It refers to a buffer that OpenSSL frees when the connection gets a socket.",
    ),
    Name(
        "express.openssl", handle, "_from_ssl",
        "It refers to a buffer that OpenSSL frees when the connection gets a socket.",
    ),
    Name(
        "net.endpoints", sslEndpoint, "_sslContextFactory",
        "The options of ssl: are made by Twisted, and refuse clients that offer protocols.",
    ),
    Name(
        "net.udp", udp.Port, "_bindSocket",
        "Twisted's method drops the scope of a link-local address, and would bind a connected"
        " socket again.",
    ),
    Name(
        "net.udp", udpPort, "_connectedAddr",
        "The socket is connected before Twisted has it.",
    ),
    Name(
        "net.udp", udp.Port, "_realPortNumber",
        "It is the port number that the system has chosen.",
    ),
    Name(
        "net.signals", ReactorBase, "_exitSignal",
        "twistd and twist end their process by this signal.",
    ),
    Name(
        "server.idle", descriptor, "_tempDataLen",
        "These bytes wait for the kernel. A connection is idle only if no byte moves.",
    ),
    Name(
        "client.stream", wrapping, "_wrappedProtocol",
        "The client's protocol takes the place of the wrapper that Twisted's endpoints make.",
    ),
    Name(
        "status.channel", HTTPChannel, "allHeadersReceived",
        "Twisted calls it when the head of a request is complete.",
    ),
    Name(
        "status.channel", HTTPChannel, "checkPersistence",
        "It decides whether the connection stays open for a second request.",
    ),
    Name(
        "status.channel", HTTPChannel, "length",
        "It is the number of bytes of the body that the channel waits for.",
    ),
]  # fmt: skip


def tree(module: str) -> ast.Module:
    return ast.parse(PACKAGE.joinpath(*module.split(".")).with_suffix(".py").read_text())


def mentioned(module: ast.Module) -> set[str]:
    """Return the names of attributes, methods and string constants of a module."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def made(module: ast.Module) -> set[str]:
    """Return the private names that a module makes: functions, classes and variables."""
    found = set()
    for node in ast.walk(module):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                found.add(name)
            case ast.ClassDef(name=name) | ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return found


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name.module}-{name.name}")
def test_twisted_has_it(name: Name) -> None:
    """If Twisted removes a name, the message says which module needs the name, and why."""
    assert hasattr(name.owner, name.name) or (
        not isinstance(name.owner, builtins.type) and hasattr(name.owner(), name.name)
    ), (
        f"Twisted {version('twisted')} or pyOpenSSL {version('pyopenssl')} does not have"
        f" {name.owner.__name__}.{name.name}, which echofactory.{name.module} uses:"
        f" {name.reason}"
    )


@pytest.mark.parametrize("name", NAMES, ids=lambda name: f"{name.module}-{name.name}")
def test_the_module_uses_it(name: Name) -> None:
    """A name that its module no longer uses does not stay in the list."""
    assert name.name in mentioned(tree(name.module)), f"{name.module} does not use {name.name}"


def test_the_list_is_complete() -> None:
    """
    Every private attribute that a module uses is made in the package, or stands in the list.
    """
    modules = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): ast.parse(path.read_text())
        for path in PACKAGE.rglob("*.py")
    }
    ours = set().union(*map(made, modules.values()))
    # NamedTuple and the standard library's ctypes.Structure have these.
    ours |= {"_fields", "_fields_", "_asdict", "_replace", "_make"}
    listed = {(name.module, name.name) for name in NAMES}
    missing = [
        f"{module}: {node.attr}"
        for module, parsed in sorted(modules.items())
        for node in ast.walk(parsed)
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr not in ours
        and (module, node.attr) not in listed
    ]
    assert not missing, missing
