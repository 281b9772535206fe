"""
A file for the log that nobody waits for. If who reads the log's pipe, socket or terminal
does not keep up, messages are dropped, and the next one that is written is preceded by
their number. If the reader is gone, all are dropped.

If the log is JSON text sequences (RFC 7464), as C{twist --log-format=json} writes, the number
is a record of its own.
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
"""What a record of RFC 7464 begins with."""


def _reopened(descriptor: int) -> int:
    """
    Return another descriptor of the same pipe or terminal, whose writes do not block. The
    given one may be shared with other programs, which want theirs to block.
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
    What Twisted's log observers write to, one message at a time.
    """

    def __init__(self, descriptor: int) -> None:
        """
        @param descriptor: of a file, a pipe, a socket or a terminal.
        """
        self._descriptor = _reopened(descriptor)
        # What cannot be reopened, such as a socket, is asked whether it has room.
        self._mayBlock = os.get_blocking(self._descriptor)
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLOUT)
        # Of a message that the reader has the beginning of.
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
        """Return how many bytes were taken; of a regular file, all."""
        sent = 0
        while sent < len(data) and not (self._mayBlock and not self._poll.poll(0)):
            try:
                # More than that could block, where there is room for that much.
                sent += os.write(self._descriptor, data[sent : sent + select.PIPE_BUF])
            except OSError:
                # No room, no reader, or a disk that is full.
                break
        return sent


def neverWaitForTheLog(options: Any) -> None:
    """
    Have C{twistd -n} and C{twist}, which have not opened their log yet, write it without
    waiting, if it goes to standard output or standard error.

    @param options: those of the command; their parent is C{twistd}'s or C{twist}'s.
    """
    parent: MutableMapping[str, Any] = getattr(options, "parent", None) or {}
    streams = [each for each in (sys.__stdout__, sys.__stderr__) if each is not None]
    for each in streams:
        # A daemon closes its standard output, and must not have another descriptor of it.
        if sys.stdout is each and parent.get("nodaemon"):
            sys.stdout = LogFile(each.fileno())
        if parent.get("logFile") is each:
            parent["logFile"] = LogFile(each.fileno())
