"""
Poisson arrivals.
"""

import tracemalloc
from collections.abc import Sequence
from itertools import pairwise
from math import exp, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.workload.arrivals import MAX_SEED, Poisson, PoissonSchedule, UnitArrivals
from echofactory.workload.schedule import DueTimes, Rate, Schedule
from echofactory.workload.stages import Stage, StagedSchedule, Stages

pytestmark = pytest.mark.oldest

SEEDS = st.integers(0, MAX_SEED)


def lasting(rate: float, seconds: float, seed: int) -> PoissonSchedule:
    return PoissonSchedule(Schedule.lasting(Rate(rate, rate), seconds), seed, False)


def dueTimes(schedule: DueTimes) -> list[int]:
    return [schedule.dueNs(number) for number in range(schedule.total)]


def distance(sample: Sequence[float]) -> float:
    """
    Return the greatest distance between the sample's distribution and the exponential
    distribution with a mean of 1 (Kolmogorov-Smirnov), times the root of the sample's size.
    """
    ordered, size = sorted(sample), len(sample)
    shares = [1 - exp(-each) for each in ordered]
    greatest = max(
        max(share - number / size, (number + 1) / size - share)
        for number, share in enumerate(shares)
    )
    return greatest * sqrt(size)


@pytest.mark.parametrize("seed", range(5))
def test_gaps_are_exponential(seed: int) -> None:
    """The distance exceeds 1.95 in one of 1,000 samples. These seeds are none of them."""
    arrivals = UnitArrivals(seed, 20_000)
    places = [arrivals.place(number) for number in range(20_000)]
    assert places == sorted(places)
    gaps = [after - before for before, after in pairwise([0.0, *places])]
    assert distance(gaps) < 1.95
    # The gaps are independent of each other: their correlation is close to 0.
    mean = sum(gaps) / len(gaps)
    products = [(a - mean) * (b - mean) for a, b in pairwise(gaps)]
    assert abs(sum(products) / len(products)) < 4 / sqrt(len(products))


@pytest.mark.parametrize("rate", [Rate(1000, 1000), Rate(100, 1900)])
def test_gaps_follow_the_rate(rate: Rate) -> None:
    """On the axis of messages, the gaps are exponential whatever the rate."""
    even = Schedule.lasting(rate, 20.0)
    schedule = PoissonSchedule(even, 7, False)
    places = [even.expectedBefore(ns) for ns in dueTimes(schedule)]
    assert distance([b - a for a, b in pairwise([0.0, *places])]) < 1.95


def test_stages_have_their_shares() -> None:
    """The number in each stage is within four standard deviations."""
    stages = Stages((Stage(Rate(100, 100), 20), Stage(Rate(1000, 3000), 5)))
    schedule = PoissonSchedule(StagedSchedule(stages), 3, False)
    first = schedule.dueBefore(20_000_000_000)
    assert abs(first - 2000) < 4 * sqrt(2000)
    assert abs(schedule.total - first - 10_000) < 4 * sqrt(10_000)


def test_the_number_within_a_duration_is_poisson() -> None:
    """Its mean and its variance are the rate times the duration."""
    totals = [lasting(50, 10.0, seed).total for seed in range(300)]
    mean = sum(totals) / len(totals)
    variance = sum((total - mean) ** 2 for total in totals) / len(totals)
    assert abs(mean - 500) < 4 * sqrt(500 / 300)
    assert 0.7 < variance / 500 < 1.3


@given(SEEDS, st.floats(0.01, 2000), st.floats(0.1, 5))
def test_what_is_due_within_the_duration(seed: int, rate: float, seconds: float) -> None:
    """All messages are due before the end, and the one after the last one is not."""
    schedule = lasting(rate, seconds, seed)
    times = dueTimes(schedule)
    assert times == sorted(times)
    assert all(0 <= ns < seconds * 1e9 for ns in times)
    assert schedule.endNs >= round(seconds * 1e9) - 1
    assert schedule.seconds == seconds


@given(SEEDS, st.integers(1, 3000), st.integers(0, 10**10))
def test_how_many_are_due_before(seed: int, total: int, at: int) -> None:
    """Those whose time is earlier."""
    schedule = PoissonSchedule(Schedule.of(Rate(500, 500), total), seed, True)
    times = dueTimes(schedule)
    for ns in (at, times[0], times[-1], times[-1] + 1):
        assert schedule.dueBefore(ns) == sum(each < ns for each in times)


def test_a_count() -> None:
    """Exactly so many; the time is random."""
    schedules = [PoissonSchedule(Schedule.of(Rate(10, 10), 1000), n, True) for n in range(100)]
    assert {schedule.total for schedule in schedules} == {1000}
    seconds = [schedule.seconds for schedule in schedules]
    assert len(set(seconds)) == 100
    assert sum(seconds) / 100 == pytest.approx(100, rel=0.02)
    for each in schedules:
        assert each.rateOf(1000) == pytest.approx(1000 / each.seconds)


def test_the_same_seed_has_the_same_times() -> None:
    """In whatever order they are asked for. Another seed has others."""
    schedule = lasting(1000, 5.0, 42)
    times = dueTimes(schedule)
    again = lasting(1000, 5.0, 42)
    assert [again.dueNs(n) for n in reversed(range(again.total))] == times[::-1]
    assert dueTimes(lasting(1000, 5.0, 43)) != times


def test_a_long_run_takes_no_more_memory() -> None:
    """A list of these due times would have 80 MB."""
    schedule = lasting(100_000, 100.0, 1)
    tracemalloc.start()
    try:
        for number in range(0, schedule.total, 997):
            schedule.dueNs(number)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert schedule.total > 9_900_000
    assert peak < 400 * 1024


def test_a_seed() -> None:
    """It is random unless it is given, and refused if it is none."""
    assert len({Poisson().seed for _ in range(5)}) > 1
    with pytest.raises(ValueError, match="arrivals: seed: -1 is not 0 or more"):
        Poisson(-1)
    with pytest.raises(TypeError, match=r"arrivals: seed: 1\.5 is not a whole number"):
        Poisson(1.5)  # type: ignore[arg-type]
