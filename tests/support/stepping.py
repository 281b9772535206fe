"""
A program whose wall clock is set while it runs.

    python stepping.py SECONDS AFTER MODULE [ARGUMENT...]

@var SECONDS: that the clock is set forward by; back, if negative.
@var AFTER: seconds after the start.
@var MODULE: what to run, as C{python -m} does.
"""

import runpy
import sys
import time

seconds, after, module, *arguments = sys.argv[1:]
_wall, _since = time.time, time.monotonic()


def _stepped() -> float:
    step = float(seconds) if time.monotonic() - _since > float(after) else 0.0
    return _wall() + step


# Before Twisted is imported, which keeps the function.
time.time = _stepped
sys.argv = [module, *arguments]
runpy.run_module(module, run_name="__main__", alter_sys=True)
