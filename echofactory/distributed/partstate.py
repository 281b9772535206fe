"""
What the coordinator knows of a part.
"""

from twisted.internet.defer import Deferred

from echofactory.distributed.cluster import Handle
from echofactory.distributed.hosts import Host
from echofactory.workload.share import Share


class PartState:
    """
    A part.

    The states of a part: I{starting} (no C{ready}), I{ready}, I{up} (each connection is
    established or has failed), and I{over}: it has told its results, or is lost.
    """

    def __init__(self, number: int, share: Share, host: Host) -> None:
        self.number = number
        self.share = share
        self.host = host
        self.handle: Handle | None = None
        self.ready: Deferred[None] = Deferred()
        self.up = False
        self.over = self.told = False
        self.silentChecks = 0
        self.beganNs: int | None = None
        self.holdNs: int | None = None

    @property
    def name(self) -> str:
        """The part, for people: its number counts from 1."""
        return f"part {self.number + 1} on {self.host.name}"


def statusText(status: int) -> str:
    """Return how a process ended, for people."""
    return f"by signal {-status}" if status < 0 else f"with exit status {status}"
