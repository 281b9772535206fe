"""
When messages are due in stages, and after a warm-up.
"""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.workload.schedule import DueTimes, Rate, Schedule
from echofactory.workload.stages import MAX_STAGES, Stage, StagedSchedule, Stages, WarmedUp

pytestmark = pytest.mark.oldest

RATES = st.builds(Rate, st.floats(0.1, 1e5), st.floats(0.1, 1e5))
STAGES = st.lists(st.builds(Stage, RATES, st.floats(0.01, 20)), min_size=1, max_size=6)


def staged(*stages: tuple[float, float, float]) -> StagedSchedule:
    return StagedSchedule(
        Stages(tuple(Stage(Rate(first, last), seconds) for first, last, seconds in stages))
    )


def numbers(schedule: DueTimes, *near: int) -> list[int]:
    """Return numbers of messages: some, the first, the last, and those close to others."""
    step = max(1, schedule.total // 50)
    chosen = {*range(0, schedule.total, step), schedule.total - 1}
    chosen.update(each + by for each in near for by in (-2, -1, 0, 1, 2))
    return sorted(number for number in chosen if 0 <= number < schedule.total)


def checkInverse(schedule: DueTimes, *near: int) -> None:
    """The messages are due in order, and as many as there are before each time."""
    chosen = numbers(schedule, *near)
    times = [schedule.dueNs(number) for number in chosen]
    assert times == sorted(times)
    for number, ns in zip(chosen, times, strict=True):
        due = schedule.dueBefore(ns)
        # Of the messages that are due at one time, none is due before it.
        assert due <= number < schedule.dueBefore(ns + 1)
        assert due == 0 or schedule.dueNs(due - 1) < ns
        assert schedule.dueNs(due) == ns


def test_three_stages() -> None:
    """A constant rate, a rising rate, and a constant rate."""
    schedule = staged((500, 500, 10), (500, 5000, 60), (5000, 5000, 30))
    assert schedule.total == 5000 + 165_000 + 150_000
    assert schedule.seconds == 100
    assert schedule.endNs == 100_000_000_000
    assert schedule.dueNs(5000) == 10_000_000_000
    assert schedule.dueNs(4999) == 9_998_000_000
    assert schedule.dueNs(170_000) == 70_000_000_000
    assert schedule.dueNs(170_001) == 70_000_200_000
    assert schedule.dueBefore(10_000_000_000) == 5000
    assert schedule.dueBefore(70_000_000_001) == 170_001
    assert schedule.rateOf(320_000) == pytest.approx(3200)


def test_a_border_between_two_messages() -> None:
    """What is left of a gap in one stage takes its share of the gap in the next one."""
    schedule = staged((1, 1, 1.5), (2, 2, 1.0))
    # 1.5 messages in the first stage: half a gap of 1 s, and half a gap of 0.5 s.
    assert [schedule.dueNs(n) for n in range(4)] == [0, 10**9, 1_750_000_000, 2_250_000_000]
    assert schedule.total == 4


@given(RATES, st.floats(0.01, 60))
def test_one_stage_is_a_plain_schedule(rate: Rate, seconds: float) -> None:
    """To the nanosecond."""
    one, plain = (
        StagedSchedule(Stages((Stage(rate, seconds),))),
        Schedule.lasting(rate, seconds),
    )
    assert (one.total, one.seconds, one.endNs) == (plain.total, plain.seconds, plain.endNs)
    for number in numbers(plain):
        ns = plain.dueNs(number)
        assert one.dueNs(number) == ns
        for at in (ns - 1, ns, ns + 1):
            assert one.dueBefore(at) == plain.dueBefore(at)


@given(STAGES)
def test_stages_are_in_order_and_exact(stages: list[Stage]) -> None:
    """Also at the borders: no message is missing, and none is there twice."""
    schedule = StagedSchedule(Stages(tuple(stages)))
    parts = [stage.rate.mean * stage.seconds for stage in stages]
    assert schedule.total == pytest.approx(sum(parts), abs=1)
    near = [round(sum(parts[:n])) for n in range(len(parts))]
    checkInverse(schedule, *near)
    assert schedule.dueNs(0) == 0
    assert schedule.dueNs(schedule.total - 1) <= schedule.seconds * 1e9
    assert schedule.dueBefore(round(schedule.seconds * 1e9) + 1) == schedule.total


@given(STAGES)
def test_each_stage_has_its_messages(stages: list[Stage]) -> None:
    """As many as its rate makes, with the part of a message that borders leave."""
    schedule = StagedSchedule(Stages(tuple(stages)))
    at, counts = 0.0, []
    for stage in stages:
        before = schedule.dueBefore(round(at * 1e9))
        at += stage.seconds
        counts.append(schedule.dueBefore(round(at * 1e9)) - before)
        assert counts[-1] == pytest.approx(stage.rate.mean * stage.seconds, abs=1.001)
    assert sum(counts) == pytest.approx(schedule.total, abs=1)


@given(RATES, st.floats(0.1, 30))
def test_a_plain_schedule_is_exact(rate: Rate, seconds: float) -> None:
    """The number of messages before a time is that of the due times."""
    checkInverse(Schedule.lasting(rate, seconds))


@given(STAGES, st.floats(0.01, 10))
def test_a_warm_up_comes_before_the_schedule(stages: list[Stage], seconds: float) -> None:
    """After it, the messages are those of a run without it."""
    measured = StagedSchedule(Stages(tuple(stages)))
    rate = stages[0].rate.first
    schedule = WarmedUp(Schedule.lasting(Rate(rate, rate), seconds), measured)
    before = schedule.total - measured.total
    assert schedule.dueBefore(schedule.beginNs) == before == schedule.warmUp.total
    for number in numbers(measured):
        assert schedule.dueNs(before + number) == schedule.beginNs + measured.dueNs(number)
    assert schedule.seconds == seconds + measured.seconds
    assert schedule.endNs == schedule.beginNs + measured.endNs
    checkInverse(schedule, before)
    times = [schedule.dueNs(n) for n in range(max(0, before - 2), before + 1)]
    assert all(a <= b for a, b in pairwise(times))


def test_nonsense_is_refused() -> None:
    """The message names the field."""
    stage = Stage(Rate(1, 1), 1.0)
    with pytest.raises(ValueError, match="stages: 0 stages: from 1 to 1,000 are accepted"):
        Stages(())
    with pytest.raises(ValueError, match="stages: 1,001 stages"):
        Stages((stage,) * (MAX_STAGES + 1))
    with pytest.raises(ValueError, match=r"stages: 2e\+09 s together: too long"):
        Stages((Stage(Rate(1, 1), 1e9), Stage(Rate(1, 1), 1e9)))
    with pytest.raises(ValueError, match="seconds: 0 is not more than 0 s"):
        Stage(Rate(1, 1), 0)
    bad: tuple[object, ...] = (5, [stage], (stage, 5))
    for value in bad:
        with pytest.raises(TypeError, match="stages: "):
            Stages(value)  # type: ignore[arg-type]
