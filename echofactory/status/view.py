"""
What the page draws, and who tells it: the shape of C{/view.json}.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, Protocol, TypedDict

from prometheus_client import Metric

Cell = str | float | None
"""A number is written with its unit, C{None} as a dash, and text as it is."""

Condition = Literal["well", "impaired", "down"]
"""How the page colours the state: green, amber or red."""


class Tile(TypedDict):
    """
    One figure.

    @ivar unit: C{B} and C{B/s} are written as KiB and so on, C{s} as days, hours and
        minutes; any other follows the number, and may be empty.
    """

    name: str
    value: Cell
    unit: str


class Chart(TypedDict):
    """
    One figure over time.

    @ivar points: seconds before now, from -300 to 0, and the figure. C{None}: nothing was
        measured. The line has a gap there, and where samples are missing.
    """

    title: str
    unit: str
    points: Sequence[tuple[float, float | None]]


class Column(TypedDict):
    """
    A column of a table.

    @ivar unit: of its numbers: see L{Tile}.
    """

    name: str
    unit: str


class Table(TypedDict):
    """
    @ivar since: when its totals began to count; empty if its figures are those of now.
    @ivar empty: what stands there when there are no rows.
    """

    caption: str
    since: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    empty: str


class View(TypedDict):
    """
    A page, as far as the script needs to know what it is about.

    @ivar state: a few words: C{serving}, C{draining}.
    @ivar condition: C{well} if all works, C{down} if nothing does, C{impaired} between.
    @ivar footer: a line below it all.
    """

    title: str
    state: str
    condition: Condition
    tiles: Sequence[Tile]
    charts: Sequence[Chart]
    tables: Sequence[Table]
    footer: str


class Status(Protocol):
    """What a L{StatusService<echofactory.status.StatusService>} shows."""

    @property
    def health(self) -> str:
        """C{ok}; or in a few words why not to send traffic here, such as C{draining}."""

    def begin(self) -> None:
        """The service starts: L{sample} is called once a second from now on."""

    def sample(self) -> None:
        """Take a sample for the history."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics as they are now: see L{prometheus_client.registry.Collector}."""

    async def facts(self) -> dict[str, Any]:
        """Return what there is to know, as of the last sample, for C{json.dumps}."""

    def view(self, facts: dict[str, Any]) -> View:
        """Return what the page shows of the facts."""
