"""
A fork server: a process that imports a module once, and then forks itself for each process that
its owner asks for. Such a process starts within milliseconds, and shares the memory of what was
imported: it takes 4 MiB of its own instead of 32 MiB. (The C{multiprocessing} of Python has a
fork server, too. But a worker of Dask may not use it, and it imports the owner's main module.)

C{python -m echofactory.net.forkserver MODULE:FUNCTION} is the server. Its standard input is a
socket. For each process, the owner sends one end of another socket over it: the I{channel} of
the process. The server answers over the channel with lines of JSON:

 - C{{"ready": true}}: it has the channel, and waits for the request (L{request}), with the
   descriptors that the process inherits. They are not sent before, because the kernel limits
   how many descriptors are under way.
 - C{{"pid": number}}: the process has begun; or C{{"error": number}}: it cannot.
 - C{{"ended": status}}: it has ended, with this exit status, or by the signal C{-status}.

If the owner ends its side of the channel, the server kills the process. Nobody else does,
because the number of a process that has ended is free for another one. If the owner ends, for
any reason, the server kills its processes, and ends. If the server is killed, its processes end
(Linux: L{dieWithParent}).

Outside this package, the module imports nothing but the standard library, because a worker of
Dask imports it.
"""

import fcntl
import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from subprocess import Popen, TimeoutExpired
from typing import Any, NamedTuple

from echofactory.net.processes import STOP_SIGNALS, dieWithParent

_SIZE = 4
"""Bytes of the number before a request, which is its length."""

_MOST = 250
"""Descriptors in a message. Linux takes 253 (C{SCM_MAX_FD})."""

_END_S = 1.0
"""Seconds that a server has to end by itself."""


