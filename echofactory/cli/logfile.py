"""
A log file whose writes never block. If the reader of the log's pipe, socket or terminal does
not keep up, messages are dropped. Their number is written before the next message. If the
reader is gone, all messages are dropped.

If the log is JSON text sequences (RFC 7464), as C{twist --log-format=json} writes, the number
is a separate record.
"""

import io
import os
import select
import stat
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from twisted.logger import Logger, jsonFileLogObserver

from echofactory.values.quantities import counted

_RECORD = "\x1e"
"""The first character of a record (RFC 7464)."""


def _reopened(descriptor: int) -> int:
    """
    Return another descriptor of the same pipe or terminal, whose writes do not block. Other
    programs may share the given descriptor, and expect their writes to block.
    """
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        with suppress(OSError):
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    return descriptor


def _droppedText(number: int, asRecord: bool) -> str:
    """Return the line, or the record, that says how many messages were dropped."""
    text = f"{counted(number, 'log message')} dropped: the reader of the log did not keep up"
    if not asRecord:
        return f"{text}\n"
    record = io.StringIO()
    Logger(observer=jsonFileLogObserver(record)).warn(text)
    return record.getvalue()


class LogFile(io.TextIOBase):
    """
    The file that Twisted's log observers write to, one message at a time.
    """

    def __init__(self, descriptor: int) -> None:
        """
        @param descriptor: the descriptor of a file, a pipe, a socket or a terminal.
        """
        self._descriptor = _reopened(descriptor)
        # A socket cannot be reopened. It is polled for room before each write.
        self._mayBlock = os.get_blocking(self._descriptor)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        # The rest of a message whose beginning is written.
        self._rest = b""
        self._dropped = 0

    def write(self, text: str) -> int:
        """Write a message, or drop it."""
        data = text.encode("utf-8", "backslashreplace")
        self._rest = self._rest[self._send(self._rest) :]
        if self._rest:
            self._dropped += 1
            return len(text)
        if self._dropped:
            data = _droppedText(self._dropped, text.startswith(_RECORD)).encode() + data
        sent = self._send(data)
        if sent:
            self._dropped = 0
            self._rest = data[sent:]
        else:
            self._dropped += 1
        return len(text)

    def _send(self, data: bytes) -> int:
        """Return the number of bytes written; a regular file takes all."""
        sent = 0
        while sent < len(data) and not (self._mayBlock and not self._poll.poll(0)):
            try:
                # A larger write could block, even if there is room for PIPE_BUF bytes.
                sent += os.write(self._descriptor, data[sent : sent + select.PIPE_BUF])
            except OSError:
                # No room, no reader, or a full disk.
                break
        return sent


def useNonBlockingLog(options: Any) -> None:
    """
    If the log of C{twistd -n} or C{twist} goes to standard output or standard error, make it
    a L{LogFile}. The log must not be open yet.

    @param options: the options of the command. Their parent is C{twistd}'s or C{twist}'s.
    """
    parent: MutableMapping[str, Any] = getattr(options, "parent", None) or {}
    streams = [each for each in (sys.__stdout__, sys.__stderr__) if each is not None]
    for each in streams:
        # A daemon closes its standard output. Another descriptor of it would stay open.
        if sys.stdout is each and parent.get("nodaemon"):
            sys.stdout = LogFile(each.fileno())
        if parent.get("logFile") is each:
            parent["logFile"] = LogFile(each.fileno())
