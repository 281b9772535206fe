"""
Which processes go first.
"""

import os
import subprocess
import sys

import pytest

_THREAD = """
import os, subprocess, sys, threading
from echofactory.net.processes import goFirst

def run():
    goFirst(threading.get_native_id())
    print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()), flush=True)
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)

thread = threading.Thread(target=run)
thread.start()
thread.join()
print(os.getpriority(os.PRIO_PROCESS, os.getpid()))
"""

_CHILD = """
import os
from echofactory.net.processes import goAsOthers
goAsOthers()
print(os.getpriority(os.PRIO_PROCESS, 0), flush=True)
"""


BEFORE = os.getpriority(os.PRIO_PROCESS, 0)
"""The nice value of this process, which others may have changed."""


def mayGoFirst() -> bool:
    """Tell whether this user may lower a nice value."""
    command = ["nice", "-n", "-40", "nice"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    return found.stdout.strip() == "-20"


def printed(*before: str) -> list[int]:
    command = [*before, sys.executable, "-c", _THREAD, _CHILD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux have priorities")
def test_a_thread_goes_first_and_what_it_starts_does_not() -> None:
    """If this user may: the thread alone, not its process, and not its child."""
    allowed = mayGoFirst()
    assert printed() == ([-10, 0, BEFORE] if allowed else [BEFORE] * 3)


@pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux have priorities")
def test_a_user_who_may_not() -> None:
    """Then nothing is different, and nothing is said."""
    without = ["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"]
    assert printed(*(without if mayGoFirst() else [])) == [BEFORE] * 3
