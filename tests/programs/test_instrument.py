"""
The client as an instrument: what it measures of peers whose behaviour is known.
Each test states its figures.
"""

import json
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader
from peers import FakeTimeReactor, eventually, portOf, readFakeClock
from peers import serving as servingHere
from programs import (
    CLIENT,
    LIMIT,
    SUPPORT,
    Program,
    client,
    multiecho,
    residentBytes,
    running,
    until,
    untraced,
)
from pytest_twisted import ensureDeferred
from schema import validate
from twisted.internet.defer import Deferred

from echofactory import EchoClientFactory, Patience, Workload
from echofactory.cli.client import main
from echofactory.results.latency import DIGITS, HIGHEST_NS, LOWEST_NS
from echofactory.workload.schedule import Rate

MS = 1_000_000

SENDING = r"[1-9]\S* messages/s"
"""What a line of progress has once replies come."""


@contextmanager
def serving(name: str, *arguments: str) -> Iterator[str]:
    """Run one of the servers beside this file, and return its port."""
    with running([sys.executable, str(SUPPORT / name), *arguments]) as server:
        yield server.waitFor(r"listening on (\d+)")[1]


def late(milliseconds: float, offset: int | None = None) -> AbstractContextManager[str]:
    """Run late_server.py, and return its port."""
    return serving(
        "late_server.py", str(milliseconds), *([] if offset is None else [str(offset)])
    )


