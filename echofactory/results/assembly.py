"""
The books of a run, assembled from the accounts of its parts (L{echofactory.results.account}).

The intervals of the parts lie on one grid: the run's beginning, the beginning of the sending,
the end of the warm-up, and the interval's length. What a part tells of an interval belongs to
the interval of the run in which it ends. A clock that ticks late by up to a quarter of the
length is still on the grid.

An interval of the run is complete if each part has told of a later time, is over, or is lost.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import ceil, inf
from typing import Any

from echofactory.results.account import (
    HISTOGRAMS,
    TIMES,
    Account,
    failureFrom,
    unpacked,
)
from echofactory.results.books import Results
from echofactory.results.connectionfacts import ConnectionFacts
from echofactory.results.failures import ConnectionFailure, FailureKind
from echofactory.results.intervals import Interval
from echofactory.results.latency import Latency
from echofactory.results.merge import SUMMED, weightedMean
from echofactory.results.opencounts import SLOT_NS, OpenTogether
from echofactory.results.path import Datagrams, Kernel

_LATE = 0.25
"""The share of an interval's length by which a tick can be late."""
_SHORT = 0.05
"""The share of an interval's length that does not make an interval of its own. It is that of
L{Ticker.align<echofactory.client.ticker.Ticker.align>}."""


class Grid:
    """
    The ends of the intervals, in nanoseconds since the run's beginning.
    """

    def __init__(self, lengthNs: int) -> None:
        self._lengthNs = lengthNs
        # From when intervals are counted, and how many came before.
        self._begins = [(0, 0)]

    def align(self, ns: int) -> None:
        """
        The interval that goes on ends at C{ns}, after what was aligned before, and the others
        are counted from there.
        """
        begin, before = self._begins[-1]
        pieces = ceil((ns - begin) / self._lengthNs - _SHORT)
        self._begins.append((ns, before + max(1, pieces)))

    def number(self, ns: int) -> int:
        """Return the number of the interval that a tick ends, from 1."""
        length, lateNs = self._lengthNs, self._lengthNs * _LATE
        begin, before = self._begins[0]
        for nextBegin, nextBefore in self._begins[1:]:
            if ns <= nextBegin + lateNs:
                if ns > nextBegin - lateNs:
                    return nextBefore
                most: float = nextBefore
                break
            begin, before = nextBegin, nextBefore
        else:
            most = inf
        return int(min(most, before + max(1, ceil((ns - begin - lateNs) / length))))

    def endNs(self, number: int) -> int:
        """Return when an interval ends."""
        begin, before = next(each for each in reversed(self._begins) if each[1] < number)
        ends = begin + (number - before) * self._lengthNs
        following = (each for each in self._begins if each[1] == number)
        return next(following, (ends, 0))[0]


@dataclass
class _Open:
    """
    An interval of the run that is not complete.

    @ivar lastNs: when the last of the parts' intervals ended.
    """

    lastNs: int = 0
    messages: int = 0
    bytes: int = 0
    failures: int = 0
    response: Latency = field(default_factory=Latency)


def _nothingTold(requested: int) -> Account:
    """
    Return the account of a part that has told none.

    @param requested: the number of its connections.
    """
    return {
        "counts": dict.fromkeys(SUMMED, 0) | {"requested": requested},
        "failures": {},
        "examples": [],
        "latest": [],
        "datagrams": None,
        "times": dict.fromkeys(TIMES, 0),
        "paced": 1.0,
        "missing": 0.0,
        "leastUncounted": None,
        "warmingUp": False,
    }


class _Part:
    """
    What is known of a part.

    @ivar account: the latest account, without histograms.
    @ivar reached: the number of the last interval that it has told of.
    @ivar reachedNs: when that interval ended.
    @ivar over: whether it has told its last account, or is lost.
    """

    def __init__(self, requested: int) -> None:
        self.account = _nothingTold(requested)
        self.reached: float = 0
        self.reachedNs = 0
        self.over = False

    def count(self, name: str) -> int:
        """Return one of the counts that the part has told."""
        return int(self.account["counts"][name])


