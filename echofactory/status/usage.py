"""
What processes use: processor time, memory and descriptors, as Linux tells in C{/proc}.

C{ProcessCollector} of C{prometheus_client} lists every descriptor. With 10,000 connections,
that takes 12 ms, and the echo waits meanwhile. This module asks only for their number.
"""

import os
import resource
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any, NamedTuple

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

from echofactory.status.view import Tile


class Usage(NamedTuple):
    """
    What one process uses.

    @ivar processorS: processor time since the process started, in seconds.
    @ivar residentBytes: memory that is in RAM.
    @ivar virtualBytes: address space.
    @ivar startedS: when the process started, in seconds since 1970-01-01 UTC.
    @ivar openDescriptors: number of open descriptors.
    @ivar maxDescriptors: the soft limit of open descriptors. Infinity: no limit.
    """

    processorS: float
    residentBytes: int
    virtualBytes: int
    startedS: float
    openDescriptors: int
    maxDescriptors: float


@cache
def _bootedS() -> float:
    """Return when the machine booted, in seconds since 1970."""
    with open("/proc/stat", "rb") as file:
        return next(float(line.split()[1]) for line in file if line.startswith(b"btime "))


def _processorClock(pid: int) -> int:
    """
    Return the clock of a process's processor time, as clock_getcpuclockid(3) of Linux does. Its
    unit is 1 ns. The unit of C{/proc} is 10 ms, and a chart would show mostly that.
    """
    return (~pid << 3) | 2


def usageOf(pid: int) -> Usage | None:
    """Return what a process uses. C{None}: it has ended, or the system does not tell."""
    if sys.platform != "linux":
        return None
    folder = f"/proc/{pid}"
    try:
        with open(f"{folder}/stat", "rb") as file:
            # The name, in parentheses, can have spaces. See proc_pid_stat(5).
            fields = file.read().rpartition(b")")[2].split()
        # Before version 6.2, Linux says 0.
        descriptors = os.stat(f"{folder}/fd").st_size or len(os.listdir(f"{folder}/fd"))
        most, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        ticks = os.sysconf("SC_CLK_TCK")
        return Usage(
            processorS=time.clock_gettime(_processorClock(pid)),
            residentBytes=int(fields[21]) * resource.getpagesize(),
            virtualBytes=int(fields[20]),
            startedS=_bootedS() + int(fields[19]) / ticks,
            openDescriptors=descriptors,
            maxDescriptors=float("inf") if most == resource.RLIM_INFINITY else most,
        )
    except OSError:
        return None


class UsageMeter:
    """
    Measures processes, and their use of the processor from one sample to the next.

    @ivar cores: by process, the processor time per second since the sample before. 1: one
        core was busy. A process of which nothing is known is missing.
    """

    def __init__(self, read: Callable[[int], Usage | None] = usageOf) -> None:
        """
        @param read: returns what a process uses.
        """
        self.cores: Mapping[int, float] = {}
        self._read = read
        self._usages: Mapping[int, Usage] = {}
        self._atS = 0.0

    def begin(self, atS: float, pids: Iterable[int]) -> None:
        """Begin, or continue after a pause."""
        self._atS = atS
        self._usages = self._readAll(pids)

    def sample(self, atS: float, pids: Iterable[int]) -> None:
        """
        Take a sample. A process that was not there before has started meanwhile.

        @param atS: monotonic time in seconds.
        @param pids: the processes.
        """
        before, passedS = self._usages, atS - self._atS
        self.begin(atS, pids)
        if passedS > 0:
            self.cores = {
                pid: max(
                    0.0, usage.processorS - (before[pid].processorS if pid in before else 0)
                )
                / passedS
                for pid, usage in self._usages.items()
            }

    def _readAll(self, pids: Iterable[int]) -> dict[int, Usage]:
        read = {pid: self._read(pid) for pid in pids}
        return {pid: usage for pid, usage in read.items() if usage is not None}

    @property
    def total(self) -> float | None:
        """The sum of L{cores}. C{None}: nothing is known."""
        return sum(self.cores.values()) if self.cores else None

    def facts(self, pids: Iterable[int]) -> dict[str, Any]:
        """
        Return what these processes use, as of the last sample: the sums, and the descriptors
        of the process that has used the most of its limit. C{None}: nothing is known.
        """
        usages = [self._usages[pid] for pid in pids if pid in self._usages]
        cores = [self.cores[pid] for pid in pids if pid in self.cores]
        fullest = max(
            usages, key=lambda each: each.openDescriptors / each.maxDescriptors, default=None
        )
        return {
            "processor_cores": round(sum(cores), 3) if cores else None,
            "resident_bytes": sum(each.residentBytes for each in usages) if usages else None,
            "open_descriptors": fullest and fullest.openDescriptors,
            "max_descriptors": fullest
            and (
                None if fullest.maxDescriptors == float("inf") else int(fullest.maxDescriptors)
            ),
        }


def percent(cores: float | None) -> float | None:
    """Return processor use as the page writes it: 100 is one core."""
    return None if cores is None else round(100 * cores, 1)


def usageTiles(facts: Mapping[str, Any]) -> list[Tile]:
    """Return what the page shows of L{UsageMeter.facts}."""
    most = facts["max_descriptors"]
    return [
        {"name": "Processor", "value": percent(facts["processor_cores"]), "unit": "%"},
        {"name": "Memory", "value": facts["resident_bytes"], "unit": "B"},
        {
            "name": "Open descriptors",
            "value": facts["open_descriptors"],
            "unit": "" if most is None else f"of {most:,}",
        },
    ]


def processMetrics() -> Iterable[Metric]:
    """Return the metrics of this process. Their names are those of Prometheus' own clients."""
    usage = usageOf(os.getpid())
    if usage is None:
        return
    yield CounterMetricFamily(
        "process_cpu_seconds", "User and system CPU time of this process.", usage.processorS
    )
    for name, text, value in (
        ("resident_memory_bytes", "Memory of this process in RAM.", usage.residentBytes),
        ("virtual_memory_bytes", "Address space of this process.", usage.virtualBytes),
        (
            "start_time_seconds",
            "Start time of this process, in seconds since 1970-01-01 UTC.",
            usage.startedS,
        ),
        ("open_fds", "Open file descriptors of this process.", usage.openDescriptors),
        ("max_fds", "Maximum number of open file descriptors.", usage.maxDescriptors),
    ):
        yield GaugeMetricFamily(f"process_{name}", text, value)
