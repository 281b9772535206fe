"""
An echo server whose network loses one in so many of the segments that it receives:
a filter of the kernel's, on the connection's own socket, drops them, as if they
had never come.

    python lossy_server.py ONE_IN

The filter is of the classic kind (linux/filter.h, socket(7): SO_ATTACH_FILTER); it
takes a random number from the kernel (SKF_AD_RANDOM), and passes on no byte of the
segment where that is below a bound.
"""

import ctypes
import socket
import struct
import sys
import threading

SO_ATTACH_FILTER = 26
_LOAD_RANDOM = (0x20, 0, 0, 0xFFFFF000 + 56)
_DROP = (0x06, 0, 0, 0)
_PASS = (0x06, 0, 0, 0x40000)


def loseOneIn(connection: socket.socket, oneIn: int) -> None:
    # Below the bound: on to the next instruction; otherwise skip it.
    compare = (0x35, 1, 0, (1 << 32) // oneIn)
    code = b"".join(
        struct.pack("HBBI", *each) for each in (_LOAD_RANDOM, compare, _DROP, _PASS)
    )
    held = ctypes.create_string_buffer(code, len(code))
    program = struct.pack("HP", len(code) // 8, ctypes.addressof(held))
    connection.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def serve(connection: socket.socket, oneIn: int) -> None:
    with connection:
        loseOneIn(connection, oneIn)
        while data := connection.recv(1 << 16):
            connection.sendall(data)


def main(oneIn: str) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        print("listening on", listening.getsockname()[1], flush=True)
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=serve, args=(connection, int(oneIn)), daemon=True).start()


main(*sys.argv[1:])
