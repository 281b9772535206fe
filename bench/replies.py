"""
What web servers are asked, and how long their replies are: the load only counts bytes.
"""

import os
import re
import socket
from io import BufferedReader

from bench.processes import Server

_LIMIT = 10.0
"""Seconds for a reply."""

GREETING = (
    "GET / HTTP/1.1\r\n"
    "Host: bench\r\n"
    "Upgrade: websocket\r\n"
    "Connection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    "Sec-WebSocket-Version: 13\r\n"
    "\r\n"
)
"""What opens a WebSocket. The key is the example of RFC 6455."""

_PAYLOAD = b"efghijklmnopqrstuvwxyz" * 2 + b"efghijklmnopqrstuvwx"
# A byte of the payload equals none of the mask, because an argument cannot have a null byte.
_MASK = b"abcd" * (len(_PAYLOAD) // 4)
_FRAME = (
    b"\x82%c" % (0x80 | len(_PAYLOAD))
    + _MASK[:4]
    + bytes(byte ^ mask for byte, mask in zip(_PAYLOAD, _MASK, strict=True))
)
_ECHOED = b"\x82%c" % len(_PAYLOAD) + _PAYLOAD

MESSAGE = os.fsdecode(_FRAME)
"""A WebSocket message of 64 bytes, as an argument of a command line. It is masked, as those of
all clients are."""

MESSAGE_REPLY = len(_ECHOED)
"""Bytes of its echo, which is not masked."""


def request(path: str) -> str:
    """Return a request for a page, which leaves the connection open."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n"


def pageSize(server: Server, asked: str) -> int:
    """
    Return how many bytes a web server answers a request with.

    @raise RuntimeError: if it does not answer with a page.
    """
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=_LIMIT) as connection,
        connection.makefile("rb") as replies,
    ):
        connection.sendall(asked.encode())
        reply = _head(server, replies, b"HTTP/1.1 200 ")
        length = re.search(rb"(?im)^content-length: *(\d+)", reply)
        if length is not None:
            return len(reply) + int(length[1])
        # It is chunked, and the last chunk is empty.
        while not reply.endswith(b"\r\n0\r\n\r\n"):
            reply += _line(server, replies)
        return len(reply)


def greetingSize(server: Server) -> int:
    """
    Return how many bytes a WebSocket server answers L{GREETING} with.

    @raise RuntimeError: if it does not, or does not echo L{MESSAGE}.
    """
    with (
        socket.create_connection(("127.0.0.1", server.port), timeout=_LIMIT) as connection,
        connection.makefile("rb") as replies,
    ):
        connection.sendall(GREETING.encode())
        size = len(_head(server, replies, b"HTTP/1.1 101 "))
        connection.sendall(_FRAME)
        if replies.read(len(_ECHOED)) != _ECHOED:
            raise RuntimeError(f"does not echo: {server.command}")
        return size


def _head(server: Server, replies: BufferedReader, status: bytes) -> bytes:
    head = _line(server, replies)
    if not head.startswith(status):
        raise RuntimeError(f"answers {head!r}: {server.command}")
    while not head.endswith(b"\r\n\r\n"):
        head += _line(server, replies)
    return head


def _line(server: Server, replies: BufferedReader) -> bytes:
    line = replies.readline()
    if not line:
        raise RuntimeError(f"ends its reply early: {server.command}")
    return line
