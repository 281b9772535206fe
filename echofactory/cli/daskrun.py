"""
A run of the client over several processes (C{--dask}).
"""

from dataclasses import replace
from threading import get_native_id
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.streams import printError
from echofactory.cli.tlsoptions import clientTLSArguments
from echofactory.distributed.cluster import Cluster
from echofactory.distributed.coordinator import DistributedRun
from echofactory.distributed.hosts import ClusterError, RemoteCluster
from echofactory.distributed.settings import ClientTLSSettings, RunSettings
from echofactory.net.processes import goAsOthers, goFirst
from echofactory.net.tlscontext import readFile
from echofactory.workload.settings import Workload


class DaskRuns:
    """The runs of one command: several, if it is a search."""

    def __init__(self, reactor: Any, options: ClientOptions) -> None:
        """
        @raise SystemExit: with one line. Status 1: Dask is not installed. Status 2: a file
            cannot be read.
        """
        assert options.dask is not None
        self._reactor = reactor
        self._options = options
        where = options.dask.where
        if isinstance(where, RemoteCluster):
            for name in ("ca", "cert", "key"):
                self._refuseUnreadable(name, getattr(where, name))
        try:
            self._cluster = Cluster(reactor, where)
        except ClusterError as error:
            printError(f"{options.program}: --dask: {error}")
            raise SystemExit(1) from None
        arguments = clientTLSArguments(options, options.readHost())
        assert options.target is not None
        self._settings = RunSettings(
            target=options.target,
            workload=options.workload,
            connections=options.connections,
            patience=options.patience,
            opening=options.opening,
            interval=options.interval,
            spin=bool(options["spin"]),
            express=not options["no-express"],
            family=options.family,
            tls=None if arguments is None else ClientTLSSettings.read(arguments),
            socketOptions=options.socketOptions,
        )

    def _refuseUnreadable(self, name: str, path: str | None) -> None:
        if path is None:
            return
        try:
            readFile(name, path)
        except ValueError as error:
            self._options.refuse(f"dask-{name}", str(error).partition(": ")[2])

    def run(self, workload: Workload) -> DistributedRun:
        """Return a run. The thread that calls this coordinates it, and measures nothing."""
        goFirst(get_native_id())
        assert self._options.dask is not None
        return DistributedRun(
            self._reactor,
            self._cluster,
            replace(self._settings, workload=workload),
            self._options.dask.parts,
        )

    def exitIfRefused(self, reason: Failure) -> None:
        """
        @raise SystemExit: with status 1 and one line, if the cluster could not be used.
        """
        if reason.check(ClusterError):
            printError(f"{self._options.program}: --dask: {reason.getErrorMessage()}")
            raise SystemExit(1)

    def close(self) -> "Deferred[None]":
        """Leave the cluster. What comes then, such as a picture, runs as usual."""
        goAsOthers(get_native_id())
        return self._cluster.close()
