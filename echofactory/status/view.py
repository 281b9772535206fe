"""
What the live page draws: the types of C{/view.json}, and of the status that returns them.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypedDict

from prometheus_client import Metric

Cell = str | float | None
"""The page writes a number with its unit, C{None} as a dash, and text as it is."""

Condition = Literal["well", "impaired", "down"]
"""The colour of the state on the page: green, amber or red."""


class Tile(TypedDict):
    """
    One value.

    @ivar name: the name above the value.
    @ivar value: the value.
    @ivar unit: C{B} and C{B/s} are written as KiB, MiB and so on; C{s} is written as days,
        hours, minutes and seconds. Any other unit follows the number. It can be empty.
    """

    name: str
    value: Cell
    unit: str


class Chart(TypedDict):
    """
    One value over time.

    @ivar title: the title of the chart.
    @ivar unit: see L{Tile}.
    @ivar points: time in seconds, from -300 to 0 (now), and the value. C{None}: nothing was
        measured. The line has a gap there, and where samples are missing.
    """

    title: str
    unit: str
    points: Sequence[tuple[float, float | None]]


class Column(TypedDict):
    """
    A column of a table.

    @ivar name: the heading.
    @ivar unit: the unit of the column's numbers: see L{Tile}.
    """

    name: str
    unit: str


class Table(TypedDict):
    """
    A table.

    @ivar caption: the title of the table.
    @ivar since: when the counting of the table's totals began. Empty: the values are
        current values.
    @ivar columns: the columns.
    @ivar rows: the rows. Each has a cell per column.
    @ivar empty: the text to show if there are no rows.
    """

    caption: str
    since: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]
    empty: str


class View(TypedDict):
    """
    The contents of the page.

    @ivar title: the title.
    @ivar state: the state in a few words, such as C{serving} or C{draining}.
    @ivar condition: C{well}: everything works. C{impaired}: some of it works. C{down}:
        nothing works.
    @ivar about: what rarely changes, such as the name of the host and the limits.
    @ivar tiles: the current values.
    @ivar charts: the values over time.
    @ivar tables: the tables.
    @ivar footer: the last line of the page.
    """

    title: str
    state: str
    condition: Condition
    about: Sequence[Tile]
    tiles: Sequence[Tile]
    charts: Sequence[Chart]
    tables: Sequence[Table]
    footer: str


class Status(Protocol):
    """What a L{StatusService<echofactory.status.StatusService>} serves."""

    @property
    def health(self) -> str:
        """C{ok}, or in a few words why not to send traffic here, such as C{draining}."""

    def begin(self) -> None:
        """Called when the service starts. Then L{sample} is called once a second."""

    def sample(self) -> None:
        """Take a sample for the history."""

    def collect(self) -> Iterable[Metric]:
        """Return the current metrics: see C{prometheus_client.registry.Collector}."""

    async def facts(self) -> dict[str, Any]:
        """Return the status at the last sample, as C{json.dumps} takes it."""

    def view(self, facts: dict[str, Any]) -> View:
        """Return what the page shows of these facts."""


def timeText(iso: str) -> str:
    """Return a time, given in ISO 8601, as the page writes it."""
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M:%S} UTC"


def chart(title: str, unit: str, history: dict[str, list[Any]], name: str) -> Chart:
    """Return a chart of one of the series of C{history}, whose times are C{t_s}."""
    points = list(zip(history["t_s"], history[name], strict=True))
    return {"title": title, "unit": unit, "points": points}


def columns(*columns: tuple[str, str]) -> list[Column]:
    """Return the columns of a table, from their names and units."""
    return [{"name": name, "unit": unit} for name, unit in columns]
