"""
What is kept of a latency, against the library's own recording.
"""

import base64
import zlib
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from time import perf_counter

import pytest
from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from echofactory.results.latency import (
    DIGITS,
    HIGHEST_NS,
    LOWEST_NS,
    PERCENTILES,
    Latency,
    rankOf,
)

pytestmark = pytest.mark.oldest

MS = 1_000_000
READINGS = st.lists(st.integers(0, 2 * HIGHEST_NS) | st.integers(0, 10_000_000), max_size=200)


def library(readings: list[int]) -> HdrHistogram:
    histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    for reading in readings:
        histogram.record_value(min(reading, HIGHEST_NS))
    return histogram


def of(readings: list[int]) -> Latency:
    latency = Latency()
    for reading in readings:
        latency.record(reading)
    return latency


@given(READINGS)
def test_as_the_library_records(readings: list[int]) -> None:
    """Not one reading falls into another step than the library's."""
    ours, theirs = of(readings), library(readings).counts[:]
    assert ours.histogram().counts[:] == theirs


@given(READINGS.filter(bool), st.lists(st.decimals(0, 100, places=3), max_size=5))
def test_percentiles_by_nearest_rank(readings: list[int], percents: list[Decimal]) -> None:
    """
    The least reading that at least so many percent are no longer than, as the upper end
    of the library's step.
    """
    exact = [*percents, *(Decimal(str(each)) for each in PERCENTILES.values()), Decimal(100)]
    ordered = sorted(min(reading, HIGHEST_NS) for reading in readings)
    scale = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    for percent, told in zip(exact, of(readings).percentiles(*map(float, exact)), strict=True):
        rank = next(n for n in range(1, len(ordered) + 1) if 100 * n >= percent * len(ordered))
        assert told == scale.get_highest_equivalent_value(ordered[rank - 1])


def test_the_least_and_the_most_are_the_librarys() -> None:
    """The ends of its steps."""
    readings = [700, 1_500, 40_000, 90_000_000]
    written, theirs = of(readings).asJSON(), library(readings)
    assert written["min"] == theirs.get_min_value()
    assert written["max"] == theirs.get_max_value()
    # Of readings that all fall into the first step, the library says 0.
    assert of([100]).asJSON()["max"] == 511


@pytest.mark.parametrize(
    ("count", "percent", "rank"),
    [
        (1, 50, 1), (2, 50, 1), (3, 50, 2), (10, 90, 9), (10, 95, 10), (60, 99, 60),
        (75, 99, 75), (75, 50, 38), (100, 99, 99), (1000, 99.9, 999), (1001, 99.9, 1000),
        (10_000, 99.99, 9999), (10, 0, 1), (10, 100, 10),
    ],
)  # fmt: skip
def test_ranks(count: int, percent: float, rank: int) -> None:
    """Rounded up, and by the decimals that were written."""
    assert rankOf(percent, count) == rank


def test_one_slow_reading_of_sixty() -> None:
    """It is 1.67 % of them: p99 is that one, and p95 is not."""
    p95, p99 = of([10 * MS] * 59 + [500 * MS]).percentiles(95.0, 99.0)
    assert p95 is not None
    assert p99 is not None
    assert p95 == pytest.approx(10 * MS, rel=0.001)
    assert p99 == pytest.approx(500 * MS, rel=0.001)


@given(READINGS, READINGS, st.integers(1, 2 * HIGHEST_NS))
def test_how_many_are_under_a_limit(some: list[int], others: list[int], limit: int) -> None:
    """Those that a percentile would tell as less."""
    latency = of(some)
    latency.rotate()
    latency.add(of(others))
    scale = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    told = [scale.get_highest_equivalent_value(min(each, HIGHEST_NS)) for each in some + others]
    assert latency.under(min(limit, HIGHEST_NS)) == sum(
        each < min(limit, HIGHEST_NS) for each in told
    )


def test_mean_and_deviation_are_the_librarys() -> None:
    """Of fast readings and of slow ones, whose steps are coarser."""
    readings = [700, 1_500, 40_000, 40_100, 3_000_000, 3_100_000, 90_000_000]
    written, theirs = of(readings).asJSON(), library(readings)
    assert written["mean"] == pytest.approx(theirs.get_mean_value(), rel=0.0001)
    assert written["stddev"] == pytest.approx(theirs.get_stddev(), rel=0.0001)


