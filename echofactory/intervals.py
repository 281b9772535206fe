"""
A run, piece by piece.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Interval:
    """
    A piece of a run.

    @ivar endNs: when it ended, in nanoseconds from the run's beginning.
    @ivar lengthNs: how long it was.
    @ivar open: connections, at its end.
    @ivar messages: verified in it.
    @ivar bytes: received in it.
    @ivar p50Ns: of the response times in it; C{None} if there were none, or they
        are not known.
    @ivar p99Ns: the same.
    @ivar failures: connections that failed in it.
    """

    endNs: int
    lengthNs: int
    open: int
    messages: int
    bytes: int
    p50Ns: int | None
    p99Ns: int | None
    failures: int

    @property
    def perSecond(self) -> float:
        """Messages a second."""
        return self.messages / (self.lengthNs / 1e9)

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{intervals}."""
        return {
            "t_s": self.endNs / 1e9,
            "open": self.open,
            "messages": self.messages,
            "bytes": self.bytes,
            "p50_ns": self.p50Ns,
            "p99_ns": self.p99Ns,
            "failures": self.failures,
        }


def intervalsFromJSON(written: Sequence[dict[str, Any]]) -> list[Interval]:
    """Return what C{asJSON} of each wrote."""
    intervals = []
    before = 0
    for item in written:
        endNs = round(item["t_s"] * 1e9)
        intervals.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=item["open"],
                messages=item["messages"],
                bytes=item["bytes"],
                p50Ns=item["p50_ns"],
                p99Ns=item["p99_ns"],
                failures=item["failures"],
            )
        )
        before = endNs
    return intervals


def mergedIntervals(runs: Sequence[tuple[int, Sequence[Interval]]]) -> list[Interval]:
    """
    Return the pieces of several runs as those of one, of the length of the
    longest. Each piece counts where it ends. What the percentiles of several are
    together is not known.

    @param runs: for each, how many nanoseconds after the first it began, and its
        intervals.
    """
    lengthNs = max((piece.lengthNs for _, pieces in runs for piece in pieces), default=0)
    whole: list[Interval] = []
    last = max((begin + pieces[-1].endNs for begin, pieces in runs if pieces), default=0)
    open_ = [0] * len(runs)
    waiting = [list(reversed(pieces)) for _, pieces in runs]
    before = 0
    while before < last:
        endNs = min(before + lengthNs, last)
        inside: list[Interval] = []
        for number, (begin, _) in enumerate(runs):
            while waiting[number] and begin + waiting[number][-1].endNs <= endNs:
                inside.append(waiting[number].pop())
                open_[number] = inside[-1].open
        known = inside[0] if len(inside) == 1 else None
        whole.append(
            Interval(
                endNs=endNs,
                lengthNs=endNs - before,
                open=sum(open_),
                messages=sum(piece.messages for piece in inside),
                bytes=sum(piece.bytes for piece in inside),
                p50Ns=known.p50Ns if known else None,
                p99Ns=known.p99Ns if known else None,
                failures=sum(piece.failures for piece in inside),
            )
        )
        before = endNs
    return whole
