"""
The search for garbage does not hold up a run.
"""

import sys

import pytest
from programs import multiecho, python

_EXEMPT = """
import gc
from types import SimpleNamespace
from echofactory.net.garbage import Exemption

gc.collect()
exemption = Exemption()
for count in 1, 3, 2, 3, 4:
    new = [[] for _ in range(1000)]
    before = gc.get_freeze_count()
    exemption.intervalEnded(SimpleNamespace(open=count))
    print(gc.get_freeze_count() - before >= 1000)
"""


def test_what_is_exempt() -> None:
    """The objects that exist when more connections are open than ever before."""
    done = python(_EXEMPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "False", "False", "True"]


_COUNTING = """
import atexit, gc, runpy, sys

whole = []

def searched(phase, info):
    # Not those of the imports.
    if phase == "stop" and info["generation"] == 2 and gc.get_freeze_count():
        whole.append(info)

gc.callbacks.append(searched)
# Before the last search, that of the end.
atexit.register(lambda: print("whole searches:", len(whole)))
runpy.run_module("echofactory.client", run_name="__main__", alter_sys=True)
"""


@pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="its whole searches are done in small steps"
)
def test_no_whole_search_while_a_client_opens_connections() -> None:
    """With the settings of Python, there are whole searches during this run."""
    with multiecho("--trace", "none", "127.0.0.1", "0") as (_, port):
        done = python(_COUNTING, "127.0.0.1", str(port), "8000", "--count", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "whole searches: 0"
