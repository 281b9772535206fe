"""
Several runs compared: how far each figure is from the first run's, and whether that is better,
worse, or noise.
"""

from collections.abc import Sequence

import pytest
from schema import FACTS

from echofactory.report.compare import Run, comparison, comparisonText
from echofactory.report.noise import latencyRange, overlap, rateRange
from echofactory.results.books import Results
from echofactory.results.intervals import Interval
from echofactory.results.latency import Latency

pytestmark = pytest.mark.oldest

S = 1_000_000_000


def run(
    responses: Sequence[int], *, rate: float | None = None, lasting: int = 1, spread: int = 1
) -> Results:
    """
    Return a run with an interval of a second for each response time.

    @param responses: the response time of all messages of each interval, in nanoseconds.
    @param rate: the scheduled rate.
    @param lasting: messages of each interval.
    @param spread: messages that an interval has more than the one before it, in turn.
    """
    results = Results(target="tcp:127.0.0.1:7", workload=FACTS, requested=1, intervalNs=S)
    results.firstAt = 1
    results.connectionEstablished(1_000_000)
    results.completed = 1
    if rate is not None:
        results.rateAsked, results.service = rate, Latency()
    for number, response in enumerate(responses, 1):
        for _ in range(lasting + spread * (number % 2)):
            results.response.record(response)
            if results.service is not None:
                results.service.record(response)
            results.verified += 1
        results.lastAt = results.lastSentAt = number * S
        results.closeInterval(number * S)
    results.elapsedNs = len(responses) * S
    return results


def told(first: Results, other: Results) -> dict[str, tuple[str, str]]:
    """Return the change and the verdict of each figure."""
    rows = comparison([Run("one", first), Run("other", other)])
    return {title: cells[1][1:] for title, cells in rows}


@pytest.mark.parametrize(
    ("first", "other", "change"),
    [
        (100, 103, "+3.0%"),
        (100_000, 99_999, "+0.0%"),
        (100, 97, "-3.0%"),
        (100, 199, "+99.0%"),
        (100, 200, "× 2"),
        (100, 1100, "× 11"),
        (100, 250_000, "× 2,500"),
        (1100, 100, "÷ 11"),
        (100, 100, "+0.0%"),
        (100, 0, "-100.0%"),
        (0, 100, ""),
    ],
)
def test_how_far_a_figure_is_from_the_first_runs(first: int, other: int, change: str) -> None:
    """In percent; as a factor if one is at least twice the other."""
    one, two = run([]), run([])
    one.requested, two.requested = first, other
    assert told(one, two)["connections"] == (change, "")


def test_lower_latency_is_better_and_higher_is_worse() -> None:
    """If the intervals of the two runs have nothing in common."""
    slow, fast = run([5_000_000] * 6, lasting=9), run([1_000_000] * 6, lasting=9)
    assert told(slow, fast)["response time p50"] == ("÷ 5", "better")
    assert told(fast, slow)["response time p99"] == ("× 5", "worse")


def test_failures_are_worse_and_rate_is_better() -> None:
    """The direction depends on the figure."""
    few, many = run([10**6] * 6, lasting=10), run([10**6] * 6, lasting=100)
    many.failures["reset"] = 2  # type: ignore[index]
    both = told(few, many)
    assert both["messages achieved"][1] == "better"
    assert both["failed"] == ("", "worse")
    assert told(many, few)["messages achieved"][1] == "worse"


def test_what_is_asked_is_not_judged() -> None:
    """A run that was asked for more achieves more."""
    few, many = run([10**6] * 6, rate=10.0, lasting=10), run([10**6] * 6, rate=99.0, lasting=99)
    assert told(few, many)["messages achieved"][1] == ""
    assert told(few, many)["messages asked"][1] == ""


def test_intervals_that_overlap_are_noise() -> None:
    """The middle halves of p50 and p99 per interval, and of the rate."""
    one = run([100_000, 200_000, 300_000, 400_000, 500_000], lasting=20)
    other = run([180_000, 280_000, 380_000, 480_000, 580_000], lasting=20)
    both = told(one, other)
    assert both["response time p50"][1] == "noise"
    assert both["response time p99"][1] == "noise"
    assert both["response time p90"][1] == "noise"
    assert both["messages achieved"][1] == ""
    assert both["response time p50"][0].startswith("+")


