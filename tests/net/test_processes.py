"""
Which processes go first.
"""

import os
import subprocess
import sys

import pytest
from programs import python

from echofactory.net.processes import goFirst

_THREAD = f"""
import os, subprocess, sys, threading
from {goFirst.__module__} import goFirst

def run():
    goFirst(threading.get_native_id())
    print(os.sched_getscheduler(threading.get_native_id()), flush=True)
    command = [sys.executable, "-c", "import os; print(os.sched_getscheduler(0))"]
    subprocess.run(command, check=True)

thread = threading.Thread(target=run)
thread.start()
thread.join()
print(os.sched_getscheduler(os.getpid()))
"""

_MAY = "import os; os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))"

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux have policies")


def policies(*before: str) -> list[int]:
    """Return the policies of the thread, of what it starts, and of its process."""
    done = python(_THREAD, before=before)
    assert done.stderr == ""
    return [int(line) & ~os.SCHED_RESET_ON_FORK for line in done.stdout.split()]


def mayGoFirst() -> bool:
    """Tell whether this user may choose such a policy."""
    return not python(_MAY).returncode


@linux
def test_a_thread_goes_first_and_what_it_starts_does_not() -> None:
    """If this user may: the thread alone, not its process, and not its child."""
    first = os.SCHED_RR if mayGoFirst() else os.SCHED_OTHER
    assert policies() == [first, os.SCHED_OTHER, os.SCHED_OTHER]


@linux
def test_a_nice_value_stays() -> None:
    """What the user has made less important stays so, and its children, too."""
    nice = python(
        "import os, threading, subprocess, sys\n"
        f"from {goFirst.__module__} import goFirst\n"
        "goFirst(threading.get_native_id())\n"
        "print(os.sched_getscheduler(0), flush=True)\n"
        "subprocess.run(['nice'], check=True)\n",
        before=["nice", "-n", "5"],
    )
    expected = int(subprocess.run(["nice"], capture_output=True, check=True).stdout) + 5
    assert nice.stdout.split() == [str(os.SCHED_OTHER), str(min(expected, 19))]


@linux
def test_it_is_undone() -> None:
    done = python(
        "import os, threading\n"
        f"from {goFirst.__module__} import goAsOthers, goFirst\n"
        "goFirst(threading.get_native_id())\n"
        "goAsOthers(threading.get_native_id())\n"
        "print(os.sched_getscheduler(0))\n"
    )
    assert done.stdout.split() == [str(os.SCHED_OTHER)]


@linux
def test_a_user_who_may_not() -> None:
    """Then nothing is different, and nothing is said."""
    without = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice", "--"]
    without += ["prlimit", "--rtprio=0"]
    assert policies(*(without if mayGoFirst() else [])) == [os.SCHED_OTHER] * 3
