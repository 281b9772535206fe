"""
The process of a worker, as its supervisor sees it: forked by a fork server
(L{echofactory.net.forkserver}), with a pipe in each direction.
"""

import json
import os
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from echofactory.net.forkserver import ForkServer, request
from echofactory.server.workers.channel import OUT


class ProcessOwner(Protocol):
    """What a L{WorkerProcess} needs of its owner."""

    def dataReceived(self, data: bytes) -> None:
        """Called with what the process has written to its pipe."""

    def processEnded(self, how: str) -> None:
        """
        Called when the process has ended, and all that it wrote was received; or if it could
        not begin.

        @param how: for the log.
        """


class WorkerProcess:
    """
    The process of a worker.

    @ivar pid: its number; C{None}: it has not begun, or has ended.
    """

    def __init__(
        self,
        reactor: Any,
        server: ForkServer,
        inherited: Mapping[int, int],
        owner: ProcessOwner,
    ) -> None:
        """
        Ask the fork server for the process.

        @param inherited: descriptors that the process inherits, by their numbers there.
        @raise OSError: if it cannot be asked.
        """
        self.pid: int | None = None
        self._owner = owner
        self._server = server
        # How the process has ended.
        self._end: str | None = None
        self._pipes = _Pipes(self)
        self._channel = _Channel(self)
        factory = protocol.Factory.forProtocol(lambda: self._channel)
        factory.noisy = False
        with ExitStack() as stack:

            def pipe() -> tuple[int, int]:
                ends = os.pipe()
                for end in ends:
                    stack.callback(os.close, end)
                return ends

            itsInput, input_ = pipe()
            output, itsOutput = pipe()
            self._socket = stack.enter_context(server.begin())
            self._socket.setblocking(False)
            # The transport has a duplicate.
            reactor.adoptStreamConnection(self._socket.fileno(), socket.AF_UNIX, factory)
            stack.callback(self._channel.transport.abortConnection)
            # mypy takes the class of another platform.
            cast(Any, StandardIO)(self._pipes, stdin=output, stdout=input_, reactor=reactor)
            stack.pop_all()
        # What the process is to inherit, until it was sent.
        self._inherited = {0: itsInput, OUT: itsOutput}
        self._others = inherited

    def write(self, data: bytes) -> None:
        """Write to the process."""
        self._pipes.transport.write(data)

    def kill(self) -> None:
        """Kill the process. If the fork server has not forked it, the server is killed."""
        if self.pid is None:
            self._server.close()
        else:
            self._channel.transport.loseWriteConnection()

    def messageReceived(self, message: dict[str, Any]) -> None:
        """Handle a message of the fork server. An empty one: there is none any more."""
        if "ready" in message:
            self._sendRequest()
        elif "pid" in message:
            self.pid = message["pid"]
        elif "ended" in message:
            status = message["ended"]
            how = f"by signal {-status}" if status < 0 else f"with exit status {status}"
            self._ended(f"process {self.pid} ended {how}")
        else:
            number = message.get("error")
            self._lost(
                "no answer from the fork server" if number is None else os.strerror(number)
            )

    def _sendRequest(self) -> None:
        try:
            request(self._socket, {**self._inherited, **self._others})
        except OSError as error:
            self._lost(str(error.strerror))
        self._closeSent()

    def _lost(self, why: str) -> None:
        """The process was not started; or it has ended, because the fork server has."""
        if self.pid is None:
            self._ended(f"cannot start a process: {why}")
        else:
            self._ended(f"process {self.pid} ended with the fork server")
        # Where the kernel does not end the process, it finds that its pipe is closed.
        self._pipes.transport.loseConnection()

    def _closeSent(self) -> None:
        """Close what only the process needs."""
        if self._inherited:
            for descriptor in self._inherited.values():
                os.close(descriptor)
            self._inherited = {}
            self._socket.close()

    def _ended(self, how: str) -> None:
        if self._end is None:
            self._end = how
            self._closeSent()
            self.checkEnd()

    def dataReceived(self, data: bytes) -> None:
        """See L{ProcessOwner.dataReceived}."""
        self._owner.dataReceived(data)

    def checkEnd(self) -> None:
        """If the process has ended, and its pipe is empty, tell the owner."""
        if self._end is not None and not self._pipes.connected:
            self.pid = None
            self._channel.transport.loseConnection()
            self._owner.processEnded(self._end)


class _Pipes(protocol.Protocol):
    """The pipes of a process."""

    transport: Any

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    def dataReceived(self, data: bytes) -> None:
        self._process.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.connected = 0
        self._process.checkEnd()


class _Channel(LineOnlyReceiver):
    """The channel of a process."""

    delimiter = b"\n"
    transport: Any

    def __init__(self, process: WorkerProcess) -> None:
        self._process = process

    def lineReceived(self, line: bytes) -> None:
        self._process.messageReceived(json.loads(line))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._process.messageReceived({})
