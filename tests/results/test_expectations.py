"""
Expectations: their grammar, and the judgement of a run by its own histograms and counts.
"""

import json
from decimal import Decimal
from fractions import Fraction
from operator import ge, gt, le, lt

import pytest
from hypothesis import given
from hypothesis import strategies as st
from schema import FACTS, validate

from echofactory import Expectation, Judgement, Results, judge
from echofactory.report.compare import Run
from echofactory.report.expectations import expectationText
from echofactory.report.page import page
from echofactory.report.reading import readResults
from echofactory.report.text import report
from echofactory.results.expectations import COMPARISONS, COUNTED, LATENCIES, Unit
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.latency import Latency
from echofactory.results.path import Datagrams
from echofactory.values.quantities import DURATION_UNITS_NS

pytestmark = pytest.mark.oldest

MS = 1_000_000
NUMBERS = st.decimals(0, 10**6, places=3).filter(bool)
PERCENTILES = st.decimals(0, 100, places=3).map(lambda percent: f"p{percent.normalize():f}")
STATISTICS = PERCENTILES | st.sampled_from(["min", "mean", "max"])
LATENCY_NAMES = st.builds(
    lambda prefix, statistic: f"{prefix}{statistic}",
    st.sampled_from(["", *(f"{name}:" for name in LATENCIES)]),
    STATISTICS,
)
COMPARED = st.sampled_from([*COMPARISONS])
OPERATORS = {"<": lt, "<=": le, ">": gt, ">=": ge}


def someResults(rate: float | None = 1000.0) -> Results:
    """Return the results of a run with every figure, of 10 connections and 100 messages."""
    results = Results(
        target="x",
        workload=FACTS,
        requested=10,
        completed=10,
        rateAsked=rate,
        service=None if rate is None else Latency(),
    )
    for number in range(1, 101):
        results.response.record(number * MS)
        if rate is not None:
            results.serviceTime.record(number * MS // 2)
            results.sendLag.record(number * 1000)
    for number in range(1, 11):
        results.connectionEstablished(number * MS)
    results.open = 0
    results.sent = results.verified = 100
    results.firstAt, results.lastSentAt, results.lastAt = 1, 90 * MS, 100 * MS + 1
    if rate is not None:
        results.due, results.scheduledNs = 100, 100 * MS
    results.kernel.add(retransmits=3, lost=0, reordering=None, rttUs=50)
    return results


def judged(results: Results, text: str, first: Results | None = None) -> Judgement:
    (judgement,) = judge(results, [Expectation(text)], first)
    return judgement


@given(LATENCY_NAMES, COMPARED, NUMBERS, st.sampled_from([*DURATION_UNITS_NS]))
def test_a_latency_as_text(name: str, comparison: str, number: Decimal, unit: str) -> None:
    """What was written is what is meant, with and without spaces."""
    text = f"{name}{comparison}{number}{unit}"
    expectation = Expectation(text)
    assert (expectation.text, expectation.quantity) == (text, name)
    assert (expectation.comparison, expectation.unit) == (comparison, Unit.NS)
    assert expectation.bound == float(Fraction(number) * DURATION_UNITS_NS[unit])
    again = Expectation(expectation.shown)
    assert (again.quantity, again.bound) == (expectation.quantity, expectation.bound)


@given(st.sampled_from([*COUNTED]), COMPARED, st.integers(1, 10**9), st.data())
def test_a_count_as_text(name: str, comparison: str, number: int, data: st.DataObject) -> None:
    """A number, or a share of what there is."""
    unit = data.draw(st.sampled_from(COUNTED[name]))
    expectation = Expectation(f"{name}{comparison}{number}{'%' * (unit is Unit.PERCENT)}")
    assert (expectation.quantity, expectation.unit) == (name, unit)
    assert (expectation.bound, expectation.relative) == (number, False)
    assert Expectation(expectation.shown).bound == number


@pytest.mark.parametrize(
    ("text", "bound"),
    [("rate>20k", 20_000), ("rate>1.5k", 1500), ("rate>0.5", 0.5), ("rate>2M", 2_000_000)],
)
def test_a_rate_as_text(text: str, bound: float) -> None:
    """It has the multiples of a rate."""
    assert Expectation(text).bound == bound


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not an expectation such as p99<5ms, failed<0.1% or rate>=990. The comparisons"),
        ("p99", "not an expectation such as"),
        ("p99=5ms", "not an expectation such as"),
        ("p99==5ms", "not an expectation such as"),
        (" p99<5ms", "not an expectation such as"),
        ("p99<\n5ms", "not an expectation such as"),
        ("foo<3", "not about a quantity of a run. The quantities are pN (p50, p99.9), min,"),
        ("receive:p99<5ms", "not about a quantity"),
        ("service:failed<3", "not about a quantity"),
        ("p<5ms", "not about a quantity"),
        ("p101<5ms", "not about a percentile from p0 to p100"),
        ("p99<5", "an expectation with a wrong bound: give one such as p99<5ms. The units are"),
        ("p99<5%", "an expectation with a wrong bound"),
        ("p99<", "an expectation with a wrong bound"),
        ("p99<5ms,p50<3ms", "an expectation with a wrong bound"),
        ("p99<+5ms", "an expectation with a wrong bound"),
        ("p99<-101%", "an expectation with a wrong bound"),
        ("failed<5ms", "an expectation with a wrong bound: give one such as failed<10 or fail"),
        ("failed<1.5", "an expectation with a wrong bound"),
        ("failed<1k", "an expectation with a wrong bound"),
        ("rate>5ms", "an expectation with a wrong bound: give one such as rate>20k or rate>0."),
        ("retransmits<1%", "an expectation with a wrong bound: give one such as retransmits"),
        ("failed<0", "never met: no figure is less than 0"),
        ("p99<0ms", "never met"),
        ("p99<-100%", "never met"),
    ],
)  # fmt: skip
def test_what_is_none(text: str, said: str) -> None:
    """One line that names the text and what is accepted."""
    with pytest.raises(ValueError, match=r"^text: ") as refused:
        Expectation(text)
    message = str(refused.value)
    assert message.startswith(f"text: {text!r} is {said}")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("p50<20%", "p50<+20%"),
        ("service:p99>=5.5 %", "service:p99>=-5.5%"),
        ("retransmits<5%", "retransmits<+5%"),
        ("p99<+5ms", "p99<+10%"),
        ("max<250%", "max<+250%"),
        ("max>250%", "max>-10%"),
        ("rate>+5", "rate>+10%"),
    ],
)
def test_a_bound_that_was_meant_to_be_relative(text: str, meant: str) -> None:
    """The message has the form of a comparison, and the form is accepted."""
    with pytest.raises(ValueError, match="give one such as") as refused:
        Expectation(text)
    said = str(refused.value).partition("; to compare with an earlier run, ")[2]
    assert said.startswith(meant)
    assert Expectation(meant).relative


