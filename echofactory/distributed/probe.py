"""
A run of several parts in one call.
"""

from typing import Any

from echofactory.client.settings import Opening, Patience
from echofactory.client.target import Target
from echofactory.distributed.cluster import Cluster
from echofactory.distributed.coordinator import DistributedRun
from echofactory.distributed.hosts import LocalCluster, RemoteCluster
from echofactory.distributed.settings import RunSettings
from echofactory.results.books import Results
from echofactory.workload.settings import Workload


async def probeAcross(
    reactor: Any,
    where: LocalCluster | RemoteCluster,
    endpoint: str,
    workload: Workload,
    connections: int = 2,
    parts: int | None = None,
    patience: Patience | None = None,
    opening: Opening | None = None,
    spin: bool = False,
) -> Results:
    """
    Make a run as L{probe<echofactory.client.probe.probe>} does, with several processes: the
    parts of a Dask cluster.

    @param reactor: the clock, and the thread of the coordinator.
    @param where: a cluster of this machine, or one to connect to.
    @param endpoint: a client endpoint string. The parts connect to it.
    @param workload: what each connection sends.
    @param connections: how many in all parts together, 1 or more.
    @param parts: the number of parts, from 1 to C{connections}; C{None}: one for each worker of
        the cluster.
    @param patience: the timeouts; C{None}: their defaults.
    @param opening: how connections are asked for; C{None}: all at once.
    @param spin: whether each part keeps a core awake, so that the messages of a rate are sent
        within microseconds of when they are due.
    @raise EndpointError: if the string describes no endpoint.
    @raise ClusterError: if the cluster cannot be used, or a part cannot be started.
    @raise TypeError: if an argument is of another type.
    @raise ValueError: if an argument is out of range.
    """
    settings = RunSettings(
        target=endpoint,
        workload=workload,
        connections=connections,
        patience=patience or Patience(),
        opening=opening or Opening(),
        spin=spin,
    )
    # The parts would fail one by one.
    Target(reactor, endpoint, settings.patience.connect, settings.opening.addresses)
    cluster = Cluster(reactor, where)
    try:
        return await DistributedRun(reactor, cluster, settings, parts).run()
    finally:
        await cluster.close()
