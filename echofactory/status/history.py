"""
Samples of the last minutes. This module is pure.
"""

from collections import Counter, deque
from collections.abc import Hashable, Mapping
from typing import Generic, NamedTuple, TypeVar

Levels = Mapping[str, float | None]
"""Values of one moment, by name. C{None}: nothing was measured."""

Totals = Mapping[str, float]
"""Totals, which only grow, by name."""

K = TypeVar("K", bound=Hashable)

_MINUTE_S = 60


class _Sample(NamedTuple):
    atS: float
    figures: dict[str, float | None]


class History:
    """
    Keeps the levels of each sample, and the growth per second of totals.
    """

    def __init__(self, most: int = 300, longestS: float = 300.0) -> None:
        """
        @param most: maximum number of samples. Default: 300.
        @param longestS: maximum age of a sample in seconds, compared with the last one.
            Default: 300. Samples are missing if the process was stopped for some time.
        """
        self._samples: deque[_Sample] = deque(maxlen=most)
        self._longestS = longestS
        self._before: tuple[float, Totals] | None = None

    def begin(self, atS: float, totals: Totals) -> None:
        """
        Begin, or continue after a pause. The growth during the pause is not recorded.

        @param atS: monotonic time in seconds.
        @param totals: the current totals.
        """
        self._before = (atS, totals)

    def record(self, atS: float, levels: Levels, totals: Totals) -> None:
        """
        Take a sample. The first sample is not kept, because a rate needs two.

        @param atS: monotonic time in seconds.
        @param levels: the current levels.
        @param totals: the current totals. Their names differ from those of the levels.
        """
        before = self._before
        self.begin(atS, totals)
        if before is None or atS <= before[0]:
            return
        passedS = atS - before[0]
        # A total is a sum over processes. It shrinks if one of them is gone.
        rates = {
            name: max(0.0, total - before[1].get(name, 0.0)) / passedS
            for name, total in totals.items()
        }
        self._samples.append(_Sample(atS, {**levels, **rates}))
        while self._samples[0].atS < atS - self._longestS:
            self._samples.popleft()

    def points(self, name: str) -> list[tuple[float, float | None]]:
        """
        Return a value over time.

        @return: of each sample, its time in seconds (0 or less, 0 is the last sample), and
            the value.
        """
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
    The growth of counts in the last minute, sampled once a second. Only counts that grew are
    kept, because of thousands of counts few grow.
    """

    def __init__(self) -> None:
        self._before: Mapping[K, int] = {}
        self._growths: deque[tuple[float, dict[K, int]]] = deque(maxlen=_MINUTE_S)

    def begin(self, counts: Mapping[K, int]) -> None:
        """Begin, or continue after a pause. Growth during the pause is not counted."""
        self._before = counts

    def record(self, atS: float, counts: Mapping[K, int]) -> dict[K, int]:
        """
        Take a sample.

        @param atS: monotonic time in seconds.
        @param counts: the current counts. Counts of 0 can be missing.
        @return: the growth since the last sample, of the counts that grew.
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
        """Return the growth of the counts in the last minute. Of other names, it is 0."""
        total: Counter[K] = Counter()
        for _, growth in self._growths:
            total.update(growth)
        return total
