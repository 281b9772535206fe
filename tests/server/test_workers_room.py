"""
Workers of which some are full: no connection is refused while another one has room.
"""

import json
import os
import resource
import signal
import socket
from contextlib import ExitStack
from typing import Any

import pytest
from programs import (
    children,
    connected,
    echoes,
    until,
    workers,
)
from statuses import get

ROUNDS = 3
"""The kernel deals connections out at random. About once in ten times, it does so evenly."""


def fewDescriptors() -> None:
    """Leave a worker descriptors for some dozens of connections."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))


class Full:
    """
    A server of two workers, and connections to it.

    @ivar connections: to the server, all that are open.
    @ivar served: number of connections that have been served.
    """

    def __init__(self, stack: ExitStack, *arguments: str, **options: Any) -> None:
        self.server, self.port = stack.enter_context(
            workers("--trace", "none", "--status", "0", *arguments, **options)
        )
        self._status = int(self.server.waitFor(r"status page on \S+:(\d+)")[1])
        self.connections: list[socket.socket] = []
        self.served = 0
        stack.callback(self.close)

    def counts(self) -> Any:
        """Return the counts that the status has."""
        return json.loads(get(self._status, "/status.json").body)["facts"]["counts"]

    def refused(self) -> dict[str, int]:
        """Return the refused connections that there are, by reason."""
        refused: dict[str, int] = self.counts()["refused"]
        return {why: count for why, count in refused.items() if count}

    def open(self, count: int) -> int:
        """Open so many connections at once, and return how many are served."""
        opened = [connected(self.port) for _ in range(count)]
        self.connections += opened
        served = sum(map(echoes, opened))
        self.served += served
        return served

    def close(self) -> None:
        """Close all connections."""
        for each in self.connections:
            each.close()
        self.connections.clear()

    def empty(self) -> None:
        """Close all connections, and wait until the server has told that they are closed."""
        self.close()

        def told() -> bool:
            counts = self.counts()
            return bool(counts["accepted"] == self.served and counts["open"] == 0)

        until(told)


def check(full: Full, why: str, spare: int = 0) -> int:
    """
    Fill the server, again and again.

    @param why: the reason of the refusals.
    @param spare: places that are left free.
    @return: the number of places.
    """
    places = full.open(200)
    until(lambda: full.refused() == {why: 200 - places})
    for _ in range(ROUNDS):
        full.empty()
        assert full.open(places - spare) == places - spare
    assert full.refused() == {why: 200 - places}
    return places


@pytest.mark.parametrize("arguments", [[], ["--no-express"]], ids=["lane", "reactor"])
def test_descriptors(arguments: list[str]) -> None:
    """Those of all workers are used up before a connection is refused, and then each time."""
    with ExitStack() as stack:
        full = Full(stack, *arguments, preexec_fn=fewDescriptors)
        # A worker can need one for a moment.
        check(full, "descriptors", spare=2)


def test_the_connection_limit() -> None:
    """All places are taken before a connection is refused, and then each time."""
    with ExitStack() as stack:
        full = Full(stack, "--max-connections", "41")
        assert check(full, "connections") == 41


def test_a_place_in_the_other_worker() -> None:
    """Whichever worker gets the connection, it goes to the one that has the place."""
    with ExitStack() as stack:
        full = Full(stack, "--max-connections", "2")
        assert full.open(10) == 2
        for _ in range(10):
            held = next(each for each in full.connections if echoes(each))
            held.close()
            full.connections.remove(held)
            until(lambda: full.open(1))
            assert sum(map(echoes, full.connections)) == 2


def test_the_queue_of_a_worker_that_has_died() -> None:
    """The connections that the kernel has accepted for it are served."""
    with workers("--trace", "none") as (server, port), ExitStack() as stack:
        pid, _ = children(server)
        os.kill(pid, signal.SIGSTOP)
        waiting = [stack.enter_context(connected(port)) for _ in range(32)]
        os.kill(pid, signal.SIGKILL)
        assert all(map(echoes, waiting))
