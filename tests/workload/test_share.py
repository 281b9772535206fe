"""
The shares of several parts are the whole run: each connection and each message once.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.workload.arrivals import Poisson
from echofactory.workload.schedule import DueTimes, Rate
from echofactory.workload.settings import Workload
from echofactory.workload.share import Share, SharedSchedule
from echofactory.workload.stages import Stage, Stages

parts = st.integers(1, 7)
connections = st.integers(1, 40)
rates = st.floats(1, 200).map(lambda rate: Rate(rate, rate))
ramps = st.builds(Rate, st.floats(1, 200), st.floats(1, 200))
seconds = st.floats(0.1, 3)
arrivals = st.none() | st.builds(Poisson, st.integers(0, 5))


def counted(rate: Rate, count: int, arrivals: Poisson | None) -> Workload:
    return Workload(size=8, rate=rate, count=count, arrivals=arrivals)


workloads = st.one_of(
    st.builds(counted, rates | ramps, st.integers(1, 5), arrivals),
    st.builds(
        lambda rate, seconds, warmUp, arrivals, churn: Workload(
            size=8, rate=rate, duration=seconds, warmUp=warmUp, arrivals=arrivals, churn=churn
        ),
        rates | ramps, seconds, st.just(0.0) | seconds, arrivals, st.booleans(),
    ),
    st.builds(
        lambda stages, warmUp, arrivals: Workload(
            size=8, rate=Stages(tuple(stages)), warmUp=warmUp, arrivals=arrivals
        ),
        st.lists(st.builds(Stage, ramps, seconds), min_size=1, max_size=3),
        st.just(0.0) | seconds,
        arrivals,
    ),
)  # fmt: skip


def sharesOf(count: int) -> list[Share]:
    return [Share(part, count) for part in range(count)]


def dueTimes(schedule: DueTimes | None) -> list[int]:
    assert schedule is not None
    return [schedule.dueNs(number) for number in range(schedule.total)]


@given(parts, st.integers(0, 100))
def test_each_connection_belongs_to_one_part(count: int, total: int) -> None:
    """With the number that it has in one process."""
    numbers = [
        share.number(ordinal)
        for share in sharesOf(count)
        for ordinal in range(1, share.count(total) + 1)
    ]
    assert sorted(numbers) == [*range(1, total + 1)]


@given(parts, connections, workloads)
def test_each_message_belongs_to_the_part_of_its_connection(
    count: int, total: int, workload: Workload
) -> None:
    """
    It is due when it is due in one process. With churn, its connection is its own, and has its
    number.
    """
    whole = dueTimes(workload.schedule(total))
    turns = max(1, len(whole)) if workload.churn else total
    for share in sharesOf(count):
        own = [due for number, due in enumerate(whole) if number % turns % count == share.part]
        assert dueTimes(workload.schedule(total, share)) == own


@given(parts, connections, workloads, st.integers(-1, 7_000_000_000))
def test_what_is_due_before_a_time(count: int, total: int, workload: Workload, ns: int) -> None:
    """The parts count together what one process counts, at any time."""
    whole = workload.schedule(total)
    assert whole is not None
    together = 0
    for share in sharesOf(count):
        schedule = workload.schedule(total, share)
        assert schedule is not None
        before = schedule.dueBefore(ns)
        assert before == sum(due < ns for due in dueTimes(schedule))
        together += before
    assert together == whole.dueBefore(ns)


@given(connections, workloads)
def test_the_end_of_a_share(total: int, workload: Workload) -> None:
    """The message after the last one of a part is due at the end of the whole, and no sooner
    than its last one."""
    whole = workload.schedule(total)
    share = Share(0, 2).schedule(whole, total) if whole is not None else None
    assert whole is not None
    assert share is not None
    assert share.endNs == share.dueNs(share.total) == whole.endNs
    assert share.seconds == whole.seconds
    if share.total:
        assert share.dueNs(share.total - 1) <= share.endNs
        assert share.rateOf(share.total) == share.total * 1e9 / share.endNs


@given(parts, st.lists(st.integers(), max_size=7))
def test_source_addresses_are_used_in_turn(count: int, addresses: list[int]) -> None:
    """Connection number C{n} has the address that it has in one process."""
    for share in sharesOf(count):
        own = share.turns(addresses)
        assert bool(own) == bool(addresses)
        for ordinal in range(1, 30 * bool(own)):
            number = share.number(ordinal)
            assert own[(ordinal - 1) % len(own)] == addresses[(number - 1) % len(addresses)]


def test_one_part_is_the_whole() -> None:
    """It needs no other schedule."""
    whole = Workload(size=8, rate=Rate(5, 5), duration=1.0).schedule(3)
    assert whole is not None
    assert Share().schedule(whole, 3) is whole
    assert not isinstance(whole, SharedSchedule)


@pytest.mark.parametrize(
    ("part", "parts", "said"),
    [(-1, 2, "part"), (2, 2, "part"), (0, 0, "parts"), (0, 10_001, "parts")],
)
def test_a_share_that_there_is_not(part: int, parts: int, said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said):
        Share(part, parts)
