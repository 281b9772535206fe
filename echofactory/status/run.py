"""
The status of a run of the client: that of a monitor, about the results of the run.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from time import perf_counter
from typing import Any, cast

from prometheus_client import Metric
from prometheus_client.metrics_core import InfoMetricFamily

from echofactory._version import __version__
from echofactory.client.monitor import ProbeService
from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.status.monitor import ProbeStatus
from echofactory.status.view import View


class _Run:
    """
    What L{ProbeStatus} reads of a monitor, of a run.

    @ivar results: the results of the run.
    @ivar connections: the number of connections of the run.
    @ivar size: of the longest message, in bytes.
    @ivar skipped: 0, because a run sends late messages too.
    """

    skipped = 0

    def __init__(self, results: Results, connections: int, size: int) -> None:
        self.results = results
        self.connections = connections
        self.size = size

    @property
    def rate(self) -> float | None:
        """Messages a second of the schedule; C{None}: there is none, or it has not begun."""
        return self.results.rateAsked

    @property
    def latestAt(self) -> Mapping[FailureKind, datetime]:
        """When the latest failure of each kind was."""
        return {kind: at for kind, (at, _) in self.results.latest.items()}


class RunStatus:
    """
    The L{Status<echofactory.status.Status>} of a run. Its health is C{ok} while at least one
    connection is up. The metrics are those of a monitor, and C{echofactory_run_info}.
    """

    def __init__(
        self,
        results: Results,
        connections: int,
        size: int,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        """
        @param results: of a run that has not begun; L{show} replaces them.
        @param connections: the number of connections of the run.
        @param size: of the longest message, in bytes.
        @param clock: returns monotonic seconds.
        """
        self._target = results.target
        self._run = _Run(results, connections, size)
        # It reads the attributes of L{_Run}, and calls nothing.
        self._probe = ProbeStatus(cast(ProbeService, self._run), self._target, clock)

    def show(self, results: Results) -> None:
        """Show these results from now on. Their counts begin at 0."""
        self._run.results = results

    @property
    def health(self) -> str:
        """See L{Status<echofactory.status.Status>}."""
        return self._probe.health

    def begin(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        self._probe.begin()

    def sample(self) -> None:
        """See L{Status<echofactory.status.Status>}."""
        self._probe.sample()

    def collect(self) -> Iterable[Metric]:
        """See L{Status<echofactory.status.Status>}."""
        yield InfoMetricFamily(
            "echofactory_run",
            "Always 1. The labels are the target and the title of the run, and the version of"
            " echofactory.",
            {
                "target": self._target,
                "title": self._run.results.title,
                "version": __version__,
            },
        )
        yield from self._probe.collect()

    async def facts(self) -> dict[str, Any]:
        """See L{Status<echofactory.status.Status>}."""
        # The results keep the first failure of each kind as its example.
        latest = {
            str(kind): {"at": at.isoformat(timespec="milliseconds"), **failure.asJSON()}
            for kind, (at, failure) in self._run.results.latest.items()
        }
        results = self._run.results
        return await self._probe.facts() | {
            "latest": latest,
            "title": results.title,
            "labels": results.labels,
        }

    def view(self, facts: dict[str, Any]) -> View:
        """See L{Status<echofactory.status.Status>}."""
        view = self._probe.view(facts)
        up, wanted = facts["connections"]["up"], facts["connections"]["wanted"]
        name = facts["title"] or "echofactory.client"
        view["title"] = f"{name}: {facts['target']}"
        # A connection that has completed its messages closes.
        view["state"] = f"{up} of {wanted} open"
        if not facts["failures"]:
            view["condition"] = "well"
        return view
