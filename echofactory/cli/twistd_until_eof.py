"""
C{python -m echofactory.cli.twistd_until_eof}: a C{twistd} that also stops when its standard
input ends. So it ends with the process that holds the other end of that pipe.
"""

import os
from signal import SIGTERM
from threading import Thread

from twisted.scripts.twistd import run


def _stopAtTheEnd() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), SIGTERM)


if __name__ == "__main__":
    # A thread, because twistd chooses the reactor itself. Nothing joins a daemon thread.
    Thread(target=_stopAtTheEnd, daemon=True).start()
    run()
