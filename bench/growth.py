"""
C{python -m bench.growth}: what a message and a connection cost as the work grows: from 10 to
19,000 connections in one process, and from one process to several parts. And how soon the loss
of a part is noticed, and what the books of the parts cost to put together.

It writes C{bench/growth.json} and C{docs/growth.svg}.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep
from typing import Any

from bench.commands import PEERS, SERVERS
from bench.processes import Server, children, compiled, privateBytes, serving, usageOf
from echofactory.net.descriptors import raiseDescriptorLimit
from echofactory.results.account import Accounts
from echofactory.results.assembly import Assembly
from echofactory.results.opencounts import OpenCounts
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

_HERE = Path(__file__).parent
_CLIENT = [sys.executable, "-m", "echofactory.client"]
_LIMIT_S = 120.0
Figures = dict[str, Any]


def _client(server: Server, connections: int, *options: str) -> list[str]:
    return [*_CLIENT, "127.0.0.1", str(server.port), str(connections), *options]


def _run(command: list[str]) -> tuple[Figures, float]:
    """
    Run a client to its end.

    @return: its JSON, and its processor time in seconds.
    @raise RuntimeError: if it fails.
    """
    with tempfile.TemporaryFile("w+") as out:
        usage = usageOf([*command, "--quiet", "--json", "-"], out)
        out.seek(0)
        return json.load(out), usage.ru_utime + usage.ru_stime


# One process


_ADDRESSES = [f"--bind=127.0.0.{2 + number}" for number in range(3)]


def _perMessage(server: Server, connections: int, messages: int) -> tuple[float, float]:
    """
    Return the processor time of a message at the client and at the server, in microseconds.
    What connecting costs is left out: two runs differ only in the number of messages.

    What connecting costs varies by a tenth, which is as much as a message of each connection
    costs. So each connection sends 20 messages more at least.
    """
    costs = []
    for count in (2, 2 + max(20, messages // connections)):
        before = server.cpuNs()
        found, cpu = _run(
            _client(server, connections, "--size=64", f"--count={count}", *_ADDRESSES)
        )
        costs.append((found["messages"]["verified"], cpu, (server.cpuNs() - before) / 1e9))
    (few, *first), (many, *second) = costs
    each = [1e6 * (two - one) / (many - few) for one, two in zip(first, second, strict=True)]
    return each[0], each[1]


def _held(server: Server, connections: int) -> int:
    """Return the client's memory in bytes, while it holds all connections."""
    command = _client(server, connections, "--size=64", "--hold=1h", *_ADDRESSES)
    with subprocess.Popen(
        [*command, "--progress=always"], stderr=subprocess.PIPE, text=True
    ) as client:
        assert client.stderr is not None
        try:
            for line in client.stderr:
                if re.search(rf"\b{connections:,} open\b", line):
                    return privateBytes(client.pid)
        finally:
            client.kill()
    raise RuntimeError(f"not all of {connections:,} connections were open together")


def _inOneProcess(sizes: list[int], messages: int, turns: int) -> list[Figures]:
    rows: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    with serving(SERVERS["echofactory"]) as server:
        # In turn, because the machine does not stay the same.
        for _ in range(turns):
            for size in sizes:
                rows[size].append(_perMessage(server, size, messages))
        held = {size: _held(server, size) for size in sizes}
    least = min(held.values())
    return [
        {
            "connections": size,
            "client_us": round(median(each[0] for each in found), 2),
            "server_us": round(median(each[1] for each in found), 2),
            "client_kib_per_connection": round((held[size] - least) / size / 1024, 2),
        }
        for size, found in rows.items()
    ]


# Several parts


def _inParts(most: int, seconds: str, turns: int, into: Path) -> list[Figures]:
    """Measure from one process to several parts, against a server in C."""
    rows: dict[int, list[tuple[float, float, float]]] = {n: [] for n in range(most + 1)}
    load = ("--size=64", f"--duration={seconds}")
    with serving([str(compiled(PEERS / "epoll.c", into)), "PORT"]) as server:
        for _ in range(turns):
            for parts, found in rows.items():
                dask = [f"--dask=local:{parts}"] if parts else []
                sent, _ = _run(_client(server, 100, *load, "--window=4", *dask))
                churned, _ = _run(_client(server, 100, *load, "--churn", *dask))
                skew = sent["parts"]["start_skew_ns"] if parts else 0
                found.append((sent["rate"]["achieved"], churned["rate"]["achieved"], skew))
    return [
        {
            "parts": parts or "one process",
            "messages_per_s": round(median(each[0] for each in found)),
            "connects_per_s": round(median(each[1] for each in found)),
            "start_skew_us": round(median(each[2] for each in found) / 1000),
        }
        for parts, found in rows.items()
    ]


# Losses