def connectionsTo(port: str) -> str:
    """Return what C{ss} says of those that are established."""
    return subprocess.run(
        ["ss", "-tinH", "state", "established", f"dport = {port}"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip


needsSS = pytest.mark.skipif(
    shutil.which("ss") is None and "CI" not in os.environ, reason="not installed: ss"
)


def measured(*arguments: str, **options: object) -> Any:
    """Run the client, and return its JSON."""
    done = client("127.0.0.1", *arguments, "--json", "-", **options)
    assert done.process.returncode == 0, done.err
    return validate(json.loads("\n".join(done.out)))


@pytest.mark.seconds
def test_a_server_that_adds_20_ms() -> None:
    """
    No service time is less than 20 ms. Half of them are less than twice what a plain
    socket measures beside them.
    """
    with late(20) as port, ThreadPoolExecutor() as pool:
        reference = pool.submit(medianOf, int(port), 50)
        results = measured(port, "5", "--size", "64", "--rate", "50", "--duration", "1s")
    assert results["messages"]["verified"] == 50
    assert results["service_ns"]["min"] >= 20 * MS
    assert results["service_ns"]["p50"] <= 2 * reference.result()


def medianOf(port: int, count: int) -> float:
    """Return the median time of so many round trips on a plain socket, in nanoseconds."""
    took = []
    with socket.create_connection(("127.0.0.1", port), LIMIT) as connection:
        for _ in range(count):
            before = time.perf_counter_ns()
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
            took.append(time.perf_counter_ns() - before)
    return median(took)


def frozen(port: int, pid: int, *arguments: str) -> tuple[Any, float]:
    """
    Run 800 messages in 4 seconds, in which the server stops for half a second; return the
    results, and for how many nanoseconds it did.
    """
    load = ["10", "--size", "64", "--rate", "200", "--duration", "4s", "--json", "-"]
    with running([*CLIENT, "127.0.0.1", str(port), *load, *arguments,
                  "--progress", "always", "--interval", "250ms"]) as program:  # fmt: skip
        program.waitFor(SENDING, program.err)
        subprocess.run(["kill", "-STOP", str(pid)], check=True)
        stopped = time.perf_counter_ns()
        # The freeze is what is tested: there is nothing else to wait for.
        time.sleep(0.5)
        lasted = time.perf_counter_ns() - stopped
        subprocess.run(["kill", "-CONT", str(pid)], check=True)
        assert program.finish() == 0, program.err
    return validate(json.loads("\n".join(program.out))), lasted


@pytest.mark.seconds
def test_a_server_that_freezes() -> None:
    """
    An eighth of the messages are due while it stands still, one every 5 ms, and wait for
    it: p95 of the response time is that of the 40th of them, and p99 that of the 8th. With
    a window of one the service times look innocent, because the client itself holds back
    all but ten messages.
    """
    with (
        multiecho("--trace", "none", "127.0.0.1", "0") as (one, onePort),
        multiecho("--trace", "none", "127.0.0.1", "0") as (other, otherPort),
        ThreadPoolExecutor() as both,
    ):
        plain = both.submit(frozen, onePort, one.process.pid)
        windowed = both.submit(frozen, otherPort, other.process.pid, "--window", "1")
    for results, lasted in (plain.result(), windowed.result()):
        assert results["messages"]["verified"] == 800
        # The histogram's step is a thousandth.
        assert results["response_ns"]["p95"] >= (lasted - 41 * 5 * MS) * 0.999
        assert results["response_ns"]["p99"] >= (lasted - 9 * 5 * MS) * 0.999
        # The instrument went on sending; what was held back is none of its errors.
        assert results["send_lag_ns"]["p95"] < results["response_ns"]["p95"] / 2
    results, _ = windowed.result()
    assert results["service_ns"]["p95"] < results["response_ns"]["p95"] / 2


@pytest.mark.seconds
@pytest.mark.parametrize(("rate", "asked"), [("1k", 1000.0), ("10k", 10_000.0)])
def test_the_rate_that_was_asked_for(port: str, rate: str, asked: float) -> None:
    """
    Every message of the schedule is sent, none too early, or counted as unsent. The time
    that the rate achieved is over is longer than the schedule by what the last one was late.
    """
    results = measured(port, "50", "--size", "64", "--rate", rate, "--duration", "1s")
    messages, achieved = results["messages"], results["rate"]
    assert achieved["asked"] == asked
    assert messages["verified"] + messages["unsent"] == asked
    assert achieved["achieved"] == pytest.approx(messages["verified"] / achieved["over_s"])
    assert 1.0 <= achieved["over_s"] <= 1.0 + 1 / asked + results["response_ns"]["max"] / 1e9


def test_one_byte_in_a_hundred_million() -> None:
    """
    It is reported with its connection, message and offset, though all the others
    came back.
    """
    size, count, at = 65_536, 763, 49_876_543
    with late(0, at) as port:
        done = client(
            "127.0.0.1", port, "2", "--size", str(size), "--count", str(count), "--json", "-"
        )
    assert done.process.returncode == 1
    results = validate(json.loads("\n".join(done.out)))
    assert results["bytes"]["sent"] > 70_000_000
    assert results["messages"]["mismatched"] == 1
    place = rf"connection 2 to \S+:\d+: message {at // size + 1}, offset {at % size:,}:"
    assert re.search(place, re.sub(r"\s+", " ", "\n".join(done.err))), done.err


@needsSS
def test_bytes_as_the_kernel_counts_them() -> None:
    """C{ss}, asked while the connections are held open, has the same sums."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, port):
        load = ["20", "--size", "10k", "--count", "30", "--hold", "1h", "--json", "-"]
        with running([*CLIENT, "127.0.0.1", str(port), *load]) as program:
            expected = 20 * 30 * 10 * 1024
            received, acked = 0, 0

            def all_() -> bool:
                nonlocal received, acked
                said = connectionsTo(str(port))
                received, acked = (
                    sum(map(int, re.findall(rf"\b{name}:(\d+)", said)))
                    for name in ("bytes_received", "bytes_acked")
                )
                # The kernel counts each connection's SYN as a byte.
                return (received, acked) == (expected, expected + 20)

            until(all_)
            assert program.end(signal.SIGINT) == 130
    results = validate(json.loads("\n".join(program.out)))
    assert results["bytes"] == {"sent": expected, "received": expected}


@pytest.mark.parametrize(
    ("begin", "end", "limit"),
    [
        pytest.param(1, 4, 1 << 19, marks=pytest.mark.seconds, id="seconds"),
        pytest.param(
            60, 180, 2 << 20, marks=[pytest.mark.soak, pytest.mark.timeout(240)], id="minutes"
        ),
    ],
)
def test_memory_of_a_long_run(begin: int, end: int, limit: int) -> None:
    """
    It does not grow with the messages: less than 0.5 MiB in three seconds, and than
    2 MiB from the first minute to the third. (Measured: 0 and 44 KiB.)
    """
    with (
        multiecho("--trace", "none", "127.0.0.1", "0", env=untraced()) as (_, port),
        running(
            [*CLIENT, "127.0.0.1", str(port), "50", "--size", "64", "--duration", f"{end + 1}s",
             "--progress", "always"],
            env=untraced(),
        ) as program,
    ):  # fmt: skip
        reached(program, begin)
        before = residentBytes(program.process.pid)
        reached(program, end)
        grown = residentBytes(program.process.pid) - before
        assert program.finish() == 0
    print(f"grown by {grown / 1024:,.0f} KiB")
    assert grown < limit


def reached(program: Program, seconds: int) -> None:
    """Wait until the run has lasted for so long, by its progress."""
    deadline = time.monotonic() + seconds + LIMIT
    while not any(
        float(match[1]) >= seconds
        for line in list(program.err)
        if (match := re.match(r" +([\d.]+) s ", line))
    ):
        assert time.monotonic() < deadline, program.err
        time.sleep(0.05)


@needsSS
def test_a_path_that_loses_segments(tmp_path: Path) -> None:
    """
    Every byte comes back all the same; the report says in words that segments were
    sent again, C{ss} has the same number of them, and the JSON has it too.
    """
    path = tmp_path / "run.json"
    with (
        serving("lossy_server.py", "20") as port,
        running([*CLIENT, "127.0.0.1", port, "10", "--size", "10k", "--count", "20",
                 "--hold", "1h", "--json", str(path)]) as program,
    ):  # fmt: skip
        said = ""

        def allIsBack() -> bool:
            nonlocal said
            said = connectionsTo(port)
            return sum(map(int, re.findall(r"\bbytes_received:(\d+)", said))) == 10 * 20 * 10240

        until(allIsBack)
        assert program.end(signal.SIGINT) == 130, program.err
    counted = sum(map(int, re.findall(r"\bretrans:\d+/(\d+)", said)))
    results = validate(json.loads(path.read_text()))
    assert results["messages"]["verified"] == 200
    again = results["tcp"]["retransmits"]
    assert again == counted > 0
    (line,) = (line for line in program.out if line.startswith("tcp "))
    assert f" {again:,} segments retransmitted" in line


@pytest.mark.seconds
def test_churn_waits_are_not_the_clients_lag() -> None:
    """What waits for one of two places, at a server that is slow, waits for the server."""
    with late(100) as port:
        results = measured(port, "2", "--message", "x", "--churn", "--rate", "40",
                           "--count", "12")  # fmt: skip
    # 24 messages, due within 0.6 s, of which two are served every 0.1 s.
    assert results["response_ns"]["p50"] > 200 * MS
    assert results["send_lag_ns"]["p90"] < results["response_ns"]["p90"] / 2


@ensureDeferred
async def test_half_close_after_a_rest(reactor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that was idle for longer than a reply may take is in order."""
    fake: Any = FakeTimeReactor(reactor)
    readFakeClock(monkeypatch, fake)
    workload = Workload(messages=(b"x",), rate=Rate(1, 1), count=1, halfClose=True)
    async with servingHere(reactor) as service:
        factory = EchoClientFactory(fake, workload, 2, Patience(reply=0.3), clock=fake.ns)
        target = f"tcp:127.0.0.1:{portOf(service.addresses[0])}"
        running = Deferred.fromCoroutine(factory.run(target))
        await eventually(reactor, lambda: factory.results.verified == 1)
        for _ in range(100):
            fake.advance(0.011)
        results = await running
    assert (results.verdict, results.completed) == ("ok", 2), results.examples


def test_progress_that_nobody_reads(port: str) -> None:
    """A closed stderr costs the view, not the results."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*CLIENT, "127.0.0.1", port, "2", "--size", "64", "--duration", "300ms",
         "--interval", "50ms", "--progress", "always", "--json", "-", "--quiet"],
        stdout=subprocess.PIPE, stderr=writing, timeout=LIMIT, check=False,
    )  # fmt: skip
    os.close(writing)
    assert validate(json.loads(done.stdout))["messages"]["verified"] > 0


def test_duration(port: str) -> None:
    """It sends for so long, and what is out then still comes back."""
    results = measured(port, "3", "--size", "64", "--duration", "400ms", "--interval", "100ms")
    assert results["elapsed_s"] >= 0.4
    assert results["workload"]["count"] is None
    assert results["messages"]["verified"] == results["messages"]["sent"] > 0
    assert results["connections"]["completed"] == 3
    intervals = results["intervals"]
    ends = [interval["t_s"] for interval in intervals]
    assert ends == sorted(ends)
    # No timer is early; the last piece is what is left.
    assert all(end >= 0.099 * number for number, end in enumerate(ends[:-1], 1))
    assert sum(interval["messages"] for interval in intervals) == results["messages"]["sent"]
    assert sum(interval["bytes"] for interval in intervals) == results["bytes"]["received"]


def test_streaming(port: str) -> None:
    """A window of large messages moves bulk data."""
    results = measured(port, "2", "--size", "64k", "--window", "16", "--count", "400")
    assert results["bytes"]["received"] == 50 << 20


def test_a_rising_rate(port: str) -> None:
    """
    Its messages come as it rises: by a time t, from 0 to 400 a second in 1 s, no more than
    200 t².
    """
    results = measured(port, "5", "--size", "64", "--rate", "1..399", "--duration", "1s",
                       "--interval", "500ms")  # fmt: skip
    assert results["messages"]["verified"] == 200
    assert results["rate"]["asked"] == 200.0
    (first, *_) = results["intervals"]
    assert first["messages"] <= 200 * first["t_s"] ** 2 + 2


def test_a_message_of_blocks_on_schedule(port: str) -> None:
    """One of several blocks is one message, each due in its time."""
    results = measured(port, "2", "--size", "200k", "--rate", "100", "--count", "10")
    assert results["messages"]["verified"] == 20
    assert results["bytes"]["received"] == 20 * 200 * 1024
    assert results["response_ns"]["count"] == results["service_ns"]["count"] == 20


def test_churn(port: str) -> None:
    """A connection for every message, so many at once."""
    results = measured(port, "4", "--size", "64", "--churn", "--count", "25")
    assert results["connections"]["requested"] == results["connections"]["completed"] == 100
    assert results["messages"]["verified"] == results["connect_ns"]["count"] == 100
    assert results["connections"]["peak_open"] <= 4


def test_churn_for_a_duration(port: str) -> None:
    """The same, for as long as there is time."""
    results = measured(port, "4", "--churn", "--message", "x", "--duration", "300ms")
    assert results["messages"]["verified"] == results["connections"]["completed"] >= 4
    assert results["elapsed_s"] >= 0.3


def test_churn_that_is_slow_to_open(port: str) -> None:
    """When time is up, what was not asked for yet is not asked for any more."""
    results = measured(port, "20", "--churn", "--message", "x", "--duration", "500ms",
                       "--connect-rate", "4")  # fmt: skip
    assert results["connections"]["requested"] == results["connections"]["completed"] < 10


def test_churn_on_schedule(port: str) -> None:
    """A connection is asked for when its message is due."""
    results = measured(port, "20", "--size", "64", "--churn", "--rate", "200", "--count", "5")
    assert results["messages"]["verified"] == results["connections"]["requested"] == 100
    assert results["elapsed_s"] > 0.49
    assert results["response_ns"]["p50"] >= results["service_ns"]["p50"]


def test_connect_rate(port: str) -> None:
    """Twenty connections at forty a second take half a second."""
    results = measured(port, "20", "--connect-rate", "40")
    assert results["elapsed_s"] >= 0.45
    assert results["connections"]["completed"] == 20


def test_hold(port: str) -> None:
    """A connection stays open for so long after its last message is back."""
    results = measured(port, "2", "--hold", "300ms")
    assert results["elapsed_s"] >= 0.3


def test_bind() -> None:
    """Source addresses are used in turn."""
    with multiecho("127.0.0.1", "0") as (server, number):
        sources = ["--bind", "127.0.0.2", "--bind", "127.0.0.3"]
        results = measured(str(number), "4", *sources)
        server.waitFor(r"closing connection")
        peers = re.findall(r"accepted connection from (\S+):\d+", "\n".join(server.out))
    assert sorted(peers) == ["127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"]
    assert results["connections"]["completed"] == 4


def test_a_source_of_another_kind(port: str) -> None:
    """There is no way from an IPv6 address to one of IPv4."""
    done = client("127.0.0.1", port, "--bind", "::1")
    assert done.process.returncode == 1
    (line,) = done.err
    assert "no address to connect to from ::1" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rate", "0"], "--rate: '0' is not a rate"),
        (["--rate", "1k.."], "--rate: '1k..' is not a rate"),
        (["--rate", "fast"], "--rate: 'fast' is not a rate"),
        (["--duration", "0"], "--duration: '0' is not more than 0 s"),
        (["--count", "3", "--duration", "1s"], "--duration: give --duration or --count"),
        (["--churn", "--window", "3"], "--window: not with --churn: "),
        (
            ["--hold", "1s", "--half-close"],
            "--hold: not with --half-close: a half-closed connection ",
        ),
        (["--bind", "192.0.2.1"], "--bind: '192.0.2.1' is not an address of this machine"),
        (["--bind", "localhost"], "--bind: 'localhost' is not an IPv4 or IPv6 address"),
        (["--connect-rate", "-1"], "--connect-rate: '-1' is not a rate"),
        (["--progress", "some"], "--progress: 'some' is not one of auto, always, never"),
        (["--interval", "0"], "--interval: '0' is not a duration of more than 0"),
    ],
)
def test_what_makes_no_sense(
    refusal: Callable[..., str], arguments: list[str], said: str
) -> None:
    """One line that names the option, the value and what is accepted."""
    line = refusal(main, "127.0.0.1", "7", *arguments)
    assert line.startswith(f"echofactory.client: {said}"), line


def test_progress_lines(port: str) -> None:
    """Without a terminal, a line for each interval, on stderr, if it is asked for."""
    load = ["2", "--size", "64", "--rate", "100", "--duration", "400ms", "--interval", "100ms"]
    done = client("127.0.0.1", port, *load, "--progress", "always", "--json", "-", "--quiet")
    assert done.process.returncode == 0
    # The end of the run may cut the last one off.
    told = [line for line in done.err if ": warning: " not in line]
    assert 0 <= len(json.loads("\n".join(done.out))["intervals"]) - len(told) <= 1
    latency = r" +(-|[\d.]+ (µs|ms|s))"
    for line in told:
        assert re.fullmatch(
            r" +[\d.]+ s +\d open +[\d.]+ messages/s +[\d.]+ \w+/s"
            rf"  p50{latency}  p99{latency}  0 failed",
            line,
        ), line
    quiet = client("127.0.0.1", port, *load)
    assert [line for line in quiet.err if ": warning: " not in line] == []


def test_the_live_view(port: str) -> None:
    """On a terminal it is drawn anew, and gone at the end."""
    controller, terminal = pty.openpty()
    shown = bytearray()

    def read() -> None:
        try:
            while data := os.read(controller, 65536):
                shown.extend(data)
        except OSError:
            return

    reader = threading.Thread(target=read)
    reader.start()
    done = subprocess.run(
        [*CLIENT, "127.0.0.1", port, "2", "--size", "64", "--rate", "100",
         "--duration", "1s", "--interval", "100ms"],
        stdin=terminal, stdout=subprocess.PIPE, stderr=terminal, timeout=LIMIT, check=False,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(terminal)
    reader.join(LIMIT)
    os.close(controller)
    assert done.returncode == 0
    text = shown.decode()
    for part in ("connections", "messages/s", "p50", "p99", "left", "verified"):
        assert part in text, text
    # The cursor, hidden for the view, is back.
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


@pytest.mark.parametrize("load", [["--duration", "1h"], ["--rate", "10", "--duration", "1h"],
                                  ["--churn", "--duration", "1h"]])  # fmt: skip
def test_interrupted(port: str, load: list[str]) -> None:
    """Ctrl-C at any moment: the report of what was done, not of an hour, and exit 130."""
    with running([*CLIENT, "127.0.0.1", port, "5", "--size", "64", *load, "--json", "-",
                  "--progress", "always", "--interval", "200ms"]) as program:  # fmt: skip
        program.waitFor(SENDING, program.err)
        assert program.end(signal.SIGINT) == 130
    results = validate(json.loads("\n".join(program.out)))
    assert results["verdict"] == "interrupted"
    assert results["messages"]["verified"] > 0


def test_the_hdr_log(port: str, tmp_path: Path) -> None:
    """The library's own reader finds an interval's histogram in each line, and all in all."""
    path = tmp_path / "run.hlog"
    load = ["4", "--size", "64", "--rate", "400", "--duration", "500ms", "--interval", "100ms"]
    results = measured(port, *load, "--hdr", str(path))
    whole = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    reader = HistogramLogReader(str(path), whole)
    intervals = []
    with reader.input_file:
        while (interval := reader.get_next_interval_histogram()) is not None:
            intervals.append(interval.get_total_count())
            whole.add(interval)
    assert intervals == [interval["messages"] for interval in results["intervals"]]
    assert whole.get_total_count() == 200
    for percentile in (50.0, 99.0):
        assert (
            whole.get_value_at_percentile(percentile)
            == (results["response_ns"][f"p{percentile:.0f}"])
        )
    lines = path.read_text().splitlines()
    assert lines[0] == "#[Histogram log format version 1.2]"
    began, lasted, *_ = lines[3].split(",")
    assert float(began) == 0
    assert float(lasted) == pytest.approx(results["intervals"][0]["t_s"], abs=1e-5)
    # The third field is the greatest reading, in milliseconds, and not cut to whole ones.
    greatest = [float(line.split(",")[2]) for line in lines[3:]]
    assert max(greatest) == pytest.approx(results["response_ns"]["max"] / 1e6)


def test_an_hdr_log_that_cannot_be_written(refusal: Callable[..., str], port: str) -> None:
    """It is said in one line, before the run if it is known then."""
    assert refusal(main, "127.0.0.1", port, "--hdr", "/nowhere/run.hlog") == (
        "echofactory.client: --hdr: '/nowhere/run.hlog': No such file or directory"
    )
    full = client("127.0.0.1", port, "--hdr", "/dev/full")
    assert full.process.returncode == 1
    assert full.err == ["echofactory.client: --hdr: No space left on device"]
    assert full.out[-1] == "verdict        ok: every byte came back"
