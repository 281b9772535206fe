"""
An echo server for many connections, and the client that opens N of them,
checks that every byte comes back, and measures.
"""

__version__ = "0.1.0"

from echofactory.client import EchoClient, EchoClientFactory, Patience, probe
from echofactory.counts import Counts
from echofactory.echo import Echo
from echofactory.express import ExpressReactor
from echofactory.faults import Faults
from echofactory.faulty import FaultyEcho, FaultyEchoFactory
from echofactory.monitor import ProbeService
from echofactory.results import FailureKind, Results
from echofactory.server import EchoFactory, Limits
from echofactory.service import EchoService
from echofactory.trace import Trace
from echofactory.workload import Workload

__all__ = [
    "Counts",
    "Echo",
    "EchoClient",
    "EchoClientFactory",
    "EchoFactory",
    "EchoService",
    "ExpressReactor",
    "FailureKind",
    "Faults",
    "FaultyEcho",
    "FaultyEchoFactory",
    "Limits",
    "Patience",
    "ProbeService",
    "Results",
    "Trace",
    "Workload",
    "probe",
]