@contextmanager
def _cluster() -> Iterator[tuple[str, list[int]]]:
    """Run a scheduler and two workers. Yield its address, and the processes of all three."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        file = Path(folder) / "scheduler.json"

        def start(what: str, *arguments: str) -> int:
            process = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.dask_{what}", "--no-dashboard",
                 "--host", "127.0.0.1", *arguments],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process.pid

        pids = [start("scheduler", "--port", "0", "--scheduler-file", str(file))]
        limit = monotonic() + _LIMIT_S
        while not file.exists():
            if monotonic() > limit:
                raise RuntimeError("the scheduler does not start")
            sleep(0.05)
        address = json.loads(file.read_text())["address"]
        for _ in range(2):
            pids.append(start("worker", address, "--no-nanny", "--nthreads", "1"))
        yield address, pids


def _noticed(server: Server, what: str) -> float:
    """
    Lose something during a run, and return the seconds until the client has said so.

    @param what: C{part}, C{worker}, C{frozen worker} or C{scheduler}.
    """
    with _cluster() as (address, (scheduler, worker, *_)):
        command = _client(
            server, 10, "--size=64", "--rate=100", "--duration=60s", "--progress=always",
            f"--dask={address}", "--parts=2",
        )  # fmt: skip
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            assert process.stderr is not None
            try:
                return _lose(process.stderr, what, scheduler, worker)
            finally:
                process.kill()


def _lose(lines: Iterator[str], what: str, scheduler: int, worker: int) -> float:
    at = 0.0
    for line in lines:
        if not at and re.search(r"\b10 open\b", line):
            pid, number = worker, signal.SIGKILL
            if what == "part":
                (forks,) = children(worker)
                (pid,) = children(forks)
            elif what == "scheduler":
                pid = scheduler
            elif what == "frozen worker":
                number = signal.SIGSTOP
            os.kill(pid, number)
            at = perf_counter()
        elif at and line.startswith("part "):
            took = perf_counter() - at
            if what == "frozen worker":
                os.kill(worker, signal.SIGCONT)
            return took
    raise RuntimeError(f"the loss was not noticed: {what}")


# The books


def _merging(parts: int) -> float:
    """Return the milliseconds that an interval's account of a part takes at the coordinator."""
    workload = Workload(size=64, rate=Rate(1000, 1000), duration=10.0)
    whole = Assembly(workload.books(parts, 1.0), lambda results: None)
    whole.expect([1] * parts)
    whole.grid.align(0)
    books = [workload.books(1, 1.0) for _ in range(parts)]
    tellers = []
    for results in books:
        results.openCounts = OpenCounts(lambda: 0, 0)
        tellers.append(Accounts(results, 0))
    took = 0.0
    rounds = 4
    for second in range(1, rounds + 1):
        for number, (results, teller) in enumerate(zip(books, tellers, strict=True)):
            for each in range(1000):
                for latency in (results.response, results.service, results.sendLag):
                    assert latency is not None
                    latency.record(50_000 + 997 * each + number)
            results.closeInterval(second * 1_000_000_000)
            text = json.dumps(teller.interval())
            began = perf_counter()
            whole.take(number, json.loads(text))
            took += perf_counter() - began
    return 1000 * took / rounds / parts


def _draw(found: Figures, path: Path) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "echofactory", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 3.4), layout="constrained")
        cost, memory, parts = figure.subplots(1, 3)
        rows = found["one_process"]
        sizes = [row["connections"] for row in rows]
        for name, colour in (("client", "#0072b2"), ("server", "#d55e00")):
            figures = [row[f"{name}_us"] for row in rows]
            cost.plot(sizes, figures, "o-", color=colour, label=name)
        cost.set(xscale="log", ylim=(0, None), title="processor time of a message, µs")
        cost.legend(loc="lower right")
        per = [row["client_kib_per_connection"] for row in rows[1:]]
        memory.plot(sizes[1:], per, "o-", color="#0072b2")
        memory.set(xscale="log", ylim=(0, None), title="client's memory, KiB a connection")
        for each in (cost, memory):
            each.set_xlabel("connections in one process")
        rows = found["parts"]
        names = ["1 process", *(f"{row['parts']} parts" for row in rows[1:])]
        parts.bar(names, [row["messages_per_s"] / 1000 for row in rows], color="#0072b2")
        parts.set(title="thousand messages a second")
        parts.tick_params(axis="x", labelsize=8)
        for each in (cost, memory, parts):
            each.spines[["top", "right"]].set_visible(False)
            each.title.set_fontsize(10)
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only check that it works")
    quick = parser.parse_args().quick
    raiseDescriptorLimit()
    sizes = [10, 100] if quick else [10, 100, 1000, 5000, 10_000, 19_000]
    turns, messages, seconds = (1, 2000, "200ms") if quick else (3, 100_000, "3s")
    losses = ("part",) if quick else ("part", "worker", "frozen worker", "scheduler")
    found: Figures = {"at": datetime.now(UTC).isoformat(timespec="seconds")}

    def told(name: str) -> None:
        print(name, json.dumps(found[name]), flush=True)

    found["one_process"] = _inOneProcess(sizes, messages, turns)
    told("one_process")
    with tempfile.TemporaryDirectory() as folder:
        found["parts"] = _inParts(1 if quick else 3, seconds, turns, Path(folder))
    told("parts")
    with serving(SERVERS["echofactory"]) as server:
        found["noticed_ms"] = {each: round(1000 * _noticed(server, each)) for each in losses}
    told("noticed_ms")
    found["account_ms"] = {str(n): round(_merging(n), 3) for n in (1, 10, 100)}
    told("account_ms")
    if not quick:
        (_HERE / "growth.json").write_text(json.dumps(found, indent=2) + "\n")
        _draw(found, _HERE.parent / "docs" / "growth.svg")


if __name__ == "__main__":
    main()
