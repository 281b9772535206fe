"""
A client as an asyncio Protocol: asyncio_client.py LOOP WHAT PORT CONNECTIONS SIZE COUNT, where
LOOP is asyncio or uvloop, and WHAT is tcp or tls. It verifies no certificate.
"""

import asyncio
import ssl
import sys

port, connections, size, count = map(int, sys.argv[3:])
message = bytes(size)


class Client(asyncio.Protocol):
    def __init__(self, done):
        self.received = 0
        self.left = count
        self.done = done

    def connection_made(self, transport):
        self.transport = transport
        transport.write(message)

    def data_received(self, data):
        self.received += len(data)
        if self.received == size:
            self.received = 0
            self.left -= 1
            if self.left:
                self.transport.write(message)
            else:
                self.transport.close()

    def connection_lost(self, error):
        self.done.set_result(None)


async def main():
    context = None
    if sys.argv[2] == "tls":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    loop = asyncio.get_running_loop()
    dones = [loop.create_future() for _ in range(connections)]
    for done in dones:
        await loop.create_connection(
            lambda done=done: Client(done), "127.0.0.1", port, ssl=context
        )
    await asyncio.gather(*dones)


if sys.argv[1] == "uvloop":
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
