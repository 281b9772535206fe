"""
What plots and pages draw of a run: its intervals, its schedule, its goals, its latencies by
percentile, and the words above the picture. Pure: no drawing.
"""

import os.path
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from echofactory.report.compare import Run
from echofactory.results.books import Results
from echofactory.results.expectations import Expectation, Unit
from echofactory.results.intervals import WHOLE, Interval, usualLengthNs
from echofactory.results.labels import labelsText
from echofactory.results.latency import PERCENTILES, Latency
from echofactory.values.quantities import counted, durationText, rateText, sizeText

_BRIEF = 0.05
"""The share of the usual length below which an interval is brief."""
_APART = 1.02
"""The ratio of two points of a curve that a picture can tell apart."""
_NAME_LENGTH = 32
"""Maximum length of a run's name in a legend, in characters."""


class Piece(NamedTuple):
    """
    An interval of a run, as it is drawn.

    @ivar beginS: when it began, in seconds from the run's beginning.
    @ivar endS: when it ended, likewise.
    @ivar partial: whether it is shorter than 95 % of a complete interval, in a run that has a
        complete one. Its rate comes from few messages, so it does not set the scale.
    @ivar brief: whether it is shorter than 5 % of a complete interval. A line that led to it
        would look like a fall or a rise of the whole run.
    @ivar interval: what the interval holds.
    @ivar rate: messages a second; C{None}: nothing could come in this interval, so a rate of 0
        would be misleading.
    """

    beginS: float
    endS: float
    partial: bool
    brief: bool
    interval: Interval
    rate: float | None


def pieces(results: Results) -> list[Piece]:
    """
    Return the intervals of a run, in order. An interval without length has no place on the
    time axis, so the one before it takes over its counts.
    """
    intervals: list[Interval] = []
    for interval in results.intervals:
        if interval.lengthNs:
            intervals.append(interval)
        elif intervals:
            intervals[-1] = _together(intervals[-1], interval)
    if not intervals:
        return []
    usualNs = usualLengthNs(intervals, results.intervalNs)
    begin = results.firstAt - results.beganAt
    end = begin + results.overNs
    slack = _BRIEF * usualNs
    # In a run that is shorter than an interval, a mark on everything would say nothing.
    some = any(interval.lengthNs >= WHOLE * usualNs for interval in intervals)

    def drawn(interval: Interval) -> Piece:
        beginNs = interval.endNs - interval.lengthNs
        brief = interval.lengthNs < slack
        idle = interval.endNs <= begin + slack or beginNs >= end - slack or brief
        return Piece(
            beginNs / 1e9,
            interval.endNs / 1e9,
            some and interval.lengthNs < WHOLE * usualNs,
            brief,
            interval,
            None if idle and not interval.messages else interval.perSecond,
        )

    return [drawn(interval) for interval in intervals]


def _together(interval: Interval, later: Interval) -> Interval:
    return replace(
        interval,
        messages=interval.messages + later.messages,
        bytes=interval.bytes + later.bytes,
        failures=interval.failures + later.failures,
        open=later.open,
        p50Ns=later.p50Ns if interval.p50Ns is None else interval.p50Ns,
        p99Ns=later.p99Ns if interval.p99Ns is None else interval.p99Ns,
    )


def schedule(results: Results) -> list[tuple[float, float]]:
    """
    Return the corners of the schedule: seconds from the run's beginning, and the rate from
    there on, in messages a second. Between two corners the rate changes evenly. Empty: the
    run has no schedule, or it never began.
    """
    if results.rateAsked is None or not results.firstAt:
        return []
    begin = (results.firstAt - results.beganAt) / 1e9
    seconds = results.scheduledNs / 1e9
    if results.schedule is None:
        return [(begin, results.rateAsked), (begin + seconds, results.rateAsked)]
    corners = results.schedule.overTime(begin, seconds)
    if results.workload.warmUpS:
        # The warm-up has the first rate.
        corners.insert(0, (begin - results.workload.warmUpS, corners[0][1]))
    return corners


def askedLabel(results: Results) -> str:
    """Return what the schedule is called: if only its mean is known, that is told."""
    return "asked, on average" if results.schedule is None else "asked"


def topRate(runs: Sequence[Results]) -> float:
    """
    Return the highest rate of whole intervals and of schedules, in messages a second. If
    there are no whole intervals, the partial ones count.
    """
    drawn = [piece for results in runs for piece in pieces(results)]
    whole = [piece for piece in drawn if not piece.partial] or drawn
    asked = [rate for results in runs for _, rate in schedule(results)]
    return max([piece.rate or 0.0 for piece in whole] + asked, default=0.0)


class Limit(NamedTuple):
    """
    A bound of a percentile of the response time, which is drawn as a line.

    @ivar text: what is drawn beside the line: C{goal p99<5ms}.
    @ivar ns: the bound in nanoseconds.
    """

    text: str
    ns: float


def limits(results: Results) -> list[Limit]:
    """
    Return the bounds of the response times that the run had to keep: the goals of a search,
    and expectations.
    """
    found = []
    for text in results.search.goals if results.search is not None else ():
        # The file of a run can come from a stranger, so a text of another form is no error.
        with suppress(ValueError):
            goal = Expectation(text)
            found.append((f"goal {text}", goal, None if goal.relative else goal.bound))
    for judged in results.expectations:
        found.append((f"expected {judged.expectation.text}", judged.expectation, judged.bound))
    return [
        Limit(text, bound)
        for text, expectation, bound in found
        if expectation.latency == "response" and expectation.unit is Unit.NS and bound
    ]


