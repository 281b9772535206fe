"""
Tells whether a figure of two runs differs by more than it varies within each run.

A figure has a range in each run:

 - p50 and p99 of the response time, and the rate: the middle half of the figures of the whole
   intervals, if there are L{MIN_PIECES} or more.
 - Any other percentile: the readings at the ranks that enclose the percentile with 95 %
   confidence, if readings are independent. Readings of one moment are not independent. So the
   range of a response time, a service time or a send lag has a lower limit. In proportion, it
   is as wide as that of p50 of the response time, and above p90 as that of p99.

If the two ranges overlap, the difference is noise. A maximum has no range, because it is one
reading.

A relative expectation that is missed only by noise is met: otherwise a second run of the same
thing would fail now and then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import sqrt
from statistics import quantiles

from echofactory.results.books import Results
from echofactory.results.expectations import Judgement
from echofactory.results.intervals import WHOLE, usualLengthNs
from echofactory.results.judging import LATENCY_FIELDS
from echofactory.results.latency import Latency

MIN_PIECES = 4
"""The lowest number of whole intervals that give a range."""
_DEVIATIONS = 1.96
"""Standard deviations of a rank on each side, for a confidence of 95 %."""

Range = tuple[float, float]
"""The lowest and the highest figure of a range."""


def _middleHalf(figures: Sequence[float]) -> Range | None:
    if len(figures) < MIN_PIECES:
        return None
    lower, _, upper = quantiles(figures, n=4, method="inclusive")
    return lower, upper


def rateRange(results: Results) -> Range | None:
    """Return the range of the rate, in messages a second; C{None}: too few intervals."""
    return _middleHalf(results.wholeRates())


def _piecesRange(results: Results, field: str) -> Range | None:
    if not results.intervals:
        return None
    usualNs = usualLengthNs(results.intervals, results.intervalNs)
    figures = [
        getattr(piece, f"{field}Ns")
        for piece in results.intervals
        if piece.lengthNs and piece.lengthNs >= WHOLE * usualNs
    ]
    return _middleHalf([figure for figure in figures if figure is not None])


def _ranksRange(latency: Latency, percent: float) -> Range | None:
    count = latency.count
    if not count:
        return None
    share = percent / 100
    aside = 100 * _DEVIATIONS * sqrt(share * (1 - share) / count)
    lower, upper = latency.percentiles(max(0.0, percent - aside), min(100.0, percent + aside))
    return None if lower is None or upper is None else (lower, upper)


def latencyRange(results: Results, name: str, percent: float) -> Range | None:
    """
    Return the range of a percentile, in nanoseconds; C{None}: it has none.

    @param name: the latency, as the attribute of L{Results}.
    @param percent: the percentile, more than 0 and less than 100.
    """
    latency: Latency = getattr(results, name)
    ranks = _ranksRange(latency, percent)
    if ranks is None or name == "connect":
        return ranks
    nearest = 50.0 if percent <= 90 else 99.0
    pieces = _piecesRange(results, f"p{nearest:.0f}")
    if pieces is None:
        return ranks
    if (name, percent) == ("response", nearest):
        return pieces
    (figure,) = latency.percentiles(percent)
    assert figure is not None
    aside = sqrt(pieces[1] / max(1, pieces[0]))
    return min(ranks[0], figure / aside), max(ranks[1], figure * aside)


def overlap(first: Range | None, other: Range | None) -> bool:
    """Tell whether two ranges have a figure in common. A range that is not known has none."""
    if first is None or other is None:
        return False
    return first[0] <= other[1] and other[0] <= first[1]


def _ranges(judgement: Judgement, runs: Sequence[Results]) -> list[Range | None]:
    """Return the range of the figure of an expectation in each run."""
    expectation = judgement.expectation
    if expectation.quantity == "rate":
        # With different schedules, the runs achieve what is asked of them.
        same = len({run.rateAsked for run in runs}) == 1
        return [rateRange(run) if same else None for run in runs]
    percent = expectation.percent
    if expectation.latency is None or percent is None or not 0 < percent < 100:
        return [None for _ in runs]
    field = LATENCY_FIELDS[expectation.latency]
    return [latencyRange(run, field, percent) for run in runs]


def withoutNoise(
    judgements: Iterable[Judgement], results: Results, first: Results
) -> list[Judgement]:
    """
    Return the judgements, with L{Judgement.withinNoise} where a relative expectation is missed
    only by noise.

    @param results: the run that was judged.
    @param first: the run that it is compared with.
    """
    return [
        replace(each, withinNoise=True)
        if each.expectation.relative
        and not each.withinBound
        and overlap(*_ranges(each, (first, results)))
        else each
        for each in judgements
    ]
