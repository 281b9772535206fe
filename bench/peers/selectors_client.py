"""
The tutorial's client on selectors, without its prints, one message outstanding on
each connection: selectors_client.py PORT CONNECTIONS SIZE COUNT.
"""

import selectors
import socket
import sys
import types

port, connections, size, count = map(int, sys.argv[1:])
message = bytes(size)
sel = selectors.DefaultSelector()

for _ in range(connections):
    sock = socket.socket()
    sock.setblocking(False)
    sock.connect_ex(("127.0.0.1", port))
    data = types.SimpleNamespace(received=0, left=count, outb=message)
    sel.register(sock, selectors.EVENT_READ | selectors.EVENT_WRITE, data=data)

while sel.get_map():
    for key, mask in sel.select():
        sock, data = key.fileobj, key.data
        if mask & selectors.EVENT_READ:
            data.received += len(sock.recv(1024))
            if data.received == size:
                data.received = 0
                data.left -= 1
                data.outb = message
                if not data.left:
                    sel.unregister(sock)
                    sock.close()
                    continue
        if mask & selectors.EVENT_WRITE and data.outb:
            sent = sock.send(data.outb)
            data.outb = data.outb[sent:]
