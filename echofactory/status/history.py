"""
The last minutes of something that runs, sampled; pure.
"""

from collections import deque
from collections.abc import Mapping
from typing import NamedTuple

Figures = Mapping[str, float]


class _Sample(NamedTuple):
    atS: float
    figures: dict[str, float]


class History:
    """
    Keeps levels as they were at each sample, and of totals, which only grow, by how
    much they grew in a second.

    @ivar taken: how many samples there were, those that are no longer kept too.
    """

    def __init__(self, most: int = 300, longestS: float = 300.0) -> None:
        """
        @param most: samples that are kept.
        @param longestS: how much older than the last one of them may be, in seconds:
            samples may be missing, of a process that was stopped for some time.
        """
        self.taken = 0
        self._samples: deque[_Sample] = deque(maxlen=most)
        self._longestS = longestS
        self._before: tuple[float, Figures] | None = None

    def begin(self, atS: float, totals: Figures) -> None:
        """
        Begin, or go on after a pause, in which nothing was sampled and of which no
        rate is told.
        """
        self._before = (atS, totals)
        self.taken += 1

    def record(self, atS: float, levels: Figures, totals: Figures) -> None:
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

    def last(self, name: str) -> float | None:
        """Return a figure of the last sample; C{None} before there is one."""
        return self._samples[-1].figures[name] if self._samples else None

    def points(self, name: str) -> list[tuple[float, float]]:
        """Return a figure over time: seconds since the last sample, 0 or less, and it."""
        if not self._samples:
            return []
        lastS = self._samples[-1].atS
        return [
            (round(sample.atS - lastS, 2), round(sample.figures[name], 3))
            for sample in self._samples
        ]
