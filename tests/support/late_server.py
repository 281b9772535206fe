"""
An echo server that keeps each message for some time, to the tenth of a
millisecond, and can alter one byte; a thread for each connection.

    python late_server.py MILLISECONDS [OFFSET]

@var OFFSET: of the byte to alter, of all those of the second connection.
"""

import socket
import sys
import threading
import time


def serve(connection: socket.socket, seconds: float, alter: int | None) -> None:
    with connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        at = 0
        while data := bytearray(connection.recv(1 << 16)):
            if alter is not None and at <= alter < at + len(data):
                data[alter - at] ^= 0x20
            at += len(data)
            time.sleep(seconds)
            connection.sendall(data)


def main(milliseconds: str, offset: str | None = None) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        print("listening on", listening.getsockname()[1], flush=True)
        number = 0
        while True:
            connection, _ = listening.accept()
            number += 1
            alter = int(offset) if offset is not None and number == 2 else None
            threading.Thread(
                target=serve, args=(connection, float(milliseconds) / 1000, alter), daemon=True
            ).start()


main(*sys.argv[1:])