def test_a_long_text_is_cut() -> None:
    """The message stays a line that one can read."""
    with pytest.raises(ValueError, match=r"^text: 'x{60}\.\.\.' is not an exp") as refused:
        Expectation("x" * 10_000)
    assert len(str(refused.value)) < 400


@given(
    st.lists(st.integers(0, 10**11), min_size=1, max_size=50),
    STATISTICS,
    COMPARED,
    st.integers(1, 10**11),
)
def test_a_latency_by_its_histogram(
    readings: list[int], statistic: str, comparison: str, bound: int
) -> None:
    """The figure is the one that the report and the JSON have."""
    results = Results(target="x", workload=FACTS, requested=1)
    for reading in readings:
        results.response.record(reading)
    if statistic in ("min", "mean", "max"):
        told = results.response.asJSON()[statistic]
    else:
        (told,) = results.response.percentiles(float(statistic[1:]))
    assert told is not None
    judgement = judged(results, f"{statistic}{comparison}{Decimal(bound).scaleb(-3)}us")
    assert judgement.value == told
    assert judgement.met == OPERATORS[comparison](told, bound)


@pytest.mark.parametrize(
    ("text", "value", "met"),
    [
        ("p50<51ms", 50 * MS, True),
        ("max<=100ms", 100 * MS, False),
        ("response:p99>98ms", 99 * MS, True),
        ("service:p50<26ms", 25 * MS, True),
        ("connect:max<5ms", 10 * MS, False),
        ("lag:p99<=200us", 99_000, True),
        ("failed<=0", 0, True),
        ("failed<0.1%", 0, True),
        ("rate>=1k", 1000, True),
        ("rate>1000", 1000, False),
        ("rate>=100%", 100, True),
        ("unsent<=0%", 0, True),
        ("retransmits<3", 3, False),
    ],
)
def test_each_quantity(text: str, value: float, met: bool) -> None:
    """The figure is of the run."""
    judgement = judged(someResults(), text)
    assert judgement.value == pytest.approx(value, rel=0.005)
    assert (judgement.met, judgement.reason) == (met, None)


