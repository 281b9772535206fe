"""
When messages are due.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.workload.schedule import Rate, Schedule

pytestmark = pytest.mark.oldest


def test_a_steady_rate() -> None:
    """One every so often, from the beginning on."""
    schedule = Schedule.lasting(Rate(1000, 1000), 2.0)
    assert schedule.total == 2000
    assert [schedule.dueNs(n) for n in (0, 1, 1999)] == [0, 1_000_000, 1_999_000_000]


def test_a_rising_rate() -> None:
    """From 100 to 300 a second in 10 seconds: 2,000, of which 750 in the first half."""
    schedule = Schedule.lasting(Rate(100, 300), 10.0)
    assert schedule.total == 2000
    times = [schedule.dueNs(n) / 1e9 for n in range(2000)]
    assert sum(time < 5 for time in times) == 750
    assert times[1] - times[0] == pytest.approx(1 / 100, rel=0.01)
    assert times[-1] - times[-2] == pytest.approx(1 / 300, rel=0.01)


@pytest.mark.parametrize(
    ("rate", "seconds", "total"),
    [
        (0.5, 5, 3),
        (0.5, 9, 5),
        (0.1, 5, 1),
        (0.1, 30, 3),
        (0.3, 10, 3),
        (1, 1, 1),
        (1, 2, 2),
        (3, 1, 3),
        (10, 1, 10),
        (75, 1, 75),
        (7, 1.5, 11),
        (1000, 3, 3000),
        (1e7, 2, 20_000_000),
    ],
)
def test_as_many_as_are_due_within_the_duration(
    rate: float, seconds: float, total: int
) -> None:
    """From the message at the beginning up to the end, where none is due any more."""
    schedule = Schedule.lasting(Rate(rate, rate), seconds)
    assert schedule.total == total
    assert schedule.dueNs(total - 1) < seconds * 1e9 <= schedule.endNs
    assert schedule.rateOf(total) == rate


@given(st.floats(0.01, 1e4), st.floats(0.01, 1e4), st.floats(0.1, 60), st.floats(0, 1.2))
def test_how_many_are_due_before(first: float, last: float, seconds: float, at: float) -> None:
    """Those whose time is earlier, to the nanosecond that a float is exact to."""
    schedule = Schedule.lasting(Rate(first, last), seconds)
    ns = int(at * seconds * 1e9)
    due = schedule.dueBefore(ns)
    assert 0 <= due <= schedule.total
    if due:
        assert schedule.dueNs(due - 1) <= ns + 1000
    if due < schedule.total:
        assert schedule.dueNs(due) >= ns - 1000


def test_the_mean_of_a_rising_rate() -> None:
    """Over the time until the next message would be due: no fence-post error."""
    schedule = Schedule.lasting(Rate(1, 2), 1.0)
    assert schedule.total == 2
    assert schedule.rateOf(2) == pytest.approx(2 / 1.2360679775)
    assert Schedule.lasting(Rate(1000, 20_000), 10.0).rateOf(105_000) == pytest.approx(10_500)


def test_a_count() -> None:
    """So many messages, for as long as they take."""
    schedule = Schedule.of(Rate(50, 150), 1000)
    assert schedule.total == 1000
    assert schedule.dueNs(1000) / 1e9 == pytest.approx(10.0)


@given(st.floats(0.1, 1e6), st.floats(0.1, 1e6), st.floats(0.1, 60))
def test_in_order_and_in_time(first: float, last: float, seconds: float) -> None:
    """Whatever the rates, no message is due before the one before it, nor too late."""
    schedule = Schedule.lasting(Rate(first, last), seconds)
    step = max(1, schedule.total // 100)
    times = [schedule.dueNs(n) for n in range(0, schedule.total, step)]
    assert all(a <= b for a, b in pairwise(times))
    assert times[0] == 0
    assert times[-1] <= (seconds + 1 / min(first, last)) * 1e9


@pytest.mark.parametrize(("first", "last", "name"), [(0, 1, "first"), (1, -1, "last")])
def test_refuses_nonsense(first: float, last: float, name: str) -> None:
    """The message names the field."""
    with pytest.raises(ValueError, match=f"rate: {name}"):
        Rate(first, last)
