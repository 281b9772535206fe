"""
A fork server: a process that imports a module once, and then forks itself for each process that
its owner asks for. Such a process starts within milliseconds, and shares the memory of what was
imported: it takes 4 MiB of its own instead of 32 MiB. (The C{multiprocessing} of Python has a
fork server, too. But a worker of Dask may not use it, and it imports the owner's main module.)

C{python -m echofactory.net.forkserver MODULE:FUNCTION} is the server. Its standard input is a
socket. For each process, the owner sends one end of another socket, the I{channel} of the
process, over it. Over the channel go a request, and the descriptors that the process inherits,
one by one; and back come lines of JSON:

 - C{{"pid": number}}: the process has begun; or C{{"error": number}}: it cannot.
 - C{{"ended": status}}: it has ended, with this exit status, or by the signal C{-status}.

When the owner closes the channel, the process is killed. If the owner ends, for any reason, the
fork server ends, and its processes with it (Linux: L{dieWithParent}).

It imports nothing but the standard library, because a worker of Dask imports it.
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
from subprocess import Popen
from typing import Any, NamedTuple

from echofactory.net.processes import STOP_SIGNALS, dieWithParent

_SIZE = 4
"""The length of a request is sent before it, in so many bytes."""


class ForkServer:
    """
    The owner's side.

    The kernel ends the server when the I{thread} ends that has made it.

    @ivar process: the server.
    """

    def __init__(self, function: str) -> None:
        """
        Start the server. It imports the module while processes can be asked for already.

        @param function: C{MODULE:FUNCTION}: what each process calls. The function must ask for
            L{dieWithParent}. It is called with L{STOP_SIGNALS} ignored.
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

    @property
    def lives(self) -> bool:
        """Whether the server has not ended."""
        return self.process.poll() is None

    def begin(
        self, descriptors: Mapping[int, int], arguments: Sequence[str] = ()
    ) -> socket.socket:
        """
        Ask for a process.

        @param descriptors: that the process inherits, by their numbers there. It inherits the
            standard output and error of the server, too.
        @param arguments: C{sys.argv} of the process, without the first item.
        @return: the channel of the process.
        @raise OSError: if the server has ended, or there are too many open descriptors.
        """
        request = json.dumps({"as": list(descriptors), "arguments": list(arguments)}).encode()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                socket.send_fds(self._control, [b"x"], [theirs.fileno()])
            ours.sendall(len(request).to_bytes(_SIZE) + request)
            for descriptor in descriptors.values():
                socket.send_fds(ours, [b"x"], [descriptor])
        except OSError:
            ours.close()
            raise
        return ours

    def close(self) -> None:
        """End the server, and its processes with it."""
        self._control.close()
        self.process.kill()
        self.process.wait()


class ForkedProcess:
    """
    A process of a fork server, for an owner that waits.

    @ivar pid: its number.
    """

    def __init__(self, channel: socket.socket) -> None:
        """
        @param channel: what L{ForkServer.begin} has returned.
        @raise OSError: if the process could not begin.
        """
        self._channel = channel
        # Without a buffer, the channel is readable exactly if the process has ended.
        self._lines = channel.makefile("rb", buffering=0)
        self._status: int | None = None
        message = self._message()
        if "pid" not in message:
            self.close()
            if "error" in message:
                raise OSError(message["error"], os.strerror(message["error"]))
            raise OSError("the fork server has ended")
        self.pid: int = message["pid"]

    def _message(self) -> dict[str, int]:
        """Return the next line; nothing: the server has ended."""
        message: dict[str, int] = {}
        with suppress(ConnectionError):
            message = json.loads(self._lines.readline() or b"{}")
        return message

    def kill(self) -> None:
        """Kill it with SIGKILL. The number cannot be that of another process meanwhile."""
        if self._channel.fileno() >= 0:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        """Wait for its end, and return its exit status, or the negative number of a signal."""
        if self._status is None:
            self._status = endOf(self._message())
        return self._status

    def close(self) -> None:
        """Forget it. If it has not ended, it is killed."""
        self._lines.close()
        self._channel.close()


