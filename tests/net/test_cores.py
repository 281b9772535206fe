"""
How many workers C{--workers auto} is: the cores that a quota leaves.
"""

import os
from pathlib import Path

import pytest

from echofactory.cli.parsers import parseWorkers
from echofactory.net.cores import usableCores

UNIFIED = "30 25 0:26 {root} /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw\n"
CPU = "31 25 0:27 {root} /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
MEMORY = "32 25 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"


@pytest.fixture(autouse=True)
def fourCores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})


def system(root: Path, cgroup: str, mounts: str, **files: str) -> Path:
    """
    Make the files of a system.

    @param files: by path below C{/sys/fs/cgroup}, with C{__} for C{/}.
    """
    folder = root / "proc/self"
    folder.mkdir(parents=True)
    (folder / "cgroup").write_text(cgroup)
    (folder / "mountinfo").write_text(mounts)
    for name, content in files.items():
        *folders, last = name.split("__")
        path = root.joinpath("sys/fs/cgroup", *folders, last.replace("_", ".", 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("50000", 1), ("100000", 1), ("150000", 2), ("400000", 4), ("900000", 4), ("max", 4)],
)
def test_a_quota_of_version_2(tmp_path: Path, quota: str, cores: int) -> None:
    """At least 1, rounded up, at most the affinity."""
    files = {"a__b__cpu_max": f"{quota} 100000\n"}
    system(tmp_path, "0::/a/b\n", UNIFIED.format(root="/"), **files)
    assert usableCores(tmp_path) == cores


def test_a_quota_above(tmp_path: Path) -> None:
    """The least of the cgroup's own and of those around it holds."""
    files = {"a__b__cpu_max": "300000 100000\n", "a__cpu_max": "20000 10000\n"}
    system(tmp_path, "0::/a/b\n", UNIFIED.format(root="/"), **files)
    assert usableCores(tmp_path) == 2


@pytest.mark.parametrize(("quota", "cores"), [("50000", 1), ("250000", 3), ("-1", 4)])
def test_a_quota_of_version_1(tmp_path: Path, quota: str, cores: int) -> None:
    """The controller of the processor counts, and no other."""
    files = {
        "cpu__a__cpu_cfs_quota_us": f"{quota}\n",
        "cpu__a__cpu_cfs_period_us": "100000\n",
        "memory__m__cpu_cfs_quota_us": "1\n",
        "memory__m__cpu_cfs_period_us": "100000\n",
    }
    system(
        tmp_path,
        "5:memory:/m\n4:cpu,cpuacct:/a\n0::/\n",
        MEMORY + CPU.format(root="/") + UNIFIED.format(root="/"),
        **files,
    )
    assert usableCores(tmp_path) == cores


@pytest.mark.parametrize("root", ["/docker/1", "/elsewhere"])
def test_in_a_container(tmp_path: Path, root: str) -> None:
    """What is mounted there begins at the container's own cgroup."""
    system(tmp_path, "0::/docker/1\n", UNIFIED.format(root=root), cpu_max="200000 100000\n")
    assert usableCores(tmp_path) == 2


@pytest.mark.parametrize("content", ["", "x", "0 0", "1 2 3", "100 0"])
def test_a_file_that_says_something_else(tmp_path: Path, content: str) -> None:
    """It is no quota."""
    system(tmp_path, "0::/\n", UNIFIED.format(root="/"), cpu_max=content)
    assert usableCores(tmp_path) == 4


@pytest.mark.parametrize("line", ["33 25 0:28 / /tmp rw - tmpfs  rw", "33 25", "- x", ""])
def test_a_mount_that_says_less(tmp_path: Path, line: str) -> None:
    """A mount without a source, for one. The others count."""
    mounts = f"{line}\n{UNIFIED.format(root='/')}"
    system(tmp_path, "0::/\n", mounts, cpu_max="200000 100000\n")
    assert usableCores(tmp_path) == 2


def test_cgroups_without_a_source(tmp_path: Path) -> None:
    """Their quota counts."""
    mounts = "30 25 0:26 / /sys/fs/cgroup rw - cgroup2  rw\n"
    system(tmp_path, "0::/\n", mounts, cpu_max="200000 100000\n")
    assert usableCores(tmp_path) == 2


def test_without_cgroups(tmp_path: Path) -> None:
    """The affinity alone counts."""
    assert usableCores(tmp_path) == 4


def test_the_option() -> None:
    """--workers auto is that number."""
    assert parseWorkers("auto") == usableCores()