def test_one_slow_interval_is_no_difference_of_runs() -> None:
    """The middle half leaves it out, in both directions."""
    one = run([1_000_000] * 8, lasting=20)
    slow = run([1_000_000] * 7 + [90_000_000], lasting=20)
    assert told(one, slow)["response time p99"][1] == "noise"


def test_a_maximum_is_one_reading() -> None:
    """Nothing follows from it, however far it is away."""
    one, slow = run([10**6] * 8), run([10**9] * 8)
    assert told(one, slow)["response time max"] == ("× 1,000", "")


def test_few_intervals() -> None:
    """The readings themselves tell how sure a percentile is."""
    results = run([10**6, 2 * 10**6], lasting=5)
    for _ in range(1000):
        results.response.record(1_500_000)
    found = latencyRange(results, "response", 50.0)
    assert found is not None
    assert 1_490_000 < found[0] <= found[1] < 1_510_000
    assert latencyRange(run([]), "response", 50.0) is None
    assert rateRange(run([10**6] * 3)) is None


def test_ranges_overlap_or_not() -> None:
    """One common figure is enough; a range that is not known has none."""
    assert overlap((1, 2), (2, 3))
    assert overlap((1, 9), (4, 5))
    assert not overlap((1, 2), (2.1, 3))
    assert not overlap(None, (1, 2))


def test_a_partial_interval_gives_no_range() -> None:
    """A few messages at the end say nothing of the run."""
    results = run([10**6] * 4, lasting=20)
    results.intervals.append(
        Interval(
            endNs=4 * S + 10**6,
            lengthNs=10**6,
            open=0,
            messages=1,
            bytes=0,
            p50Ns=10**9,
            p99Ns=10**9,
            failures=0,
        )
    )
    found = latencyRange(results, "response", 99.0)
    assert found is not None
    assert found[1] < 2 * 10**6


def test_chosen_percentiles_are_judged() -> None:
    """As those of the table."""
    runs = [Run(str(ms), run([ms * 10**6] * 6, lasting=9)) for ms in (1, 20)]
    lines = comparisonText(runs, [12.5]).splitlines()
    (line,) = [line for line in lines if line.startswith("response time p12.5")]
    assert line.split()[-3:] == ["×", "20", "worse"]


def test_the_table_of_three_runs() -> None:
    """Each run after the first has its figure, the change and the verdict, in columns."""
    runs = [Run(str(ms), run([ms * 10**6] * 6, lasting=9)) for ms in (1, 20, 1)]
    lines = comparisonText(runs).splitlines()
    (line,) = [line for line in lines if line.startswith("response time p50")]
    assert line.split()[3:] == ["1.00", "ms", "20.0", "ms", "×", "20", "worse", "1.00", "ms",
                                "+0.0%"]  # fmt: skip
    # The name of a run ends where its figures end.
    assert lines[0].index("20") + 2 == line.index("20.0 ms") + len("20.0 ms")


@pytest.mark.parametrize("width", [80, 60])
def test_a_table_on_a_terminal(width: int) -> None:
    """It fits: the runs that do not fit follow below, with the names of the figures again."""
    runs = [Run(f"run{at}.json", run([(at + 1) * 10**6] * 6, lasting=9)) for at in range(4)]
    whole, narrow = (
        comparisonText(runs).splitlines(),
        comparisonText(runs, (), width).splitlines(),
    )
    assert max(map(len, whole)) > width >= max(map(len, narrow))
    heads = [line.split() for line in narrow if line.startswith("  ") and ".json" in line]
    assert [name for names in heads for name in names] == [each.name for each in runs]
    assert len(heads) > 1
    words = [
        word for line in narrow if line.startswith("response time p50") for word in line.split()
    ]
    (line,) = [line for line in whole if line.startswith("response time p50")]
    assert [word for word in words if word not in ("response", "time", "p50")] == line.split()[
        3:
    ]