class ForkServer:
    """
    The owner's side.

    The kernel ends the server when the I{thread} ends that has made it (Linux).

    @ivar process: the server.
    """

    def __init__(self, function: str) -> None:
        """
        Start the server. Processes can be asked for while it still imports the module.

        @param function: C{MODULE:FUNCTION}: what each process calls, with L{STOP_SIGNALS}
            ignored.
        @raise OSError: if it cannot be started.
        """
        self._control, theirs = socket.socketpair()
        # A terminal can send a signal to all processes, before the new one ignores it. A
        # process begins with the mask of the thread that starts it.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        try:
            with theirs:
                self.process = Popen(
                    [sys.executable, "-P", "-m", __name__, function], stdin=theirs.fileno()
                )
        except OSError:
            self._control.close()
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # The owner must not wait for a server that does not read.
        self._control.setblocking(False)

    @property
    def lives(self) -> bool:
        """Whether the server has not ended."""
        return self.process.poll() is None

    def begin(self) -> socket.socket:
        """
        Ask for a process.

        @return: its channel. L{request} has to follow when the server is ready.
        @raise OSError: if the server has ended, or there are too many open descriptors.
        """
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"x"], [theirs.fileno()])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the server, and its processes with it."""
        self._control.close()
        try:
            self.process.wait(_END_S)
        except TimeoutExpired:
            self.process.kill()
            self.process.wait()


def request(
    channel: socket.socket, descriptors: Mapping[int, int], arguments: Sequence[str] = ()
) -> None:
    """
    Say what a process is to be.

    @param descriptors: that it inherits, by their numbers there. It inherits the standard
        output and error of the server, too.
    @param arguments: its C{sys.argv}, without the first item.
    @raise OSError: if it cannot be sent.
    """
    text = json.dumps({"descriptors": list(descriptors), "arguments": list(arguments)}).encode()
    channel.sendall(len(text).to_bytes(_SIZE) + text)
    sent = list(descriptors.values())
    for first in range(0, len(sent), _MOST):
        socket.send_fds(channel, [b"x"], sent[first : first + _MOST])


class ForkedProcess:
    """
    A process of a fork server, for an owner that waits.

    @ivar pid: its number.
    """

    def __init__(
        self,
        server: ForkServer,
        descriptors: Mapping[int, int],
        arguments: Sequence[str] = (),
    ) -> None:
        """
        Start the process. The parameters are those of L{request}.

        @raise OSError: if it cannot begin.
        """
        self.channel = server.begin()
        # Without a buffer, the channel is readable exactly if there is another line.
        self._lines = self.channel.makefile("rb", buffering=0)
        self._status: int | None = None
        try:
            message = self._message()
            if message:
                request(self.channel, descriptors, arguments)
                message = self._message()
            if "error" in message:
                raise OSError(message["error"], os.strerror(message["error"]))
            if "pid" not in message:
                raise OSError("no answer from the fork server")
        except OSError:
            self.close()
            raise
        self.pid = message["pid"]

    def _message(self) -> dict[str, int]:
        """Return the next message. If there is none, because the server has ended: C{{}}."""
        message: dict[str, int] = {}
        with suppress(ConnectionError):
            message = json.loads(self._lines.readline() or b"{}")
        return message

    def kill(self) -> None:
        """Have it killed with SIGKILL."""
        # It can have ended, or be forgotten.
        with suppress(OSError):
            self.channel.shutdown(socket.SHUT_WR)

    def wait(self) -> int:
        """Wait for its end, and return its exit status, or the negative number of a signal."""
        if self._status is None:
            # Without a message, the server was killed, and its processes with it.
            self._status = self._message().get("ended", -signal.SIGKILL)
        return self._status

    def close(self) -> None:
        """Forget it. If it has not ended, it is killed."""
        self._lines.close()
        self.channel.close()


# The server's side


class _BrokenRequest(Exception):
    """The owner has not sent all of it, or this process has no free descriptor."""


class _Request(NamedTuple):
    arguments: list[str]
    descriptors: dict[int, int]


def _read(channel: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        received = channel.recv(size - len(data))
        if not received:
            raise _BrokenRequest
        data += received
    return data


def _requested(channel: socket.socket) -> _Request:
    """
    Read a request.

    @raise _BrokenRequest: if there is none.
    """
    size = int.from_bytes(_read(channel, _SIZE))
    asked = json.loads(_read(channel, size))
    numbers = asked["descriptors"]
    received: list[int] = []
    while len(received) < len(numbers):
        _, more, _, _ = socket.recv_fds(channel, 1, _MOST)
        received += more
        if len(received) < len(numbers) and len(more) < _MOST:
            for each in received:
                os.close(each)
            raise _BrokenRequest
    return _Request(asked["arguments"], dict(zip(numbers, received, strict=True)))


def _tell(channel: socket.socket, **message: int) -> None:
    with suppress(OSError):
        channel.sendall(json.dumps(message).encode() + b"\n")


def _inherit(descriptors: Mapping[int, int]) -> None:
    """Give descriptors the numbers under which this process expects them."""
    free = max(descriptors, default=0) + 1
    # One after the other: a number can be that of a descriptor whose turn comes later.
    moved = {
        number: fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, free)
        for number, descriptor in descriptors.items()
    }
    for descriptor in descriptors.values():
        os.close(descriptor)
    for number, descriptor in moved.items():
        os.dup2(descriptor, number)
        os.close(descriptor)


class _Server:
    """Forks a process for each request."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        # The channel of each process that runs.
        self._channels: dict[int, socket.socket] = {}
        # Not epoll: the processes would share it.
        self._selector = selectors.PollSelector()
        self._woken, self._wakeup = socket.socketpair()
        self._woken.setblocking(False)
        self._wakeup.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._woken, selectors.EVENT_READ)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)

    def serve(self) -> list[str]:
        """
        Serve until the owner has ended, which ends this process.

        @return: in a process that was forked: its arguments.
        """
        while True:
            for key, _ in self._selector.select():
                sock: Any = key.fileobj
                if sock is self._control:
                    arguments = self._accept()
                    if arguments is not None:
                        return arguments
                elif sock is self._woken:
                    sock.recv(1 << 16)
                    self._reap()
                else:
                    # The owner has ended its side. The end of the process is told later.
                    self._selector.unregister(sock)
                    os.kill(key.data, signal.SIGKILL)

    def _accept(self) -> list[str] | None:
        """
        Fork a process.

        @return: its arguments, if this is the process.
        """
        data, received, _, _ = socket.recv_fds(self._control, 1, 1)
        if not data:
            self._end()
        if not received:
            # No descriptor is free. The owner finds the channel at its end.
            return None
        channel = socket.socket(fileno=received[0])
        _tell(channel, ready=True)
        try:
            request = _requested(channel)
        except (_BrokenRequest, OSError):
            channel.close()
            return None
        try:
            pid = os.fork()
        except OSError as error:
            pid = -1
            _tell(channel, error=error.errno or 0)
        if not pid:
            self._leave()
            channel.close()
            _inherit(request.descriptors)
            return request.arguments
        for descriptor in request.descriptors.values():
            os.close(descriptor)
        if pid < 0:
            channel.close()
        else:
            _tell(channel, pid=pid)
            self._channels[pid] = channel
            self._selector.register(channel, selectors.EVENT_READ, pid)
        return None

    def _leave(self) -> None:
        """Close what is the server's, in a process that was forked."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._control, self._woken, self._wakeup, *self._channels.values()):
            each.close()

    def _reap(self) -> None:
        """Tell of the processes that have ended."""
        for pid, channel in list(self._channels.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._channels[pid]
                if channel in self._selector.get_map():
                    self._selector.unregister(channel)
                _tell(channel, ended=os.waitstatus_to_exitcode(status))
                channel.close()

    def _end(self) -> None:
        """Kill the processes, and end this one."""
        for pid in self._channels:
            os.kill(pid, signal.SIGKILL)
        for pid in self._channels:
            os.waitpid(pid, 0)
        os._exit(0)


def main() -> None:
    """Serve; in each process that is forked, call the function."""
    dieWithParent()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    module, _, name = sys.argv[1].partition(":")
    function: Callable[[], None] = getattr(import_module(module), name)
    # Each process would write what is in the buffers.
    sys.stdout.flush()
    sys.stderr.flush()
    # A search for garbage would write to the objects that all processes share.
    gc.collect()
    gc.freeze()
    server = os.getpid()
    sys.argv[1:] = _Server(socket.socket(fileno=0)).serve()
    dieWithParent()
    if os.getppid() != server:
        # It was killed before the kernel knew.
        os._exit(1)
    function()


if __name__ == "__main__":
    main()
