"""
The signals that end a run, in a process of their own.
"""

import signal

from programs import python

_PROGRAM = """
import os, signal
from echofactory.cli.interrupts import Interrupts, cancelLimit

def left():
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0

interrupts = Interrupts(lambda: print("end"), lambda: print("show"))
for step in "INT", "INT", "over", "INT", "cancel":
    if step == "over":
        interrupts.runEnded()
    elif step == "cancel":
        cancelLimit()
    else:
        os.kill(os.getpid(), getattr(signal, f"SIG{step}"))
    print(step, left())
print(interrupts.number)
"""


def test_each_signal_ends_what_the_run_waits_for() -> None:
    """The second one sets the limit for the report, which is gone when all is written."""
    done = python(_PROGRAM)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "end",
        "INT False",
        "end",
        "INT True",
        "over True",
        "INT True",
        "cancel False",
        str(int(signal.SIGINT)),
    ]
