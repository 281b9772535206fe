"""
The status of a run of the client (C{--status}): it is served while the run goes on.
"""

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.streams import printError
from echofactory.cli.twistd import statusService
from echofactory.net.endpoints import ListenError
from echofactory.results.books import Results


class ClientStatus:
    """The status. Without C{--status}, nothing is served."""

    def __init__(self, options: ClientOptions, reactor: Any) -> None:
        """
        Listen. The metrics are those of a run that has not begun, until L{show} is called.

        @param reactor: listens, and times the samples.
        @raise SystemExit: with status 2 and one line, if the endpoint string describes no
            endpoint; with status 1 and one line, if its port cannot be bound.
        """
        self._show: Callable[[Results], None] = lambda results: None
        services = statusService(options, reactor, lambda: self._made(options))
        self._service = services[0] if services else None
        if self._service is None:
            return
        try:
            self._service.startService()
        except ListenError as error:
            printError(f"{options.program}: {options.listenOption(error.endpoint)}: {error}")
            raise SystemExit(1) from None

    def _made(self, options: ClientOptions) -> Any:
        # The import takes time and memory, so only a program with a status does it.
        from echofactory.status.run import RunStatus

        workload = options.workload
        status = RunStatus(
            Results(target=options.target or "", workload=workload.facts(), requested=0),
            options.connections,
            workload.longest,
        )
        self._show = status.show
        return status

    def show(self, results: Results) -> None:
        """Show these results from now on: their run begins."""
        self._show(results)

    def stop(self) -> Deferred[Any]:
        """Stop serving, because the run has ended. The result fires when that is done."""
        if self._service is None:
            return succeed(None)
        return maybeDeferred(self._service.stopService)