def test_failures_and_lost_datagrams() -> None:
    """They are counted, or are a share."""
    results = someResults()
    results.requested, results.completed = 1000, 999
    results.connectionFailed(ConnectionFailure(1, "x", FailureKind.RESET, "reset"))
    results.datagrams = Datagrams(lost=3, reordered=50)
    texts = ["failed<=0.1%", "failed<0.1%", "lost<=3", "lost<3%", "reordered>=50%", "failed<=0"]
    judgements = judge(results, map(Expectation, texts))
    assert [each.value for each in judgements] == [0.1, 0.1, 3, 3, 50, 1]
    assert [each.met for each in judgements] == [True, False, True, False, True, False]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("p99<1h", "no message came back"),
        ("service:p99<1h", "the run has no rate"),
        ("lag:p99>=0s", "the run has no rate"),
        ("unsent<=0", "the run has no rate"),
        ("rate>=1%", "the run has no rate"),
        ("connect:p99<1h", "no connection was established"),
        ("lost<=0", "the run is not over UDP"),
        ("reordered<=0%", "the run is not over UDP"),
        ("retransmits<=0", "the kernel did not say"),
    ],
)
def test_a_figure_that_there_is_not(text: str, reason: str) -> None:
    """It meets nothing, and the reason says why."""
    judgement = judged(Results(target="x", workload=FACTS, requested=1), text)
    assert (judgement.value, judgement.met, judgement.reason) == (None, False, reason)
    assert expectationText(judgement).endswith(f": {reason}")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("service:p99<1h", "no message came back"),
        ("lag:p99<1h", "no message was due"),
        ("unsent<=0%", "no message was due"),
        ("connect:p99<1h", "UDP has no connect time"),
        ("lost<1%", "nothing was sent"),
    ],
)
def test_a_scheduled_run_over_udp_in_which_nothing_happened(text: str, reason: str) -> None:
    """The reasons are of such a run."""
    results = Results(target="x", workload=FACTS, requested=1, rateAsked=5.0)
    results.service, results.datagrams = Latency(), Datagrams()
    assert judged(results, text).reason == reason


@given(
    st.integers(1000, 10**12),
    st.integers(1000, 10**12),
    COMPARED,
    st.decimals(-99, 1000, places=2),
)
def test_relative_bounds(first: int, second: int, comparison: str, percent: Decimal) -> None:
    """The bound is the first run's figure, so many percent higher or lower."""
    runs = []
    for ns in (first, second):
        runs.append(Results(target="x", workload=FACTS, requested=1))
        runs[-1].response.record(ns)
    judgement = judged(runs[1], f"max{comparison}{percent:+f}%", runs[0])
    begun, told = (run.response.asJSON()["max"] for run in runs)
    assert begun is not None
    assert told is not None
    bound = Fraction(begun) * (100 + Fraction(percent)) / 100
    assert judgement.bound == pytest.approx(float(bound), rel=1e-12)
    assert judgement.met == OPERATORS[comparison](told, bound)


def test_relative_to_a_run_without_the_figure() -> None:
    """There is no bound, and the reason names the first run."""
    judgement = judged(
        someResults(), "p99<+5%", Results(target="x", workload=FACTS, requested=1)
    )
    assert (judgement.bound, judgement.met) == (None, False)
    assert judgement.reason == "in the first run, no message came back"


def test_relative_to_nothing() -> None:
    """It is refused."""
    with pytest.raises(ValueError, match=r"^first: 'p99<\+5%' is relative"):
        judged(someResults(), "p99<+5%")


def test_the_verdict() -> None:
    """Failed comes before unmet, and unmet before ok."""
    results = someResults()
    results.expectations = judge(results, [Expectation("p50<1s")])
    assert results.verdict == "ok"
    results.expectations += judge(results, [Expectation("p99<1ms")])
    assert results.verdict == "unmet"
    assert report(results).splitlines()[-1] == (
        "verdict        unmet: every byte came back; 1 of 2 expectations not met"
    )
    results.completed = 9
    results.connectionFailed(ConnectionFailure(1, "x", FailureKind.RESET, "reset"))
    assert results.verdict == "failed"
    assert report(results).splitlines()[-1] == (
        "verdict        failed: 1 of 10 connections; 1 of 2 expectations not met"
    )