def endOf(message: Mapping[str, Any]) -> int:
    """
    Return the exit status of a process, or the negative number of a signal.

    @param message: the last line of the channel. Without one, the fork server has ended, and
        its processes with it.
    """
    status: int = message.get("ended", -signal.SIGKILL)
    return status


# The server's side


class _Request(NamedTuple):
    channel: socket.socket
    arguments: list[str]
    descriptors: dict[int, int]


def _requested(control: socket.socket) -> _Request | None:
    """
    Read a request.

    @return: C{None}: the owner has ended.
    """
    _, received, _, _ = socket.recv_fds(control, 1, 1)
    if not received:
        return None
    channel = socket.socket(fileno=received[0])
    size = int.from_bytes(channel.recv(_SIZE, socket.MSG_WAITALL))
    asked = json.loads(channel.recv(size, socket.MSG_WAITALL))
    descriptors = {}
    for number in asked["as"]:
        _, (descriptors[number],), _, _ = socket.recv_fds(channel, 1, 1)
    return _Request(channel, asked["arguments"], descriptors)


def _tell(channel: socket.socket, **message: int) -> None:
    with suppress(OSError):
        channel.sendall(json.dumps(message).encode() + b"\n")


def _statusOf(pid: int) -> int | None:
    """
    Return how a process has ended; C{None}: it has not. Its number stays taken, so that the
    owner does not kill another process.
    """
    how = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    if how is None:
        return None
    return how.si_status if how.si_code == os.CLD_EXITED else -how.si_status


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
        # Of all processes that the owner has, and those of them that run.
        self._channels: dict[int, socket.socket] = {}
        self._running: set[int] = set()
        # Not epoll: the processes would share it.
        self._selector = selectors.PollSelector()
        self._ends, self._wakeup = socket.socketpair()
        self._ends.setblocking(False)
        self._wakeup.setblocking(False)
        self._selector.register(control, selectors.EVENT_READ)
        self._selector.register(self._ends, selectors.EVENT_READ)
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
                    request = _requested(self._control)
                    if request is None:
                        os._exit(0)
                    if self._fork(request):
                        return request.arguments
                elif sock is self._ends:
                    sock.recv(1 << 16)
                    self._report()
                else:
                    self._forget(key.data)

    def _fork(self, request: _Request) -> bool:
        """
        Fork a process.

        @return: whether this is it.
        """
        channel = request.channel
        try:
            pid = os.fork()
        except OSError as error:
            pid = -1
            _tell(channel, error=error.errno or 0)
        if not pid:
            self._leave()
            channel.close()
            _inherit(request.descriptors)
            return True
        for descriptor in request.descriptors.values():
            os.close(descriptor)
        if pid < 0:
            channel.close()
        else:
            _tell(channel, pid=pid)
            self._selector.register(channel, selectors.EVENT_READ, pid)
            self._running.add(pid)
            self._channels[pid] = channel
        return False

    def _leave(self) -> None:
        """Close what is the server's, in a process that was forked."""
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for each in (self._control, self._ends, self._wakeup, *self._channels.values()):
            each.close()

    def _report(self) -> None:
        """Tell of the processes that have ended."""
        for pid in list(self._running):
            status = _statusOf(pid)
            if status is not None:
                self._running.discard(pid)
                _tell(self._channels[pid], ended=status)

    def _forget(self, pid: int) -> None:
        """The owner has closed the channel of a process, or has ended."""
        channel = self._channels.pop(pid)
        self._running.discard(pid)
        self._selector.unregister(channel)
        channel.close()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


def main() -> None:
    """Serve; in each process that is forked, call the function."""
    dieWithParent()
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    module, _, name = sys.argv[1].partition(":")
    function: Callable[[], None] = getattr(import_module(module), name)
    # A search for garbage would write to the objects that all processes share.
    gc.collect()
    gc.freeze()
    sys.argv[1:] = _Server(socket.socket(fileno=0)).serve()
    function()


if __name__ == "__main__":
    main()
