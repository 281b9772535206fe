"""The tutorial's echo server on selectors, without its prints: selectors_server.py PORT."""

import selectors
import socket
import sys
import types

sel = selectors.DefaultSelector()


def accept(listening):
    conn, addr = listening.accept()
    conn.setblocking(False)
    data = types.SimpleNamespace(addr=addr, outb=b"")
    sel.register(conn, selectors.EVENT_READ | selectors.EVENT_WRITE, data=data)


def service(key, mask):
    sock, data = key.fileobj, key.data
    if mask & selectors.EVENT_READ:
        received = sock.recv(1024)
        if received:
            data.outb += received
        else:
            sel.unregister(sock)
            sock.close()
            return
    if mask & selectors.EVENT_WRITE and data.outb:
        sent = sock.send(data.outb)
        data.outb = data.outb[sent:]


listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
listening.setblocking(False)
sel.register(listening, selectors.EVENT_READ, data=None)
while True:
    for key, mask in sel.select(timeout=None):
        if key.data is None:
            accept(key.fileobj)
        else:
            service(key, mask)
