"""
The description of the parts of a distributed run in the results.
"""

from dataclasses import dataclass
from typing import Any

from echofactory.values.quantities import counted, durationText


@dataclass(frozen=True, kw_only=True)
class PartsFacts:
    """The C{parts} object of the JSON."""

    parts: int
    """The number of parts."""
    hosts: tuple[str, ...]
    """The machines on which they ran, each once."""
    lost: int = 0
    """The number of parts that were lost."""
    startSkewNs: int | None = None
    """Nanoseconds from when the first part began to when the last one did; C{None}: none
    began. Each is measured on the clock of its machine."""
    longestHoldNs: int | None = None
    """Nanoseconds: the longest time for which a part did nothing else: it was in a callback, or
    had no core; C{None}: not known."""
    clockErrorNs: int = 0
    """Nanoseconds: the clocks of the machines differ from what was measured by this at most."""

    def asJSON(self) -> dict[str, object]:
        """Return the object."""
        return {
            "parts": self.parts,
            "hosts": [*self.hosts],
            "lost": self.lost,
            "start_skew_ns": self.startSkewNs,
            "longest_hold_ns": self.longestHoldNs,
            "clock_error_ns": self.clockErrorNs,
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "PartsFacts":
        """Return what L{asJSON} wrote."""
        return cls(
            parts=written["parts"],
            hosts=tuple(written["hosts"]),
            lost=written["lost"],
            startSkewNs=written["start_skew_ns"],
            longestHoldNs=written["longest_hold_ns"],
            clockErrorNs=written["clock_error_ns"],
        )

    @property
    def text(self) -> str:
        """The parts for people."""
        where = self.hosts[0] if len(self.hosts) == 1 else counted(len(self.hosts), "host")
        texts = [f"{counted(self.parts, 'part')} on {where}"]
        if self.lost:
            texts.append(f"{self.lost:,} lost")
        if self.startSkewNs is not None:
            skew = f"began within {durationText(self.startSkewNs)}"
            if self.clockErrorNs:
                skew += f" ± {durationText(self.clockErrorNs)}"
            texts.append(skew)
        if self.longestHoldNs is not None:
            texts.append(f"longest hold of a reactor {durationText(self.longestHoldNs)}")
        return "; ".join(texts)
