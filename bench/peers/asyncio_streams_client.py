"""
A client on asyncio's streams: asyncio_streams_client.py PORT CONNECTIONS SIZE COUNT [uvloop].
"""

import asyncio
import sys

port, connections, size, count = map(int, sys.argv[1:5])
message = bytes(size)


async def client(reader, writer):
    for _ in range(count):
        writer.write(message)
        await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()


async def main():
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(connections)]
    await asyncio.gather(*(client(reader, writer) for reader, writer in streams))


if sys.argv[5:] == ["uvloop"]:
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
