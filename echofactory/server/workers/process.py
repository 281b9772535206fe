"""
The process of a worker, as its supervisor sees it: forked by a fork server
(L{echofactory.net.forkserver}), with a pipe in each direction.
"""

import json
import os
import socket
from collections.abc import Mapping
from typing import Any, Protocol, cast

from twisted.internet import protocol
from twisted.internet.protocol import connectionDone
from twisted.internet.stdio import StandardIO
from twisted.protocols.basic import LineOnlyReceiver
from twisted.python.failure import Failure

from echofactory.net.forkserver import ForkServer, endOf
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
        Have it forked.

        @param inherited: descriptors that the process inherits, by their numbers there.
        @raise OSError: if it cannot be.
        """
        self.pid: int | None = None
        self._owner = owner
        self._how: str | None = None
        self._pipes = _Pipes(self)
        self._channel = _Channel(self)
        itsInput, input_ = os.pipe()
        output, itsOutput = os.pipe()
        try:
            channel = server.begin({0: itsInput, OUT: itsOutput, **inherited})
        except OSError:
            os.close(input_)
            os.close(output)
            raise
        finally:
            os.close(itsInput)
            os.close(itsOutput)
        with channel:
            factory = protocol.Factory.forProtocol(lambda: self._channel)
            factory.noisy = False
            channel.setblocking(False)
            reactor.adoptStreamConnection(channel.fileno(), socket.AF_UNIX, factory)
        # mypy takes the class of another platform.
        cast(Any, StandardIO)(self._pipes, stdin=output, stdout=input_, reactor=reactor)

    def write(self, data: bytes) -> None:
        """Write to the process."""
        self._pipes.transport.write(data)

    def kill(self) -> None:
        """Kill the process. The fork server does it when the channel is closed."""
        self._channel.transport.abortConnection()

    def told(self, message: dict[str, Any]) -> None:
        """Handle a message of the fork server; none: it has ended, or the channel is closed."""
        if "pid" in message:
            self.pid = message["pid"]
        elif self._how is None:
            status = endOf(message)
            if "error" in message:
                self._how = f"cannot start a process: {os.strerror(message['error'])}"
            elif self.pid is None:
                self._how = "cannot start a process: the fork server has ended"
            elif status < 0:
                self._how = f"process {self.pid} ended by signal {-status}"
            else:
                self._how = f"process {self.pid} ended with exit status {status}"
            self.checkEnd()

    def dataReceived(self, data: bytes) -> None:
        """See L{ProcessOwner.dataReceived}."""
        self._owner.dataReceived(data)

    def checkEnd(self) -> None:
        """If the process has ended, and its pipe is empty, tell the owner."""
        if self._how is not None and not self._pipes.connected:
            self.pid = None
            self._channel.transport.loseConnection()
            self._owner.processEnded(self._how)


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
        self._process.told(json.loads(line))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._process.told({})
