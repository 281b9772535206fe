"""
Expectations and whether they were met, as lines of text.
"""

from collections.abc import Sequence

from echofactory.results.expectations import Judgement, Unit
from echofactory.values.quantities import counted, durationText, percentText, rateText


def _figureText(value: float, unit: Unit) -> str:
    if unit is Unit.NS:
        return durationText(value)
    if unit is Unit.PERCENT:
        return percentText(value / 100)
    if unit is Unit.RATE:
        return rateText(value)
    # Only the bound of a relative expectation is not a whole number.
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _exactText(value: float, unit: Unit) -> str:
    """Write a figure with all its digits."""
    if unit is Unit.NS:
        return f"{value:,} ns"
    return f"{value:.7g}{'%' if unit is Unit.PERCENT else ' messages/s'}"


def expectationText(judgement: Judgement) -> str:
    """
    Write an expectation and the figure of the run: C{p99 < 5 ms: 7.31 ms}. If the expectation
    is relative, the bound follows it in parentheses.
    """
    expectation, bound, value = judgement.expectation, judgement.bound, judgement.value
    shown, unit = expectation.shown, expectation.unit
    if expectation.relative and bound is not None:
        shown += f" ({_figureText(bound, unit)})"
    if value is None or bound is None:
        return f"{shown}: {judgement.reason}"
    text = _figureText(value, unit)
    if value != bound and text == _figureText(bound, unit):
        # "p99 < 5 ms: 5.00 ms" would not show why it is not met.
        text = _exactText(value, unit)
    noise = ", within noise" if judgement.withinNoise else ""
    return f"{shown}: {text}{noise}"


def expectationLines(judgements: Sequence[Judgement]) -> list[str]:
    """Write a line for each expectation, which begins with a check mark or a cross."""
    return [f"{'✓' if each.met else '✗'} {expectationText(each)}" for each in judgements]


def unmetText(judgements: Sequence[Judgement]) -> str:
    """Write how many expectations were not met: C{1 of 3 expectations not met}."""
    unmet = sum(not each.met for each in judgements)
    if unmet:
        return f"{unmet:,} of {counted(len(judgements), 'expectation')} not met"
    return f"{counted(len(judgements), 'expectation')} met"
