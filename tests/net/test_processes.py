"""
Which processes go first.
"""

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


def mayGoFirst() -> bool:
    """Tell whether this user may lower a nice value."""
    found = subprocess.run(
        ["nice", "-n", "-10", "nice"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() == "-10"


def printed(*before: str) -> list[int]:
    command = [*before, sys.executable, "-c", _THREAD, _CHILD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux have priorities")
def test_a_thread_goes_first_and_what_it_starts_does_not() -> None:
    """If this user may: the thread alone, not its process, and not its child."""
    thread, child, process = printed()
    assert (child, process) == (0, 0)
    assert thread == (-10 if mayGoFirst() else 0)


@pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux have priorities")
def test_a_user_who_may_not() -> None:
    """Then nothing is different, and nothing is said."""
    if mayGoFirst():
        found = printed("setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice")
    else:
        found = printed()
    assert found == [0, 0, 0]