def test_the_report() -> None:
    """A line each, with the expectation and the figure."""
    results = someResults()
    texts = ["p99<5ms", "rate>=99%", "connect:p99<1s", "lost<1"]
    results.expectations = judge(results, map(Expectation, texts))
    lines = report(results).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("expected"))
    assert lines[at : at + 4] == [
        "expected       ✗ p99 < 5 ms: 99.0 ms",
        "               ✓ rate >= 99%: 100.0%",
        "               ✓ connect:p99 < 1 s: 10.0 ms",
        "               ✗ lost < 1: the run is not over UDP",
    ]
    shown = page([Run("x", results), Run("y", results)], "1")
    assert shown.count("✗ p99 &lt; 5 ms: 99.0 ms") == 2


@pytest.mark.parametrize(
    ("text", "value", "shown"),
    [
        ("p99<5ms", 5_003_263, "p99 < 5 ms: 5,003,263 ns"),
        ("rate>=100%", 99.98, "rate >= 100%: 99.98%"),
        ("rate>1000", 999.9, "rate > 1000: 999.9 messages/s"),
        ("rate>1k", 1000.0, "rate > 1k: 1,000 messages/s"),
        ("failed<=1000", 1234, "failed <= 1000: 1,234"),
    ],
)
def test_a_figure_close_to_its_bound(text: str, value: float, shown: str) -> None:
    """It has the digits that make the difference."""
    expectation = Expectation(text)
    judgement = Judgement(expectation=expectation, bound=expectation.bound, value=value)
    assert expectationText(judgement) == shown


def test_a_relative_bound_is_shown() -> None:
    """With the figure that it stands for."""
    first = someResults()
    first.requested, first.completed = 15, 10
    for number in range(5):
        first.connectionFailed(ConnectionFailure(number, "x", FailureKind.RESET, "reset"))
    assert expectationText(judged(someResults(), "p99<+10%", first)) == (
        "p99 < +10% (109 ms): 99.0 ms"
    )
    assert expectationText(judged(someResults(), "failed<-10%", first)) == (
        "failed < -10% (4.50): 0"
    )


def test_json() -> None:
    """It follows the schema, and is read back with nothing lost."""
    results = someResults()
    texts = ["p99 < 5ms", "rate>=99%", "lost<1"]
    results.expectations = judge(results, map(Expectation, texts))
    written = validate(toJSON(results, "1"))
    assert written["verdict"] == "unmet"
    assert written["expectations"][0] == {
        "text": "p99 < 5ms",
        "quantity": "p99",
        "comparison": "<",
        "bound": 5 * MS,
        "unit": "ns",
        "value": written["response_ns"]["p99"],
        "met": False,
        "reason": None,
    }
    assert written["expectations"][2]["value"] is None
    assert written["expectations"][2]["reason"] == "the run is not over UDP"
    assert report(fromJSON(written)) == report(results)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"met": True}, "$.expectations[0].met: it contradicts 'p99<5ms'"),
        ({"bound": 1}, "$.expectations[0].bound: it contradicts 'p99<5ms'"),
        ({"quantity": "p50"}, "$.expectations[0].quantity: it contradicts 'p99<5ms'"),
        ({"reason": "x"}, "$.expectations[0].reason: it contradicts the value"),
        ({"value": None}, "$.expectations[0].reason: it contradicts the value"),
        ({"text": "p99"}, "$.expectations[0].text: 'p99' is not an expectation such as"),
        ({"text": "p99<+5%"}, "$.expectations[0].text: 'p99<+5%' is relative to another run"),
        ({"comparison": "=="}, "$.expectations[0].comparison: '==' is not one of"),
    ],
)
def test_json_that_contradicts_itself(change: dict[str, object], said: str) -> None:
    """It is refused, and the message has the place."""
    results = someResults()
    results.expectations = judge(results, [Expectation("p99<5ms")])
    written = validate(toJSON(results, "1"))
    written["expectations"][0].update(change)
    with pytest.raises(ValueError, match=r"^not the results of a run: ") as refused:
        fromJSON(written)
    assert str(refused.value).startswith(f"not the results of a run: {said}")


def test_json_of_too_many() -> None:
    """The cost of a file stays bounded."""
    results = someResults()
    results.expectations = judge(results, [Expectation("p99<5ms")] * 1001)
    with pytest.raises(ValueError, match="expectations: more than 1,000 items"):
        readResults(json.dumps(toJSON(results, "1")).encode())