class Assembly:
    """
    Keeps the books of the run up to date.

    @ivar results: the books of the run.
    @ivar grid: the ends of the intervals.
    """

    def __init__(
        self,
        results: Results,
        intervalEnded: Callable[[Results], None],
    ) -> None:
        """
        @param results: the books of a run that has not begun.
        @param intervalEnded: called when an interval is complete.
        """
        self.results = results
        self.grid = Grid(results.intervalNs)
        self._intervalEnded = intervalEnded
        self._parts: list[_Part] = []
        self._open: dict[int, _Open] = {}
        self._closed = 0
        self._together = OpenTogether(0)
        # What lost parts leave: failures, and messages without an answer.
        self._lost: list[ConnectionFailure] = []

    def expect(self, requested: Sequence[int]) -> None:
        """
        The parts are known.

        @param requested: the number of connections of each.
        """
        self._parts = [_Part(count) for count in requested]
        self._together = OpenTogether(len(requested))

    # What comes from the parts

    def take(self, number: int, account: Account) -> None:
        """Take an account of a part that is not lost."""
        part = self._parts[number]
        if part.over:
            return
        for name in HISTOGRAMS:
            self._change(name, account["histograms"].pop(name), name in account["known"])
        self._together.add(number, account.pop("openCounts"))
        interval = account.pop("interval", None)
        part.account = account
        if interval is not None:
            self._interval(part, interval)
        if "elapsedNs" in account:
            part.over = True
            self.update()
        self._closeIntervals()

    def lose(self, number: int, failure: ConnectionFailure, ns: int) -> None:
        """
        A part is lost. Its connections that are not known to have completed or failed have
        failed, and its messages that are not known to be back are unanswered.

        @param failure: how it was lost.
        @param ns: when that was noticed, in nanoseconds since the run's beginning.
        """
        part = self._parts[number]
        if part.over:
            return
        part.over = True
        account = part.account
        failed = sum(account["failures"].values())
        left = part.count("requested") - part.count("completed") - failed
        counts = account["counts"]
        answered = counts["verified"] + counts["mismatched"]
        account["counts"] = counts | {"unanswered": counts["sent"] - answered, "open": 0}
        account["failures"] = account["failures"] | {str(FailureKind.PART_LOST): max(0, left)}
        account["elapsedNs"] = ns
        account["warmingUp"] = False
        self._lost.append(failure)
        self.results.latest[failure.kind] = (datetime.now(UTC), failure)
        self._together.closed(number, part.reachedNs // SLOT_NS)
        self._intervalOf(ns).failures += max(0, left)
        self.update()
        self._closeIntervals()

    @property
    def knownNs(self) -> int | None:
        """Until when the replies of all parts that are not over are known, in nanoseconds since
        the run's beginning; C{None}: all parts are over."""
        return min((part.reachedNs for part in self._parts if not part.over), default=None)

    def _change(self, name: str, changes: list[list[int]], known: bool) -> None:
        latency = getattr(self.results, name)
        if latency is None and known:
            latency = Latency()
            setattr(self.results, name, latency)
        if latency is not None:
            latency.change(unpacked(changes))

    # Intervals

    def _interval(self, part: _Part, written: dict[str, Any]) -> None:
        endNs = written["endNs"]
        part.reached, part.reachedNs = self._numberOf(endNs), endNs
        interval = self._intervalOf(endNs)
        for name in ("messages", "bytes", "failures"):
            setattr(interval, name, getattr(interval, name) + written[name])
        interval.response.change(unpacked(written["response"]))

    def _numberOf(self, ns: int) -> int:
        return max(self.grid.number(ns), self._closed + 1)

    def _intervalOf(self, ns: int) -> _Open:
        """Return the interval of what ends at C{ns}."""
        interval = self._open.setdefault(self._numberOf(ns), _Open())
        interval.lastNs = max(interval.lastNs, ns)
        return interval

    def _closeIntervals(self) -> None:
        reached = min((inf if part.over else part.reached for part in self._parts), default=0)
        # A part can tell of the same interval twice, if the sending begins in it.
        complete = sorted(number for number in self._open if number < reached)
        if complete:
            self.update()
        for number in complete:
            self._closeInterval(number, self._open.pop(number))

    def _closeInterval(self, number: int, interval: _Open) -> None:
        results = self.results
        before = results.intervals[-1].endNs if results.intervals else 0
        last = all(part.over for part in self._parts) and not self._open
        endNs = self.grid.endNs(number)
        if last:
            endNs = min(endNs, interval.lastNs)
        endNs = max(endNs, before)
        self._closed = number
        self._together.settle(endNs // SLOT_NS)
        results.peakOpen = self._together.peak
        results.recent = interval.response
        p50, p99 = interval.response.percentiles(50.0, 99.0)
        results.intervals.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=sum(part.count("open") for part in self._parts),
                messages=interval.messages,
                bytes=interval.bytes,
                p50Ns=p50,
                p99Ns=p99,
                failures=interval.failures,
            )
        )
        self._intervalEnded(results)

    # The books

    def update(self) -> None:
        """
        Add up the latest accounts. That is done at the end of each interval, because it takes
        time for each part.
        """
        results, parts = self.results, self._parts
        for name in SUMMED:
            if name != "peakOpen":
                setattr(results, name, sum(part.count(name) for part in parts))
        accounts = [part.account for part in parts]
        results.failures = Counter()
        results.examples = {}
        results.datagrams = results.datagrams and Datagrams()
        for account in accounts:
            results.failures.update(
                {FailureKind(kind): n for kind, n in account["failures"].items() if n}
            )
            for each in map(failureFrom, account["examples"]):
                results.examples.setdefault(each.kind, each)
            for at, written in account["latest"]:
                self._latest(datetime.fromisoformat(at), failureFrom(written))
            if account["datagrams"] is not None:
                results.datagrams = results.datagrams or Datagrams()
                results.datagrams.merge(Datagrams(**account["datagrams"]))
        for each in self._lost:
            results.examples.setdefault(each.kind, each)
        self._updateTimes(accounts)
        places = [part.count("requested") - part.count("reconnects") for part in parts]
        results.missing = weightedMean([account["missing"] for account in accounts], places)
        due = [part.count("due") for part in parts]
        results.paced = weightedMean([account["paced"] for account in accounts], due, 1.0)
        least = [account["leastUncounted"] for account in accounts]
        results.leastUncounted = min((ns for ns in least if ns is not None), default=None)
        results.warmingUp = any(account["warmingUp"] for account in accounts)

    def _latest(self, at: datetime, failure: ConnectionFailure) -> None:
        known = self.results.latest.get(failure.kind)
        if known is None or known[0] < at:
            self.results.latest[failure.kind] = (at, failure)

    def _updateTimes(self, accounts: Sequence[Account]) -> None:
        results = self.results
        for name, best in (("firstAt", min), ("lastSentAt", max), ("lastAt", max)):
            known = [each["times"][name] for each in accounts if each["times"][name]]
            setattr(results, name, results.beganAt + best(known) if known else 0)

    def finish(self) -> None:
        """All parts are over: note what is known only then."""
        results = self.results
        self._closeIntervals()
        self._together.settle()
        results.peakOpen = self._together.peak
        results.kernel = Kernel()
        results.connectionFacts = ConnectionFacts()
        for number, part in enumerate(self._parts, 1):
            account = part.account
            results.elapsedNs = max(results.elapsedNs, account.get("elapsedNs", 0))
            if "kernel" not in account:
                continue
            results.kernel.merge(Kernel(**account["kernel"]))
            results.connectionFacts.merge(ConnectionFacts.fromJSON(account["facts"]))
            results.interrupted |= account["interrupted"]
            results.endedEarly |= account["endedEarly"]
            results.warnings += [f"part {number}: {each}" for each in account["warnings"]]
