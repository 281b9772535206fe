"""
Judges a run by expectations. Pure: figures in, judgements out.

Latencies are those of the report: a percentile by nearest rank, from the histogram. Rates and
percentages count to seven significant digits, because a rate is the quotient of a count and a
measured time.
"""

from collections.abc import Iterable

from echofactory.results.books import Results
from echofactory.results.expectations import Expectation, Judgement, Unit
from echofactory.results.latency import Latency

LATENCY_FIELDS = {
    "response": "response",
    "service": "serviceTime",
    "connect": "connect",
    "lag": "sendLag",
}
"""The attribute of L{Results} for each latency of an expectation."""

_OF_A_RATE = ("service", "lag")
"""The latencies that only a run with a rate has."""

_NO_RATE = "the run has no rate"


def _rounded(figure: float) -> float:
    return float(f"{figure:.7g}")


def _latencyOf(results: Results, name: str) -> Latency | None:
    """Return the latency that a prefix names; C{None}: it is not measured in such a run."""
    if name in _OF_A_RATE and results.rateAsked is None:
        return None
    latency: Latency = getattr(results, LATENCY_FIELDS[name])
    return latency


def _statistic(latency: Latency, expectation: Expectation) -> float | None:
    if expectation.statistic in ("min", "mean", "max"):
        return latency.asJSON()[expectation.statistic]
    assert expectation.percent is not None
    (reading,) = latency.percentiles(expectation.percent)
    return reading


def _count(results: Results, quantity: str) -> tuple[float | None, float | None]:
    """
    Return the figure of a quantity that is no latency, and what is 100 % of it; C{None}: the
    run does not have it.
    """
    if quantity == "failed":
        return results.failed, results.requested
    if quantity == "rate":
        return results.achieved, results.rateAsked
    if quantity == "unsent":
        return (None, None) if results.rateAsked is None else (results.unsent, results.due)
    if quantity == "retransmits":
        kernel = results.kernel
        return kernel.retransmits if kernel.connections else None, None
    return getattr(results.datagrams, quantity, None), results.sent


def figure(results: Results, expectation: Expectation) -> float | None:
    """
    Return the figure of a run that an expectation is about, in the expectation's unit;
    C{None}: the run does not have it.
    """
    if expectation.latency is not None:
        latency = _latencyOf(results, expectation.latency)
        return None if latency is None else _statistic(latency, expectation)
    count, whole = _count(results, expectation.quantity)
    if count is None:
        return None
    if expectation.unit is Unit.PERCENT:
        return _rounded(100 * count / whole) if whole else None
    return _rounded(count) if expectation.unit is Unit.RATE else count


def _missing(results: Results, expectation: Expectation) -> str:
    """Return why a run does not have a figure."""
    kind = expectation.latency or expectation.quantity
    if kind == "connect":
        overUDP = results.datagrams is not None
        return "UDP has no connect time" if overUDP else "no connection was established"
    if kind in (*_OF_A_RATE, "rate", "unsent") and results.rateAsked is None:
        return _NO_RATE
    if kind in ("lost", "reordered"):
        return "the run is not over UDP" if results.datagrams is None else "nothing was sent"
    return {
        "failed": "no connection was requested",
        "retransmits": "the kernel did not say",
        "lag": "no message was due",
        "unsent": "no message was due",
    }.get(kind, "no message came back")


def judge(
    results: Results, expectations: Iterable[Expectation], first: Results | None = None
) -> list[Judgement]:
    """
    Judge a run by expectations. A figure that the run does not have does not meet any.

    @param first: the run whose figures are the bounds of relative expectations.
    @return: a judgement for each expectation, in their order.
    @raise ValueError: if an expectation is relative, and there is no first run.
    """
    return [_judged(results, expectation, first) for expectation in expectations]


def _judged(results: Results, expectation: Expectation, first: Results | None) -> Judgement:
    value = figure(results, expectation)
    bound: float | None = expectation.bound
    reason = None if value is not None else _missing(results, expectation)
    if expectation.relative:
        if first is None:
            raise ValueError(
                f"first: {expectation.text!r} is relative, and there is no first run"
            )
        begun = figure(first, expectation)
        bound = None if begun is None else expectation.boundFrom(begun)
        if begun is None and reason is None:
            reason = f"in the first run, {_missing(first, expectation)}"
    return Judgement(expectation=expectation, bound=bound, value=value, reason=reason)
