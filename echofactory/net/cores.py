"""
How many cores this process can keep busy. Its CPU affinity sets a limit, and so does a quota
of CPU time that a container or a service has (Linux cgroups, versions 1 and 2).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from math import ceil
from pathlib import Path, PurePosixPath


def usableCores(root: Path = Path("/")) -> int:
    """
    Return the number of cores, 1 or more. A quota of 1.5 cores is rounded up to 2.

    @param root: the directory that has C{/proc} and the mounted cgroups.
    """
    allowed = len(os.sched_getaffinity(0))
    return max(1, min([allowed, *(ceil(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Return the quotas of this process's cgroups and of their parents, in cores."""
    for folder in _groups(root):
        with suppress(OSError, ValueError, ZeroDivisionError):
            # Without a quota, the file has C{max 100000}, and C{max} is not a number.
            quota, period = (folder / "cpu.max").read_text().split()
            yield int(quota) / int(period)
        with suppress(OSError, ValueError, ZeroDivisionError):
            quota = (folder / "cpu.cfs_quota_us").read_text()
            if int(quota) > 0:
                yield int(quota) / int((folder / "cpu.cfs_period_us").read_text())


def _groups(root: Path) -> Iterator[Path]:
    """Return the directories of the cgroups that can limit this process, innermost first."""
    try:
        memberships = (root / "proc/self/cgroup").read_text().splitlines()
        mounts = (root / "proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return
    for membership in memberships:
        _, controllers, path = membership.split(":", 2)
        for mount in mounts:
            # See cgroups(7) and proc_pid_mountinfo(5).
            before, _, after = mount.partition(" - ")
            fields = before.split()
            # The source of a mount can be empty.
            described = after.split(" ")
            if len(fields) < 5 or len(described) < 3:
                continue
            kind, _, options = described[:3]
            unified = kind == "cgroup2" and not controllers
            if not unified and not (
                kind == "cgroup"
                and "cpu" in controllers.split(",")
                and "cpu" in options.split(",")
            ):
                continue
            top = root / fields[4].lstrip("/")
            # In a container, the mount can begin at the container's own cgroup.
            inner = PurePosixPath()
            with suppress(ValueError):
                inner = PurePosixPath(path).relative_to(fields[3])
            for above in (inner, *inner.parents):
                yield top / above
