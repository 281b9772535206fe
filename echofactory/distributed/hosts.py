"""
Where the parts of a run are: which cluster, and what its workers are.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from platform import python_version
from time import perf_counter_ns
from typing import Any

from echofactory._version import __version__
from echofactory.distributed.agent import facts
from echofactory.net.descriptors import RESERVE
from echofactory.values.printable import printable

_CLOCK_READS = 8
"""Times that the clock of each worker is read."""


class ClusterError(Exception):
    """The cluster cannot be used. The text is for the user."""


@dataclass(frozen=True, kw_only=True)
class LocalCluster:
    """A cluster of this machine, which lives as long as the run."""


@dataclass(frozen=True, kw_only=True)
class RemoteCluster:
    """
    A cluster to connect to.
    """

    address: str
    """The address of its scheduler, such as C{tls://10.0.0.1:8786}."""
    ca: str | None = None
    """The PEM file of the authority of its certificates; C{None}: it has no TLS."""
    cert: str | None = None
    """The PEM file of the certificate of this process."""
    key: str | None = None
    """The PEM file of the certificate's key."""


@dataclass(frozen=True)
class Host:
    """
    A worker of the cluster.

    @ivar address: the address of the worker, as the scheduler has it.
    @ivar name: the address or name of its machine.
    @ivar descriptors: descriptors that a process can open there.
    @ivar offsetNs: its C{perf_counter_ns} minus that of this process.
    @ivar errorNs: the error of C{offsetNs} does not exceed this.
    """

    address: str
    name: str
    descriptors: int
    offsetNs: int = 0
    errorNs: int = 0

    @property
    def connections(self) -> int:
        """The connections that fit into one part."""
        return max(0, self.descriptors - RESERVE)


async def examined(client: Any, name: str, here: bool) -> list[Host]:
    """
    Find out what the workers of a cluster are.

    @param client: of the cluster.
    @param name: the cluster, for people.
    @param here: whether the workers are in this process.
    @raise ClusterError: if there are none, or one does not fit.
    """
    identity = await client.scheduler.identity(n_workers=-1)
    names = {
        address: printable(str(worker.get("host") or address))
        for address, worker in identity["workers"].items()
    }
    if not names:
        raise ClusterError(f"{name}: the scheduler has no workers")
    # Functions of the standard library are there whatever the workers have.
    for address, answer in (await _run(client, version, "echofactory")).items():
        if isinstance(answer, BaseException):
            raise ClusterError(
                f"the worker on {names.get(address, address)} has no echofactory"
                f" {__version__}: {reasonText(answer)}"
            )
    told = await _run(client, facts)
    # The workers of this process have its clock.
    offsets = dict.fromkeys(told, (0, 0)) if here else await _offsets(client)
    return [
        _host(names.get(address, address), address, answer, offsets[address])
        for address, answer in told.items()
    ]


def _host(name: str, address: str, answer: Any, offset: tuple[int, int]) -> Host:
    """
    Return a worker that fits.

    @param answer: what it has answered to L{facts}; or an exception.
    """
    if isinstance(answer, BaseException):
        raise ClusterError(
            f"the worker on {name} has another version than echofactory {__version__}:"
            f" {reasonText(answer)}"
        )
    theirs, python, descriptors = answer
    # The random numbers of a schedule are the same only within a version of Python.
    ours = python_version().rpartition(".")[0]
    for what, one, other in (
        ("echofactory", theirs, __version__),
        ("Python", python.rpartition(".")[0], ours),
    ):
        if one != other:
            raise ClusterError(
                f"the worker on {name} has {what} {printable(str(one))}, and this process has"
                f" {other}"
            )
    return Host(address, name, descriptors, *offset)


async def _run(client: Any, function: Callable[..., Any], *arguments: object) -> dict[str, Any]:
    """Call a function in each worker, and return what each has answered, or its exception."""
    found: dict[str, Any] = await client.run(function, *arguments, on_error="return")
    return found


async def _offsets(client: Any) -> dict[str, tuple[int, int]]:
    """
    Return the difference of each worker's clock, and its error: half of the shortest time from
    asking to the answer.
    """
    best: dict[str, tuple[int, int]] = {}
    for _ in range(_CLOCK_READS):
        before = perf_counter_ns()
        answers = await _run(client, perf_counter_ns)
        errorNs = (perf_counter_ns() - before) // 2
        for address, theirs in answers.items():
            if isinstance(theirs, int) and errorNs < best.get(address, (0, 1 << 62))[1]:
                best[address] = theirs - before - errorNs, errorNs
    return best


def reasonText(error: BaseException) -> str:
    """Return an exception as one printable line."""
    lines = str(error).strip().splitlines()
    return printable(lines[0] if lines else type(error).__name__)


def spread(hosts: Sequence[Host], parts: int) -> list[Host]:
    """Return the host of each part: the hosts take turns."""
    return [hosts[number % len(hosts)] for number in range(parts)]
