"""
A TCP port that several processes share.

One process binds a socket of the port for each of them (C{SO_REUSEPORT}), and all of them
inherit all of the sockets. The kernel distributes the connections over the sockets that listen,
and each process accepts from its own. If a process has no room, it leaves its queue alone, and
the others accept from its socket.

So no connection is lost that another process could serve. If the process closed its socket
instead, the kernel would reset the connections in the queue. The process has no descriptors to
accept them first. The kernel would also reset those whose handshake is under way. A classic BPF
program (C{SO_ATTACH_REUSEPORT_CBPF}) could choose another socket for new connections. It would
leave those in the queue where they are.
"""

import socket
from collections.abc import Collection, Sequence
from typing import Any, Protocol

from twisted.python.failure import Failure


class Gate(Protocol):
    """Decides whether a process takes connections."""

    def mayAccept(self) -> bool:
        """Return whether to accept; C{False}: the connections wait for another process."""

    def filled(self) -> None:
        """Called when the process cannot serve another connection."""

    def freed(self) -> None:
        """Called when a connection has been closed."""


class _Queue:
    """The queue of another process's socket, which a port accepts from."""

    def __init__(self, port: Any, listening: socket.socket) -> None:
        self._port = port
        self._listening = listening
        self.fileno = listening.fileno

    def doRead(self) -> None:
        """Accept some connections."""
        self._port.acceptSome(self._listening)

    def logPrefix(self) -> str:
        """See L{ILoggingContext<twisted.internet.interfaces.ILoggingContext>}."""
        prefix: str = self._port.logPrefix()
        return prefix

    def connectionLost(self, reason: Failure) -> None:
        """The reactor has stopped. The port closes the socket."""


class SharedPort:
    """
    The sockets of a port that processes share, as one of these processes has them.

    @ivar gate: decides whether this process takes connections.
    """

    def __init__(self, sockets: Sequence[socket.socket], own: int, gate: Gate) -> None:
        """
        @param sockets: one for each process, bound to the same address. They do not block.
        @param own: index of this process's socket.
        @param gate: decides whether this process takes connections.
        """
        self.gate = gate
        self._sockets = list(sockets)
        self._own = own
        self._reading = {own}
        self._port: Any = None
        self._readers: list[Any] = []

    @property
    def number(self) -> int:
        """The port number."""
        number: int = self._sockets[self._own].getsockname()[1]
        return number

    @property
    def ownSocket(self) -> socket.socket:
        """This process's socket."""
        return self._sockets[self._own]

    def begin(self, port: Any) -> None:
        """
        Serve the queue of this process's socket.

        @param port: a port that listens on that socket, and reads.
        """
        self._port = port
        self._sockets[self._own] = port.socket
        self._readers = [_Queue(port, listening) for listening in self._sockets]
        self._readers[self._own] = port

    def serve(self, queues: Collection[int]) -> None:
        """
        Serve these queues, and no others.

        @param queues: indexes of sockets that listen.
        """
        if self._port is None or self._port.disconnecting:
            # A stop serves the queues that were served before.
            return
        for index, reader in enumerate(self._readers):
            if index in queues and index not in self._reading:
                self._port.reactor.addReader(reader)
            elif index in self._reading and index not in queues:
                self._port.reactor.removeReader(reader)
        self._reading = set(queues)

    def queues(self) -> list[socket.socket]:
        """Return the sockets whose queues this process serves."""
        return [self._sockets[index] for index in sorted(self._reading)]

    def close(self) -> None:
        """Close the sockets. The port closes its own."""
        port, self._port = self._port, None
        for index, reader in enumerate(self._readers):
            if index != self._own:
                port.reactor.removeReader(reader)
                self._sockets[index].close()
