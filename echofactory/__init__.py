"""
An echo server for many connections, and the client that opens N of them,
checks that every byte comes back, and measures.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from echofactory._version import __version__

if TYPE_CHECKING:
    from echofactory.client.factory import EchoClientFactory
    from echofactory.client.monitor import ProbeService
    from echofactory.client.probe import probe
    from echofactory.client.settings import Patience
    from echofactory.client.stream import EchoClient
    from echofactory.express.reactor import ExpressReactor, onExpress
    from echofactory.net.monotonic import useMonotonicTime
    from echofactory.net.tracing import Trace
    from echofactory.results.books import Results
    from echofactory.results.expectations import Expectation, Judgement
    from echofactory.results.failures import FailureKind
    from echofactory.results.judging import judge
    from echofactory.server.counts import Counts
    from echofactory.server.echo import Echo
    from echofactory.server.factory import EchoFactory
    from echofactory.server.faults.echo import FaultyEcho, FaultyEchoFactory
    from echofactory.server.faults.settings import Faults
    from echofactory.server.service import EchoService, OrderedServices
    from echofactory.server.settings import Limits
    from echofactory.workload.schedule import Rate
    from echofactory.workload.settings import Workload

# Loaded when they are asked for: a program needs few of them, and starts sooner.
_MODULES = {
    "ClusterError": "distributed.hosts",
    "Counts": "server.counts",
    "Echo": "server.echo",
    "EchoClient": "client.stream",
    "EchoClientFactory": "client.factory",
    "EchoFactory": "server.factory",
    "EchoService": "server.service",
    "Expectation": "results.expectations",
    "ExpressReactor": "express.reactor",
    "FailureKind": "results.failures",
    "Faults": "server.faults.settings",
    "FaultyEcho": "server.faults.echo",
    "FaultyEchoFactory": "server.faults.echo",
    "Judgement": "results.expectations",
    "Limits": "server.settings",
    "LocalCluster": "distributed.hosts",
    "OrderedServices": "server.service",
    "Patience": "client.settings",
    "ProbeService": "client.monitor",
    "RemoteCluster": "distributed.hosts",
    "Rate": "workload.schedule",
    "Results": "results.books",
    "Trace": "net.tracing",
    "Workload": "workload.settings",
    "judge": "results.judging",
    "onExpress": "express.reactor",
    "probe": "client.probe",
    "probeAcross": "distributed.probe",
    "useMonotonicTime": "net.monotonic",
}

__all__ = [
    "ClusterError",
    "Counts",
    "Echo",
    "EchoClient",
    "EchoClientFactory",
    "EchoFactory",
    "EchoService",
    "Expectation",
    "ExpressReactor",
    "FailureKind",
    "Faults",
    "FaultyEcho",
    "FaultyEchoFactory",
    "Judgement",
    "Limits",
    "LocalCluster",
    "OrderedServices",
    "Patience",
    "ProbeService",
    "Rate",
    "RemoteCluster",
    "Results",
    "Trace",
    "Workload",
    "__version__",
    "judge",
    "onExpress",
    "probe",
    "probeAcross",
    "useMonotonicTime",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
