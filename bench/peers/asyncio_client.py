"""A client as an asyncio Protocol: asyncio_client.py PORT CONNECTIONS SIZE COUNT [uvloop]."""

import asyncio
import sys

port, connections, size, count = map(int, sys.argv[1:5])
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
    loop = asyncio.get_running_loop()
    dones = [loop.create_future() for _ in range(connections)]
    for done in dones:
        await loop.create_connection(lambda done=done: Client(done), "127.0.0.1", port)
    await asyncio.gather(*dones)


if sys.argv[5:] == ["uvloop"]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
