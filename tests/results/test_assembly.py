"""
The books of a run, from the accounts of simulated parts: they equal those of all readings.
"""

import json
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import ceil
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from schema import validate

from echofactory.results.account import Accounts
from echofactory.results.assembly import Assembly, Grid
from echofactory.results.books import Results
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.json import fromJSON, toJSON
from echofactory.results.latency import Latency
from echofactory.results.opencounts import OpenCounts
from echofactory.results.partfacts import PartsFacts
from echofactory.workload.schedule import Rate
from echofactory.workload.settings import Workload

MS = 1_000_000
LENGTH = 100 * MS
"""Of an interval, in nanoseconds."""
LATE = LENGTH // 5
"""No tick is later than this, in nanoseconds."""
SIZE = 8
BEGAN = 10_000 * MS
"""When the run begins, by the clock of all parts."""

CLOSED = Workload(size=SIZE, duration=1.0)
WARMED = Workload(size=SIZE, duration=1.0, warmUp=0.2)
OPEN = Workload(size=SIZE, duration=1.0, rate=Rate(100.0, 100.0))


@dataclass
class Piece:
    """What happens to a part in one of its intervals."""

    readings: list[int]
    lateNs: int = 0
    failing: bool = False


@dataclass
class Simulated:
    """
    A part: what happens to it, and what it says.

    @ivar told: the readings of each interval that it has told of.
    """

    workload: Workload
    connections: int
    pieces: list[Piece]
    lastNs: int = LENGTH // 2
    warmPieces: int = 0
    told: list[list[int]] = field(default_factory=list)

    def accounts(self) -> list[dict[str, Any]]:
        """Return its accounts, as they come over a pipe."""
        return [json.loads(json.dumps(each)) for each in self._accounts()]

    def _accounts(self) -> Iterator[dict[str, Any]]:
        now = BEGAN + 2 * MS

        def clock() -> int:
            return now

        results = self.workload.books(self.connections, LENGTH / 1e9)
        results.openCounts = OpenCounts(clock, BEGAN)
        results.beganAt = BEGAN + MS
        accounts = Accounts(results, BEGAN)
        results.warmingUp = self.warmPieces > 0
        results.firstAt = now
        for _ in range(self.connections):
            results.connectionEstablished(MS)
        for number, piece in enumerate(self.pieces, 1):
            if number == self.warmPieces + 1 and results.warmingUp:
                results.endWarmUp(now)
            for reading in piece.readings:
                now += 1
                results.sent += 1
                results.verified += 1
                results.bytesSent += SIZE
                results.bytesReceived += SIZE
                results.response.record(reading)
                if results.service is not None:
                    results.service.record(reading // 2)
                    results.due += 1
                results.lastSentAt = results.lastAt = now
            if piece.failing and results.open > 0:
                failure = ConnectionFailure(1, "192.0.2.1:7", FailureKind.RESET, "reset")
                results.connectionFailed(failure)
                results.connectionClosed()
                results.sent += 1
                results.due += 1
                results.unanswered += 1
            last = number == len(self.pieces)
            end = (number - 1) * LENGTH + self.lastNs if last else number * LENGTH
            now = max(now, results.beganAt + end + piece.lateNs)
            if last:
                for _ in range(results.open):
                    results.completed += 1
                    results.connectionClosed()
            results.closeInterval(now - results.beganAt)
            self.told.append([] if results.warmingUp else piece.readings)
            yield accounts.interval()
        results.elapsedNs = now - results.beganAt
        yield accounts.last()


def piecesOf(readings: st.SearchStrategy[int]) -> st.SearchStrategy[list[Piece]]:
    piece = st.builds(
        Piece,
        readings=st.lists(readings, max_size=6),
        lateNs=st.integers(0, LATE - 2 * MS),
        failing=st.booleans(),
    )
    return st.lists(piece, min_size=1, max_size=5)


readings = st.integers(1, 10**9) | st.integers(10**6, 10**6 + 5_000)


def partsOf(workload: Workload, warmPieces: int = 0) -> st.SearchStrategy[list[Simulated]]:
    part = st.builds(
        Simulated,
        workload=st.just(workload),
        connections=st.integers(1, 3),
        pieces=piecesOf(readings),
        lastNs=st.integers(LENGTH // 2, LENGTH),
        warmPieces=st.just(warmPieces),
    )
    return st.lists(part, min_size=1, max_size=4)


def assemblyOf(parts: list[Simulated], ended: list[Latency] | None = None) -> Assembly:
    """Return the books of a run that has begun."""
    requested = [part.connections for part in parts]
    books = parts[0].workload.books(sum(requested), LENGTH / 1e9)
    books.target = "tcp:192.0.2.1:7"
    books.beganAt = BEGAN
    books.rateAsked = 100.0 if parts[0].workload.rate else None
    books.parts = PartsFacts(parts=len(parts), hosts=("192.0.2.1",))

    def intervalEnded(results: Results) -> None:
        if ended is not None:
            ended.append(results.recent)

    assembly = Assembly(books, intervalEnded)
    assembly.expect(requested)
    return assembly


def mixed(data: st.DataObject, lengths: list[int]) -> list[int]:
    """Draw an order in which the parts are heard: each says so many things."""
    turns = [number for number, length in enumerate(lengths) for _ in range(length)]
    return data.draw(st.permutations(turns))


def of(readings: list[int]) -> Latency:
    latency = Latency()
    for reading in readings:
        latency.record(reading)
    return latency


def requireBooks(parts: list[Simulated], assembly: Assembly, ended: list[Latency]) -> None:
    """See that the books of the run are those of all readings of its parts."""
    results = assembly.results
    counted = [reading for part in parts for piece in part.told for reading in piece]
    assert results.response.counts() == of(counted).counts()
    percents = 50.0, 99.0, 99.9
    assert results.response.percentiles(*percents) == of(counted).percentiles(*percents)
    # Whoever ends an interval first, its readings are in the interval with its number.
    expected: list[list[int]] = [[] for _ in range(max(len(part.told) for part in parts))]
    for part in parts:
        for number, piece in enumerate(part.told):
            expected[number] += piece
    assert [each.counts() for each in ended] == [of(each).counts() for each in expected]
    for interval, each in zip(results.intervals, expected, strict=True):
        assert [interval.p50Ns, interval.p99Ns] == of(each).percentiles(50.0, 99.0)
    for before, after in pairwise(results.intervals):
        assert before.endNs < after.endNs == before.endNs + after.lengthNs
    every = [reading for part in parts for piece in part.pieces for reading in piece.readings]
    assert results.verified == len(every)
    assert sum(interval.messages for interval in results.intervals) == len(every)
    assert sum(interval.bytes for interval in results.intervals) == len(every) * SIZE
    assert sum(interval.failures for interval in results.intervals) == results.failed
    assert results.completed + results.failed == results.requested
    assert results.intervals[-1].endNs <= results.elapsedNs


@settings(max_examples=20)
@given(st.data(), st.sampled_from([CLOSED, OPEN]))
def test_the_books_are_those_of_all_readings(data: st.DataObject, workload: Workload) -> None:
    """In whatever order the parts are heard."""
    parts = data.draw(partsOf(workload))
    accounts = [part.accounts() for part in parts]
    ended: list[Latency] = []
    assembly = assemblyOf(parts, ended)
    for number in mixed(data, [*map(len, accounts)]):
        assembly.take(number, accounts[number].pop(0))
    assembly.finish()
    requireBooks(parts, assembly, ended)
    results = assembly.results
    assert results.peakOpen == sum(part.connections for part in parts)
    if workload.rate is not None:
        every = [
            reading for part in parts for piece in part.pieces for reading in piece.readings
        ]
        assert results.serviceTime.counts() == of([each // 2 for each in every]).counts()


@settings(max_examples=20)
@given(st.data(), st.integers(1, 3))
def test_a_warm_up_is_left_out(data: st.DataObject, warmPieces: int) -> None:
    """The parts take back the readings that they have told of."""
    parts = data.draw(partsOf(WARMED, warmPieces))
    accounts = [part.accounts() for part in parts]
    ended: list[Latency] = []
    assembly = assemblyOf(parts, ended)
    for number in mixed(data, [*map(len, accounts)]):
        assembly.take(number, accounts[number].pop(0))
    assembly.finish()
    requireBooks(parts, assembly, ended)


@settings(max_examples=20)
@given(st.data())
def test_a_lost_part_leaves_what_it_has_told(data: st.DataObject) -> None:
    """What it had not completed has failed, and what was out has no answer."""
    parts = data.draw(partsOf(CLOSED))
    accounts = [part.accounts() for part in parts]
    lost = data.draw(st.integers(0, len(parts) - 1))
    heard = data.draw(st.integers(0, len(accounts[lost]) - 1))
    # The assembly changes what it has taken.
    last = deepcopy(accounts[lost][heard - 1]) if heard else None
    del accounts[lost][heard:]
    assembly = assemblyOf(parts)
    for number in mixed(data, [*map(len, accounts)]):
        assembly.take(number, accounts[number].pop(0))
    failure = ConnectionFailure(1 + lost, "192.0.2.1:7", FailureKind.PART_LOST, "gone")
    assembly.lose(lost, failure, 10 * LENGTH)
    # Whatever it says now comes too late.
    assembly.take(lost, {})
    assembly.lose(lost, failure, 11 * LENGTH)
    assembly.finish()
    results = assembly.results
    counts: Counter[str] = Counter() if last is None else Counter(last["counts"])
    failed = 0 if last is None else sum(last["failures"].values())
    expected = parts[lost].connections - counts["completed"] - failed
    assert results.failures[FailureKind.PART_LOST] == expected
    if expected:
        assert results.examples[FailureKind.PART_LOST] == failure
        assert results.latest[FailureKind.PART_LOST][1] == failure
    assert results.sent == results.verified + results.mismatched + results.unanswered
    assert results.completed + results.failed == results.requested
    others = [part for part in parts if part is not parts[lost]]
    kept = [*others, *([parts[lost]] if heard else [])]
    pieces = [part.pieces[:heard] if part is parts[lost] else part.pieces for part in kept]
    told = [reading for each in pieces for piece in each for reading in piece.readings]
    assert results.response.counts() == of(told).counts()
    assert sum(interval.messages for interval in results.intervals) == len(told)
    assert sum(interval.failures for interval in results.intervals) == results.failed
    assert results.open == 0


@pytest.mark.parametrize("workload", [CLOSED, OPEN])
@pytest.mark.parametrize("lost", [False, True])
def test_the_JSON_is_valid_and_can_be_read(workload: Workload, lost: bool) -> None:
    """With what it says of the parts."""
    pieces = [Piece([MS, 2 * MS]), Piece([3 * MS], failing=True), Piece([MS])]
    parts = [Simulated(workload, 3, pieces) for _ in range(2)]
    assembly = assemblyOf(parts)
    heard = 2 if lost else None
    for number, part in enumerate(parts):
        for account in part.accounts()[: heard if number else None]:
            assembly.take(number, account)
    if lost:
        failure = ConnectionFailure(2, "192.0.2.1:7", FailureKind.PART_LOST, "gone")
        assembly.lose(1, failure, 4 * LENGTH)
        assert assembly.results.parts is not None
        assembly.results.parts = replace(assembly.results.parts, lost=1, startSkewNs=5)
    assembly.finish()
    written = json.loads(json.dumps(toJSON(assembly.results, "0")))
    assert fromJSON(validate(written)).parts == assembly.results.parts
    assert written["verdict"] == "failed"


def test_a_lost_part_ends_its_warm_up() -> None:
    """The run is not in its warm-up because of a part that says nothing more."""
    parts = [Simulated(WARMED, 1, [Piece([MS]), Piece([MS])], warmPieces=2)]
    assembly = assemblyOf(parts)
    assembly.take(0, parts[0].accounts()[0])
    assembly.update()
    assert assembly.results.warmingUp
    assembly.lose(0, ConnectionFailure(1, "a", FailureKind.PART_LOST, "gone"), LENGTH)
    assert not assembly.results.warmingUp


def test_a_part_that_is_behind_holds_its_intervals_back() -> None:
    """Until it is heard or lost, nothing is said of them."""
    parts = [Simulated(CLOSED, 1, [Piece([MS]) for _ in range(4)]) for _ in range(2)]
    ahead, behind = (part.accounts() for part in parts)
    ended: list[Latency] = []
    assembly = assemblyOf(parts, ended)
    for account in ahead:
        assembly.take(0, account)
    assert ended == []
    assembly.take(1, behind[0])
    assembly.take(1, behind[1])
    assert len(ended) == 1
    assert assembly.knownNs is not None
    assembly.lose(1, ConnectionFailure(1, "a", FailureKind.PART_LOST, "gone"), 4 * LENGTH)
    assert len(ended) == 4
    assert assembly.knownNs is None


# The grid


def ticksOf(aligned: list[int], endNs: int, late: list[int]) -> list[int]:
    """
    Return when a part's ticks are: they begin anew when the part is aligned.

    @param late: by how much, of each tick in turn.
    """
    ticks: list[int] = []
    begins = [0, *aligned]
    for begin, end in pairwise([*begins, endNs]):
        if begin and begin - (ticks[-1] if ticks else 0) > LENGTH / 20:
            ticks.append(begin + late[len(ticks) % len(late)])
        whole = range(begin + LENGTH, end, LENGTH)
        ticks += [
            tick + late[(len(ticks) + each) % len(late)] for each, tick in enumerate(whole)
        ]
        # The next beginning is noticed late, too.
        ticks = [tick for tick in ticks if tick <= end + late[0]]
    return sorted(ticks)


@given(
    st.lists(st.integers(LENGTH // 2, 5 * LENGTH), max_size=2),
    st.integers(LENGTH, 4 * LENGTH),
    st.lists(st.integers(0, LATE), min_size=1, max_size=5),
)
def test_each_tick_is_near_the_end_of_its_interval(
    later: list[int], rest: int, late: list[int]
) -> None:
    """Also after the beginning of the sending, and after the end of the warm-up."""
    grid, aligned = Grid(LENGTH), []
    at = 0
    for each in later:
        at += each
        aligned.append(at)
        grid.align(at)
    before = 0
    for tick in ticksOf(aligned, at + rest, late):
        number = grid.number(tick)
        assert number >= before
        assert abs(tick - grid.endNs(number)) <= LENGTH / 4
        before = number


@given(st.lists(st.integers(0, 3 * LENGTH), max_size=2), st.integers(1, 8 * LENGTH))
def test_the_ends_are_in_order(later: list[int], ns: int) -> None:
    grid = Grid(LENGTH)
    at = 0
    for each in later:
        at += each
        grid.align(at)
    ends = [grid.endNs(number) for number in range(1, 12)]
    assert ends == sorted(ends)
    assert 1 <= grid.number(ns) <= grid.number(ns + LENGTH)
    assert grid.number(ns) <= ceil(ns / LENGTH) + len(later)


@pytest.mark.parametrize(
    ("ns", "number"),
    [(1, 1), (LENGTH, 1), (LENGTH + LATE, 1), (LENGTH + 2 * LATE, 2), (3 * LENGTH + 1, 3)],
)
def test_without_a_schedule_intervals_begin_with_the_run(ns: int, number: int) -> None:
    assert Grid(LENGTH).number(ns) == number
