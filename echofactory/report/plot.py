"""
The plots: latency by percentile, the run over time, and the steps of a search. They need
U{matplotlib<https://matplotlib.org>}, which the extra C{plot} installs. This module makes the
figure, its heading and the file; L{panels} draws the axes.
"""

import re
import textwrap
import warnings
from collections.abc import Sequence
from html import escape
from importlib.util import find_spec
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any

from echofactory.report.compare import Run
from echofactory.report.course import caption, description, title
from echofactory.report.palette import COLOURS, DIM, GRID, INK, PAPER
from echofactory.report.panels import latencies, rates, responseTimes, steps

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = ("png", "svg", "pdf")
"""The suffixes of plot files, which name the format."""

_WIDTH = 128
"""Characters of a line of the heading."""


def missing() -> str | None:
    """Return what must be installed for plots, as a message; C{None}: nothing."""
    if find_spec("matplotlib") is None:
        return "matplotlib draws the plots and is not installed: pip install matplotlib"
    return None


def draw(runs: Sequence[Run], file: str | IO[bytes], suffix: str, command: str = "") -> None:
    """
    Draw one run, or several runs in the same plots.

    @param file: the path or the file to write to.
    @param suffix: one of L{SUFFIXES}.
    @param command: the command line of the run, if it is known.
    @raise OSError: if the file cannot be written.
    """
    import matplotlib as mpl

    # No date, so that the same results make the same file.
    every: dict[str, dict[str, Any]] = {
        "png": {"Title": title(runs), "Description": description(runs)},
        "svg": {"Date": None},
        "pdf": {"CreationDate": None, "Title": title(runs), "Subject": description(runs)},
    }
    drawn = BytesIO()
    with mpl.rc_context(_style()), warnings.catch_warnings():
        # A name can have characters that are missing in the font.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure(runs, command).savefig(drawn, format=suffix, dpi=120, metadata=every[suffix])
    content = drawn.getvalue()
    if suffix == "svg":
        content = _described(content.decode(), runs).encode()
    if isinstance(file, str):
        with open(file, "wb") as opened:
            opened.write(content)
    else:
        file.write(content)


def _described(svg: str, runs: Sequence[Run]) -> str:
    """Add a title and a description, which a screen reader reads."""
    told = (
        f'<title id="title">{escape(title(runs))}</title>\n'
        f' <desc id="description">{escape(description(runs))}</desc>\n'
    )
    begin = '<svg role="img" aria-labelledby="title" aria-describedby="description" '
    return re.sub(
        r"<svg ([^>]*)>\n",
        lambda found: f"{begin}{found[1]}>\n {told}",
        svg,
        count=1,
    )


def _style() -> Any:
    from cycler import cycler

    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "echofactory",
        "font.size": 9,
        "text.color": INK,
        "axes.titlesize": 10,
        "axes.titleweight": "bold",
        "axes.edgecolor": DIM,
        "axes.labelcolor": INK,
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.xmargin": 0,
        "xtick.color": DIM,
        "ytick.color": DIM,
        "grid.color": GRID,
        "grid.linewidth": 0.6,
        "figure.facecolor": PAPER,
        "legend.frameon": False,
        "text.parse_math": False,
        "path.simplify_threshold": 0.5,
    }


def figure(runs: Sequence[Run], command: str = "") -> "Figure":
    """Return the figure that L{draw} saves. The parameters are the same."""
    from matplotlib.figure import Figure

    searches = [run for run in runs if run.results.search is not None]
    heading = _heading(runs, command)
    heights = [0.18 * len(heading) + 0.15, 3.0, 2.2, 2.2, *([2.4] if searches else [])]
    drawn = Figure(figsize=(10, sum(heights) + 0.6), layout="constrained")
    grid = drawn.add_gridspec(len(heights), 1, height_ratios=heights)
    top = drawn.add_subplot(grid[0])
    top.set_axis_off()
    top.text(0, 1, heading[0], va="top", weight="bold", fontsize=12)
    top.text(0, 0, "\n".join(heading[1:]), va="bottom", color=DIM)
    latencies(drawn.add_subplot(grid[1]), runs)
    times = drawn.add_subplot(grid[2])
    responseTimes(times, runs)
    rates(drawn.add_subplot(grid[3], sharex=times), runs)
    if searches:
        steps(drawn.add_subplot(grid[4]), searches)
    return drawn


def _heading(runs: Sequence[Run], command: str) -> list[str]:
    """Return the lines above the plots. A long line takes two at most."""
    heading = [textwrap.shorten(title(runs), _WIDTH * 2 // 3, placeholder=" …")]
    for line in caption(runs, command):
        heading += textwrap.wrap(line, _WIDTH, max_lines=2, placeholder=" …")
    return heading
