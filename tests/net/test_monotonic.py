"""
Timers when the wall clock is set.
"""

import json
import socket
import sys
from time import monotonic
from typing import Any

import pytest
from programs import SUPPORT, multiecho, running
from schema import validate
from twisted.internet.base import ReactorBase

from echofactory.net.monotonic import useMonotonicTime


class _Reactor(ReactorBase):
    """
    Runs its timers, and nothing else.

    @ivar now: what its clock shows.
    """

    now = 1_000_000.0

    def seconds(self) -> float:
        return self.now

    def installWaker(self) -> None:
        """There is nothing to wake."""


def test_timers_that_wait_keep_their_time() -> None:
    """Those from before fire in their order, whatever was cancelled among them."""
    reactor: Any = _Reactor()
    fired: list[str] = []
    for delay in (0.0, 1.0, 2.0):
        reactor.callLater(delay, lambda: None).cancel()
    before = reactor.callLater(60, lambda: None)
    reactor.callLater(0.0, fired.append, "before")
    useMonotonicTime(reactor)
    seconds = reactor.seconds
    useMonotonicTime(reactor)
    assert reactor.seconds is seconds
    after = reactor.callLater(60, lambda: None)
    reactor.callLater(0.0, fired.append, "after")
    for call in (before, after):
        assert call.getTime() == pytest.approx(reactor.seconds() + 60, abs=30)
    before.reset(5)
    assert before.getTime() == pytest.approx(reactor.seconds() + 5, abs=4)
    reactor.runUntilCurrent()
    assert fired == ["before", "after"]


@pytest.mark.parametrize("step", [-3600, 3600])
def test_the_time_of_a_clock_that_is_set(step: int) -> None:
    """It goes on evenly."""
    reactor: Any = _Reactor()
    useMonotonicTime(reactor)
    before = reactor.seconds()
    reactor.now += step
    assert before <= reactor.seconds() < before + 3600


@pytest.mark.parametrize("seconds", ["-3600", "3600"])
@pytest.mark.parametrize("load", [["--duration", "2s"], ["--rate", "20", "--duration", "2s"]])
def test_a_run_during_which_the_clock_is_set(seconds: str, load: list[str]) -> None:
    """It lasts as long as it should; no connection is held for too slow, nor forgotten."""
    stepping = [sys.executable, str(SUPPORT / "stepping.py")]
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (_, port),
        running(
            [*stepping, seconds, "1", "echofactory.client", "127.0.0.1", str(port), "5",
             "--size", "64", *load, "--hold", "100ms", "--json", "-", "--quiet"]
        ) as program,
    ):  # fmt: skip
        assert program.finish() == 0, program.err
    results = validate(json.loads("\n".join(program.out)))
    assert results["elapsed_s"] >= 2.0
    assert results["connections"]["completed"] == 5


@pytest.mark.parametrize("seconds", ["-3600", "3600"])
def test_a_server_whose_clock_is_set(seconds: str) -> None:
    """It cuts what is idle, neither an hour later nor at once."""
    stepping = [sys.executable, str(SUPPORT / "stepping.py")]
    with running(
        [
            *stepping,
            seconds,
            "3",
            "twisted",
            "multiecho",
            "--idle-timeout",
            "6s",
            "127.0.0.1",
            "0",
        ]
    ) as program:
        port = program.waitFor(r"127\.0\.0\.1:(\d+)")[1]
        with socket.create_connection(("127.0.0.1", int(port)), timeout=60) as peer:
            before = monotonic()
            with pytest.raises(ConnectionResetError):
                peer.recv(1)
            assert monotonic() - before > 5.5
