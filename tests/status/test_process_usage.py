"""
What processes use of the machine.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping
from math import inf

import pytest
from programs import LIMIT

from echofactory.status.usage import Usage, UsageMeter, usageOf, usageTiles

pytestmark = pytest.mark.oldest


def used(processorS: float, descriptors: int = 10, most: float = 100) -> Usage:
    return Usage(processorS, 1 << 20, 1 << 30, 0.0, descriptors, most)


class Measured:
    """A meter of processes whose use a test says."""

    def __init__(self) -> None:
        self.now: Mapping[int, Usage] = {}
        self.meter = UsageMeter(self._read)

    def _read(self, pid: int) -> Usage | None:
        return self.now.get(pid)

    def sample(self, atS: float, now: Mapping[int, Usage]) -> None:
        self.now = now
        self.meter.sample(atS, now)


@pytest.fixture
def measured() -> Measured:
    measured = Measured()
    measured.now = {1: used(5.0), 2: used(7.0)}
    measured.meter.begin(10.0, [1, 2])
    return measured


def test_another_process() -> None:
    """Its memory and descriptors, not those of this process; nothing once it has ended."""
    code = "import os; held = [os.dup(0) for _ in range(50)]; print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = usageOf(child.pid)
        assert found is not None
        assert found.openDescriptors == len(os.listdir(f"/proc/{child.pid}/fd")) >= 53
        assert found.maxDescriptors == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        assert 0 < found.residentBytes < found.virtualBytes
        assert found.processorS > 0
        child.send_signal(signal.SIGKILL)
        child.wait(LIMIT)
        assert usageOf(child.pid) is None


def test_processor_time_grows_with_work() -> None:
    """Its steps are shorter than the 10 ms of /proc."""
    seen: list[float] = []
    while len(seen) < 3:
        usage = usageOf(os.getpid())
        assert usage is not None
        if not seen or usage.processorS > seen[-1]:
            seen.append(usage.processorS)
    assert seen[2] - seen[0] != pytest.approx(0.02, abs=1e-9)


def test_use_is_per_second(measured: Measured) -> None:
    """Whatever time has passed between two samples."""
    measured.sample(12.0, {1: used(6.0), 2: used(7.5)})
    assert measured.meter.cores == {1: 0.5, 2: 0.25}
    assert measured.meter.total == 0.75
    measured.sample(12.5, {1: used(6.0), 2: used(8.0)})
    assert measured.meter.cores == {1: 0.0, 2: 1.0}


def test_a_process_that_ends_and_one_that_begins(measured: Measured) -> None:
    """All that the new one used, it used since the last sample; what ended is not negative."""
    measured.sample(11.0, {1: used(5.25), 3: used(0.5)})
    assert measured.meter.cores == {1: 0.25, 3: 0.5}


def test_a_pause_is_not_counted(measured: Measured) -> None:
    measured.now = {1: used(50.0), 2: used(70.0)}
    measured.meter.begin(100.0, [1, 2])
    measured.sample(101.0, {1: used(50.5), 2: used(70.0)})
    assert measured.meter.total == 0.5


def test_facts_of_several_processes(measured: Measured) -> None:
    """Sums; and the descriptors of the process that is nearest to its own limit."""
    measured.sample(11.0, {1: used(5.5, 40, 100), 2: used(7.25, 60, 1000)})
    assert measured.meter.facts([1, 2]) == {
        "processor_cores": 0.75,
        "resident_bytes": 2 << 20,
        "open_descriptors": 40,
        "max_descriptors": 100,
    }
    assert measured.meter.facts([2])["open_descriptors"] == 60


def test_descriptors_without_a_limit(measured: Measured) -> None:
    """JSON has no infinity."""
    measured.sample(11.0, {1: used(5.5, 40, inf)})
    facts = measured.meter.facts([1])
    assert (facts["open_descriptors"], facts["max_descriptors"]) == (40, None)
    assert usageTiles(facts)[-1] == {"name": "Open descriptors", "value": 40, "unit": ""}


def test_a_system_that_tells_nothing() -> None:
    """Dashes on the page, not zeros."""
    meter = UsageMeter(lambda pid: None)
    meter.begin(0.0, [1])
    meter.sample(1.0, [1])
    assert meter.total is None
    facts = meter.facts([1])
    assert set(facts.values()) == {None}
    assert [tile["value"] for tile in usageTiles(facts)] == [None, None, None]
