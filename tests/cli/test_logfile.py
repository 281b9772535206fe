"""
A log that nobody reads, and a server that does not wait for it.
"""

import fcntl
import io
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from programs import LIMIT, SCRIPTS, TWISTD, environment
from twisted.logger import Logger, eventsFromJSONLogFile, formatEvent, jsonFileLogObserver

from echofactory.cli.logfile import LogFile

LINE = "x" * 99 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that holds 4,096 bytes: 40 lines."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_what_is_read_is_written(pipe: tuple[int, int]) -> None:
    """Message by message, in order."""
    reading, writing = pipe
    log = LogFile(writing)
    for text in ("one\n", "zwö\n"):
        log.write(text)
        assert os.read(reading, 100).decode() == text


def test_what_has_no_room_is_dropped_and_counted(pipe: tuple[int, int]) -> None:
    """Each message is whole, and the number of those that are missing is exact."""
    reading, writing = pipe
    log = LogFile(writing)
    for _ in range(45):
        log.write(LINE)
    assert os.read(reading, 10_000).decode() == 40 * LINE
    log.write("next\n")
    assert os.read(reading, 10_000).decode() == (
        "5 log messages dropped: the reader of the log did not keep up\nnext\n"
    )
    log.write("and next\n")
    assert os.read(reading, 10_000).decode() == "and next\n"


def test_what_is_dropped_of_a_log_in_json(pipe: tuple[int, int]) -> None:
    """The number is a record of its own, as all of C{twist --log-format=json} are."""
    reading, writing = pipe
    log: Any = LogFile(writing)
    logger = Logger("x", observer=jsonFileLogObserver(log))
    for _ in range(100):
        logger.info("before")
    read = os.read(reading, 10_000)
    logger.info("after")
    read += os.read(reading, 10_000)
    events = eventsFromJSONLogFile(io.StringIO(read.decode()))
    *before, dropped, after = (formatEvent(event) for event in events)
    assert set(before) == {"before"}
    number = 100 - len(before)
    assert dropped == f"{number} log messages dropped: the reader of the log did not keep up"
    assert after == "after"


def test_a_message_longer_than_the_pipe_holds(pipe: tuple[int, int]) -> None:
    """It is completed before another begins."""
    reading, writing = pipe
    log = LogFile(writing)
    long = "y" * 9_999 + "\n"
    log.write(long)
    read = os.read(reading, 10_000)
    log.write("dropped\n")
    while len(read) < len(long):
        read += os.read(reading, 10_000)
        log.write("dropped\n" if len(read) < 8_192 else "next\n")
    while b"next" not in read:
        read += os.read(reading, 10_000)
    assert re.fullmatch(rf"{long}\d log messages? dropped: [a-z ]+\nnext\n", read.decode())


def test_a_pipe_that_is_closed(pipe: tuple[int, int]) -> None:
    """It takes nothing, and nobody is troubled."""
    reading, writing = pipe
    log = LogFile(writing)
    os.close(reading)
    log.write(LINE)
    log.write(LINE)


def test_a_socket_that_is_full() -> None:
    """systemd's journal is one; a socket that is read again takes the next message."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        log = LogFile(ours.fileno())
        for _ in range(10_000):
            log.write(LINE)
        theirs.setblocking(False)
        read = bytearray()
        while select.select([theirs], [], [], 0)[0]:
            read += theirs.recv(1 << 20)
        assert len(read) < 1_000_000
        log.write("next\n")
        assert re.search(
            rb"\n\d[\d,]+ log messages dropped: .*\nnext\n", read[-200:] + theirs.recv(1 << 20)
        )


def test_others_who_write_to_the_pipe_still_wait(pipe: tuple[int, int]) -> None:
    """The descriptor that is given stays as it is: another program may share it."""
    _, writing = pipe
    LogFile(writing)
    assert os.get_blocking(writing)


@contextmanager
def unread(command: Sequence[str]) -> Iterator[tuple["subprocess.Popen[bytes]", int, int]]:
    """
    Run a server whose output is read until it listens, and no further.

    @return: the process, its port, and the end of the pipe that is to be read.
    """
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    process = subprocess.Popen(command, stdout=writing, stderr=writing, env=environment())
    os.close(writing)
    try:
        said = ""
        while not (match := re.search(r"listening on \S+:(\d+)", said)):
            data = os.read(reading, 10_000)
            assert data, said
            said += data.decode()
        yield process, int(match[1]), reading
    finally:
        process.kill()
        process.wait()
        with open(reading, "rb"):
            pass


SERVERS = [
    [*TWISTD, "multiecho", "--trace", "data", "127.0.0.1", "0"],
    [*TWISTD, "multiecho", "--trace", "data", "--workers", "1", "127.0.0.1", "0"],
    [str(SCRIPTS / "twist"), "--log-format=text", "multiecho", "--trace", "data",
     "127.0.0.1", "0"],
]  # fmt: skip


@pytest.mark.parametrize("command", SERVERS, ids=["twistd", "workers", "twist"])
def test_a_log_that_nobody_reads(command: Sequence[str]) -> None:
    """The echo goes on, and a signal ends the server."""
    with unread(command) as (process, port, _):
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as peer:
            # A line each: more than the pipe holds.
            for _ in range(200):
                peer.sendall(b"x" * 100)
                assert peer.recv(100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == -signal.SIGTERM


@pytest.mark.parametrize("command", SERVERS, ids=["twistd", "workers", "twist"])
def test_a_log_that_is_closed(command: Sequence[str]) -> None:
    """The same, of a pipe whose reader is gone."""
    with unread(command) as (process, port, reading):
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, reading)
        os.close(null)
        with socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as peer:
            for _ in range(200):
                peer.sendall(b"x" * 100)
                assert peer.recv(100)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == -signal.SIGTERM