def stepFields(searches: Sequence[Results]) -> tuple[list[str], str]:
    """
    Return the percentiles to draw of the steps of searches: p50, and those of the goals; if no
    goal is about another one, p99. And the one to mark as kept or broken: that of the first
    goal.
    """
    found = []
    for results in searches:
        for text in results.search.goals if results.search is not None else ():
            # The file of a run can come from a stranger.
            with suppress(ValueError):
                field = Expectation(text).quantity.replace(".", "_")
                if field in (*PERCENTILES, "max"):
                    found.append(field)
    marked = found[0] if found else "p99"
    drawn = [field for field in (*PERCENTILES, "max") if field == "p50" or field in found]
    return (drawn if len(drawn) > 1 else ["p50", "p99"]), marked


def curve(latency: Latency) -> list[tuple[float, int]]:
    """
    Return a latency by percentile: for each point, 1 / (1 - share of the readings), and the
    nanoseconds that this share does not exceed. Points that a picture cannot tell apart are
    left out. Empty: there are no readings.
    """
    shares, readings = latency.distribution()
    if not shares:
        return []
    # The share of the last reading is 1, so half a message stands there instead.
    rest = 0.5 / latency.count
    kept: list[tuple[float, int]] = [(1.0, readings[0])]
    last = len(shares) - 1
    for number, (share, ns) in enumerate(zip(shares, readings, strict=True)):
        place = 1 / max(1 - share, rest)
        before, beforeNs = kept[-1]
        if number == last or place > _APART * before or ns > _APART * beforeNs:
            kept.append((place, ns))
    return kept


def bottomNs(runs: Sequence[Results]) -> int:
    """
    Return the lowest response or service time of the runs in nanoseconds; 0: there is none.
    Latency axes begin there: the send lag can be a thousand times lower, and would leave most
    of the picture empty.
    """
    lowest = [
        latency.asJSON()["min"]
        for results in runs
        for latency in (results.response, results.serviceTime)
    ]
    return min((ns for ns in lowest if ns is not None), default=0)


def title(runs: Sequence[Run]) -> str:
    """Return the heading of a picture."""
    if len(runs) > 1:
        return f"Comparison of {len(runs)} runs"
    results = runs[0].results
    return f"{results.verdict}: {results.title or results.target}"


def options(results: Results) -> str:
    """Return the labels and the load of a run in one line."""
    workload = results.workload
    parts = [labelsText(results.labels)] if results.labels else []
    parts.append(counted(results.requested - results.reconnects, "connection"))
    if results.reconnects:
        parts.append(counted(results.reconnects, "reconnect"))
    if workload.size is not None:
        parts.append(f"messages of {sizeText(workload.size)}")
    if results.rateAsked is not None:
        parts.append(f"{rateText(results.rateAsked)} asked")
    if workload.durationS is not None:
        parts.append(f"for {workload.durationS:g} s")
    elif workload.count is not None:
        parts.append(f"{counted(workload.count, 'message')} each")
    if workload.window is not None:
        parts.append(f"window {workload.window:,}")
    if workload.churn:
        parts.append("a connection per message")
    if workload.halfClose:
        parts.append("half-close")
    if results.search is not None:
        parts.append(f"search: {', '.join(results.search.goals)}")
    return ", ".join(parts)


def caption(runs: Sequence[Run], command: str = "") -> list[str]:
    """
    Return the lines below the heading: when each run began, and its options.

    @param command: the command line of the run, if it is known.
    """
    lines = []
    for name, (_, results) in zip(shortNames(runs), runs, strict=True):
        beside = f"{name}: " if len(runs) > 1 else ""
        if len(runs) > 1 or results.title:
            beside += f"{results.target}, "
        lines.append(f"{beside}{results.started:%Y-%m-%d %H:%M:%S} UTC, {options(results)}")
    return [*lines, command] if command else lines


def description(runs: Sequence[Run]) -> str:
    """Describe a picture in sentences, for readers who do not see it."""
    told = []
    for name, (_, results) in zip(shortNames(runs), runs, strict=True):
        response = results.response.asJSON()
        beside = f"{name}: " if len(runs) > 1 else ""
        if response["count"]:
            figures = ", ".join(
                f"{field} {durationText(response[field] or 0)}"
                for field in ("p50", "p99", "max")
            )
            told.append(
                f"{beside}Response time {figures}. {rateText(results.achieved)} achieved."
            )
        else:
            told.append(f"{beside}No message came back.")
        if results.failed:
            told.append(f"{counted(results.failed, 'connection')} failed.")
    return " ".join(told)


def shortNames(runs: Sequence[Run]) -> list[str]:
    """
    Return names for legends: without the folder that all runs share, and shortened in the
    middle. Names that would become the same are numbered.
    """
    names = [run.name for run in runs]
    if len(names) > 1 and len({name.startswith("/") for name in names}) == 1:
        folder = os.path.commonpath([os.path.dirname(name) for name in names])
        names = [os.path.relpath(name, folder) for name in names] if folder else names
    half = (_NAME_LENGTH - 1) // 2
    short = [
        name if len(name) <= _NAME_LENGTH else f"{name[:half]}…{name[-half:]}" for name in names
    ]
    # matplotlib leaves a name with this first character out of the legend.
    short = [f"./{name}" if name.startswith("_") else name for name in short]
    if len(set(short)) < len(short):
        return [f"{number} {name}" for number, name in enumerate(short, 1)]
    return short
