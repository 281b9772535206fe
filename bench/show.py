"""
The figures of a bench, for people: the table, the goals and the picture.
"""

from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from bench.commands import OURS
from bench.measures import GOALS, PARTS, Measure

Values = dict[str, dict[str, list[float]]]
"""By measure and peer, ours first, the figure of each turn."""

_DRAWN = ("cpu_100x64", "cpu_1000x1k", "bulk_10x1m", "idle")


class Ratio(NamedTuple):
    """
    Our figure over a peer's, turn by turn.

    @ivar low: the lower quartile.
    @ivar high: the upper quartile.
    """

    low: float
    median: float
    high: float


def ratio(peers: dict[str, list[float]], peer: str) -> Ratio:
    """Compare our figures with a peer's of the same turns."""
    ours = next(iter(peers.values()))
    ratios = [mine / its for mine, its in zip(ours, peers[peer], strict=True)]
    if len(ratios) == 1:
        return Ratio(*ratios, *ratios, *ratios)
    return Ratio(*quantiles(ratios, n=4, method="inclusive"))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"


def _ratioText(value: float) -> str:
    """Write a ratio, with decimals only below 100."""
    return f"{value:,.0f}" if value >= 99.995 else f"{value:.2f}"


def _better(measure: Measure) -> str:
    return "more is better" if measure.more else "less is better"


def table(values: Values, loads: Values) -> str:
    """
    Return the one table: each peer's median, least and most, ours over its with
    the quartiles, and how busy the load was. Measures without figures are left out.
    """
    lines = [
        f"{'':<34}{'median':>9}{'least':>9}{'most':>9}{'ours / its':>12}{'quartiles':>19}"
        f"{'load busy':>11}"
    ]
    for part in PARTS:
        for measure in part.measures:
            if measure.key not in values:
                continue
            lines.append(f"{part.title}: {measure.title}, {measure.unit} ({_better(measure)})")
            peers = values[measure.key]
            for peer, figures in peers.items():
                low, middle, high = ratio(peers, peer)
                busy = loads.get(measure.key, {}).get(peer)
                lines.append(
                    f"  {peer:<32}{_figure(median(figures)):>9}{_figure(min(figures)):>9}"
                    f"{_figure(max(figures)):>9}{_ratioText(middle):>12}"
                    f"{f'{_ratioText(low)} - {_ratioText(high)}':>19}"
                    f"{f'{median(busy):.0%}' if busy else '':>11}"
                )
    return "\n".join(line.rstrip() for line in lines) + "\n"


def goals(values: Values) -> str:
    """
    Return a line for each goal: what was to be reached, and what is. Goals of
    measures without figures are left out.
    """
    measures = {measure.key: measure for part in PARTS for measure in part.measures}
    lines = []
    for goal in GOALS:
        if goal.measure not in values:
            continue
        measure = measures[goal.measure]
        low, reached, high = ratio(values[goal.measure], goal.peer)
        met = reached >= goal.bound if measure.more else reached <= goal.bound
        verdict = "met" if met else "missed"
        if low < goal.bound < high:
            verdict += ", within the quartiles"
        lines.append(
            f"  {measure.title + ' / ' + goal.peer:<50}{reached:>6.2f}"
            f"  goal {'≥' if measure.more else '≤'} {goal.bound:.2f}  {verdict}"
        )
    return "goals\n" + "\n".join(lines) + "\n" if lines else ""


def drawable(values: Values) -> bool:
    """Tell whether there are figures of all measures that the picture shows."""
    return all(key in values for key in _DRAWN)


def draw(values: Values, path: Path) -> None:
    """Draw the measures that the README shows; the file's suffix names the format."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    measures = {measure.key: measure for part in PARTS for measure in part.measures}
    # The same figures make the same file.
    with mpl.rc_context({"svg.hashsalt": "echofactory", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 6.4), layout="constrained")
        for axes, key in zip(figure.subplots(2, 2).flat, _DRAWN, strict=True):
            peers = values[key]
            medians = [median(figures) for figures in peers.values()]
            spans = list(zip(medians, peers.values(), strict=True))
            reach = [
                [middle - min(figures) for middle, figures in spans],
                [max(figures) - middle for middle, figures in spans],
            ]
            colours = ["#d1495b" if peer == OURS else "#8aa1b1" for peer in peers]
            axes.barh(list(peers), medians, xerr=reach, color=colours, ecolor="#555555")
            axes.invert_yaxis()
            axes.set_title(f"{measures[key].title}, {measures[key].unit}", fontsize=10)
            axes.set_xlabel(_better(measures[key]), fontsize=8)
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
