"""
What the tests of UDP share.
"""

import json
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from peers import portOf
from programs import LIMIT, Program, client, multiecho
from schema import validate
from twisted.internet.defer import Deferred
from twisted.internet.defer import ensureDeferred as ensure

from echofactory import (
    EchoClientFactory,
    EchoFactory,
    EchoService,
    Patience,
    Results,
    Workload,
)


def datagramSocket(address: tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.settimeout(LIMIT)
    made.bind(address)
    return made


def ask(peer: socket.socket, data: bytes, to: tuple[str, int]) -> bytes:
    """Send a datagram, and return the one that comes back."""
    peer.sendto(data, to)
    return peer.recv(1 << 16)


@contextmanager
def echoingOverUDP(*arguments: str) -> Iterator[tuple[Program, int]]:
    """Run C{twistd multiecho --udp 127.0.0.1:0}; return it and the port."""
    listen = ["127.0.0.1", "0", "--udp", "127.0.0.1:0"]
    with multiecho(*listen, "--trace", "none", *arguments) as (server, _):
        match = server.waitFor(r"listening on udp 127\.0\.0\.1:(\d+)$")
        yield server, int(match[1])


def forRoot() -> None:
    """Skip what only root may do, except where that would hide that it is not done."""
    if os.geteuid() != 0 and "CI" not in os.environ:
        pytest.skip("only root binds a port below 1024, or forges a datagram")


@asynccontextmanager
async def serving(
    reactor: Any, host: str = "127.0.0.1", number: int = 0, **settings: Any
) -> AsyncIterator[tuple[EchoService, int]]:
    """Echo over UDP in this process; the service and the port."""
    service = EchoService(reactor, [], EchoFactory(), datagrams=[(host, number)], **settings)
    service.startService()
    try:
        yield service, portOf(service.addresses[0])
    finally:
        await service.stopService()


def number(value: int) -> bytes:
    return struct.pack("=i", value)


def measured(*arguments: str) -> tuple[Program, Any]:
    """Run the client; return it and its JSON."""
    done = client(*arguments, "--json", "-")
    return done, validate(json.loads("\n".join(done.out)))


@contextmanager
def answering(*answers: Sequence[int]) -> Iterator[tuple[str, list[bytes]]]:
    """
    Run, in a thread, a peer that answers the datagrams of one socket in this order.

    @param answers: for each that comes, the numbers of those to send back.
    @return: its endpoint, and the datagrams that it has dealt with so far.
    """
    peer = datagramSocket()
    dealtWith: list[bytes] = []

    def serve() -> None:
        came = []
        for each in answers:
            data, address = peer.recvfrom(1 << 16)
            came.append(data)
            for number in each:
                peer.sendto(came[number - 1], address)
            dealtWith.append(data)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"udp:127.0.0.1:{peer.getsockname()[1]}", dealtWith
    finally:
        # A test that failed has not sent all that the peer waits for.
        with datagramSocket() as other:
            for _ in answers:
                other.sendto(b"", peer.getsockname())
        thread.join()
        peer.close()


HASTY = Patience(reply=0.3)
"""Less than a message is lost for, by a fake clock."""


def begun(
    fake: Any, target: str, workload: Workload, connections: int = 1
) -> tuple[EchoClientFactory, Deferred[Results]]:
    """Begin a run whose time is that of the fake clock."""
    factory = EchoClientFactory(fake, workload, connections, HASTY, clock=fake.ns)
    return factory, ensure(factory.run(target))