@settings(max_examples=20)
@given(READINGS, READINGS, st.lists(st.integers(0, 2 * HIGHEST_NS), max_size=5))
def test_buckets(some: list[int], others: list[int], bounds: list[int]) -> None:
    """How many are within each bound, to the width of a step; of older ones and new."""
    latency = of(some)
    latency.rotate()
    latency.add(of(others))
    whole = library(some + others)
    within, count, sumNs = latency.buckets(*bounds)
    assert count == latency.count == len(some + others)
    for bound, found in zip(bounds, within, strict=True):
        upTo = whole._counts_index_for(min(bound, HIGHEST_NS))
        assert found == sum(whole.counts[: upTo + 1])
    if count:
        assert sumNs / count == pytest.approx(whole.get_mean_value(), rel=0.001, abs=512)


def test_a_look_is_short() -> None:
    """It holds up what is measured: of the many steps, only those with readings count."""
    latency = of([n * 1_000 for n in range(100, 1100, 20)])
    steps = library([]).counts[:]
    walk = timed(lambda: [step for step, n in enumerate(steps) if n])
    assert timed(lambda: latency.percentiles(50.0, 99.0)) < walk
    assert timed(latency.asJSON) < walk
    assert timed(lambda: latency.buckets(1_000_000, 10_000_000)) < walk
    assert timed(latency.rotate) < walk


def timed(call: Callable[[], object]) -> float:
    """Return how long it takes, undisturbed."""

    def once() -> float:
        began = perf_counter()
        call()
        return perf_counter() - began

    return min(once() for _ in range(20))


@settings(max_examples=20)
@given(READINGS, READINGS)
def test_two_merged_are_one(some: list[int], others: list[int]) -> None:
    """Added, rotated or recorded in one go: the same readings."""
    merged = of(some)
    merged.add(of(others))
    whole = of(some + others)
    assert merged.asJSON() == whole.asJSON()
    rotated = of(some)
    first = rotated.rotate()
    for reading in others:
        rotated.record(reading)
    assert first.asJSON() == of(some).asJSON()
    assert rotated.rotate().asJSON() == of(others).asJSON()
    assert rotated.asJSON() == whole.asJSON()


def test_json() -> None:
    """Nanoseconds in, nanoseconds out, three digits of them."""
    written = of([n * 1_000_000 for n in range(1, 1001)]).asJSON()
    assert written["count"] == 1000
    expected = {
        "min": 1e6, "p50": 500e6, "p90": 900e6, "p95": 950e6, "p99": 990e6, "p99_9": 999e6,
        "p99_99": 1000e6, "max": 1000e6, "mean": 500.5e6,
    }  # fmt: skip
    for field, value in expected.items():
        assert written[field] == pytest.approx(value, rel=0.001), field


@settings(max_examples=20)
@given(READINGS)
def test_written_and_read_back(readings: list[int]) -> None:
    """Nothing is lost."""
    assert Latency.decoded(of(readings).encoded()).asJSON() == of(readings).asJSON()


@given(READINGS, READINGS)
def test_counts_that_are_added_up(some: list[int], others: list[int]) -> None:
    """They are those of all the readings."""
    counts = Counter(of(some).counts())
    counts.update(of(others).counts())
    assert Latency.fromCounts(counts).asJSON() == of(some + others).asJSON()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_histogram_that_is_broken(at: int, change: int) -> None:
    """It is refused, or says something else: it is no other failure."""
    text = of([5_000, 7_000, 123_456_789]).encoded()
    assert text is not None
    frame = bytearray(base64.b64decode(text))
    payload = bytearray(zlib.decompress(frame[8:]))
    payload[at % len(payload)] ^= change
    packed = zlib.compress(payload)
    frame = frame[:4] + len(packed).to_bytes(4, "big") + packed
    with suppress(ValueError):
        Latency.decoded(base64.b64encode(frame).decode())


def test_nothing_recorded() -> None:
    """What is not known is null."""
    written = Latency().asJSON()
    assert written.pop("count") == 0
    assert set(written.values()) == {None}
    assert Latency().percentiles(50.0, 99.0) == [None, None]
