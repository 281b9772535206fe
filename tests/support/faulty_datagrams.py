"""
An echo over UDP that misbehaves: for each message, by its number and a seed, it echoes,
loses, repeats, holds back until the next one that it echoes, or alters the reply.

    python faulty_datagrams.py SEED LAST

@var LAST: the number of the message that is always echoed, with what was held back
    after it.
"""

import random
import socket
import struct
import sys
from collections import defaultdict

ECHO, LOSE, REPEAT, HOLD, ALTER = range(5)
FLIPPED = 40
"""The offset of the byte that is altered."""


def fate(seed: int, last: int, connection: int, message: int) -> int:
    """Return what becomes of a message."""
    if message >= last:
        return ECHO
    chosen = random.Random(f"{seed} {connection} {message}").random()
    return int(chosen * 20) if chosen < 0.25 and chosen >= 0.05 else ECHO


def altered(data: bytes) -> bytes:
    return data[:FLIPPED] + bytes([data[FLIPPED] ^ 0x10]) + data[FLIPPED + 1 :]


def main(seed: int, last: int) -> None:
    held: dict[object, list[bytes]] = defaultdict(list)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as serving:
        serving.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        serving.bind(("127.0.0.1", 0))
        print("listening on", serving.getsockname()[1], flush=True)
        while True:
            data, peer = serving.recvfrom(1 << 16)
            connection, message = struct.unpack_from(">II", data)
            what = fate(seed, last, connection, message)
            if what == HOLD:
                held[peer].append(data)
            elif what == ALTER:
                serving.sendto(altered(data), peer)
            elif what == REPEAT:
                serving.sendto(data, peer)
                serving.sendto(data, peer)
            elif what == ECHO:
                for each in (data, *held.pop(peer, ())):
                    serving.sendto(each, peer)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
