"""
The last minutes of something that runs, sampled; pure.
"""

from collections import Counter, deque
from collections.abc import Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

Levels = Mapping[str, float | None]
"""Figures of one moment; C{None}: nothing was measured."""

Totals = Mapping[str, float]
"""Figures that only grow."""

K = TypeVar("K", bound=Hashable)

_MINUTE_S = 60


class _Sample(NamedTuple):
    atS: float
    figures: dict[str, float | None]


class History:
    """
    Keeps levels as they were at each sample, and of totals, which only grow, by how
    much they grew in a second.
    """

    def __init__(self, most: int = 300, longestS: float = 300.0) -> None:
        """
        @param most: samples that are kept.
        @param longestS: how much older than the last one of them may be, in seconds:
            samples may be missing, of a process that was stopped for some time.
        """
        self._samples: deque[_Sample] = deque(maxlen=most)
        self._longestS = longestS
        self._before: tuple[float, Totals] | None = None

    def begin(self, atS: float, totals: Totals) -> None:
        """
        Begin, or go on after a pause, in which nothing was sampled and of which no
        rate is told.
        """
        self._before = (atS, totals)

    def record(self, atS: float, levels: Levels, totals: Totals) -> None:
        """
        Take a sample. Without one before it there is nothing to tell a rate from, and
        nothing is kept.

        @param atS: by a clock that does not jump.
        @param totals: under other names than the levels.
        """
        before = self._before
        self.begin(atS, totals)
        if before is None or atS <= before[0]:
            return
        passedS = atS - before[0]
        # A total that shrank has lost one of those it is summed over.
        rates = {
            name: max(0.0, total - before[1].get(name, 0.0)) / passedS
            for name, total in totals.items()
        }
        self._samples.append(_Sample(atS, {**levels, **rates}))
        while self._samples[0].atS < atS - self._longestS:
            self._samples.popleft()

    def points(self, name: str) -> list[tuple[float, float | None]]:
        """Return a figure over time: seconds since the last sample, 0 or less, and it."""
        if not self._samples:
            return []
        lastS = self._samples[-1].atS
        points: list[tuple[float, float | None]] = []
        for sample in self._samples:
            figure = sample.figures[name]
            shown = None if figure is None else round(figure, 3)
            points.append((round(sample.atS - lastS, 2), shown))
        return points


class LastMinute(Generic[K]):
    """
    By how much counts, which only grow, grew in the last minute. They are sampled once a
    second. Only counts that grew are kept, because of thousands few do.
    """

    def __init__(self) -> None:
        self._before: Mapping[K, int] = {}
        self._growths: deque[tuple[float, dict[K, int]]] = deque(maxlen=_MINUTE_S)

    def begin(self, counts: Mapping[K, int]) -> None:
        """Begin, or go on after a pause; growth during the pause does not count."""
        self._before = counts

    def record(self, atS: float, counts: Mapping[K, int]) -> dict[K, int]:
        """
        Take a sample.

        @param atS: by a clock that does not jump.
        @param counts: counts that are 0 may be missing.
        @return: by how much the counts grew since the sample before, if they did.
        """
        before, self._before = self._before, counts
        growth = {
            name: count - before.get(name, 0)
            for name, count in counts.items()
            if count > before.get(name, 0)
        }
        self._growths.append((atS, growth))
        while self._growths[0][0] <= atS - _MINUTE_S:
            self._growths.popleft()
        return growth

    def total(self) -> Counter[K]:
        """Return by how much the counts grew in the last minute; 0 for those that did not."""
        total: Counter[K] = Counter()
        for _, growth in self._growths:
            total.update(growth)
        return total
