"""
Expectations of a run, such as C{p99<5ms}: their grammar, and the record of one that was judged.

An expectation is C{QUANTITY COMPARISON BOUND}:

 - The quantity is a latency (C{p50}, C{p99.9}, C{min}, C{mean}, C{max}) or one of
   L{COUNTED}. A latency is of the response time. A prefix names another one: C{service:},
   C{connect:} or C{lag:}.
 - The comparison is one of L{COMPARISONS}.
 - The bound has the unit of its quantity. A bound with a sign, such as C{+10%}, is relative:
   it counts from the figure of an earlier run.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction
from operator import ge, gt, le, lt
from typing import Any

from echofactory.values.checks import checkType
from echofactory.values.quantities import DURATION_UNITS_NS, MULTIPLES

COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<=": le, ">=": ge, "<": lt, ">": gt}
"""The comparisons, as they are written."""


class Unit(StrEnum):
    """The unit of a bound and of its figure."""

    NS = "ns"
    """Nanoseconds."""
    COUNT = "count"
    """A whole number of what the quantity counts."""
    PERCENT = "percent"
    """Of requested connections, of sent or scheduled messages, or of the scheduled rate."""
    RATE = "per_s"
    """Messages a second."""


COUNTED = {
    "failed": (Unit.COUNT, Unit.PERCENT),
    "lost": (Unit.COUNT, Unit.PERCENT),
    "reordered": (Unit.COUNT, Unit.PERCENT),
    "rate": (Unit.RATE, Unit.PERCENT),
    "unsent": (Unit.COUNT, Unit.PERCENT),
    "retransmits": (Unit.COUNT,),
}
"""The quantities that are no latencies, and the units that their bounds can have."""

LATENCIES = ("response", "service", "connect", "lag")
"""The prefixes of a latency. Without a prefix, it is the response time."""

QUANTITIES = (
    "pN (p50, p99.9), min, mean and max, also with service:, connect: or lag: before them,"
    f" {', '.join([*COUNTED][:-1])} and {[*COUNTED][-1]}"
)
"""The quantities, in words."""

_EXPECTATION = re.compile(r"([a-z][a-z0-9.:]*) *(<=|>=|<|>) *(.*)", re.ASCII)
_LATENCY = re.compile(r"(?:(\w+):)?(min|mean|max|p(\d{1,3}(?:\.\d{1,6})?))", re.ASCII)
_BOUND = re.compile(r"([+-]?)(\d{1,15}(?:\.\d{1,9})?) *([a-zA-Zµ%]*)", re.ASCII)
_LONGEST = 60
_EXAMPLES = {
    Unit.COUNT: "10",
    Unit.PERCENT: "0.1%",
    Unit.RATE: "20k",
    Unit.NS: "5ms",
}


@dataclass(frozen=True)
class Expectation:
    """
    An expectation. Its text is all that it is made of; the other fields follow from it.

    @ivar text: the expectation as the user wrote it, such as C{p99<5ms}.
    @ivar quantity: what is compared, such as C{p99} or C{connect:max}.
    @ivar comparison: one of L{COMPARISONS}.
    @ivar bound: what the figure is compared with, in the unit. If the expectation is relative,
        the percentage by which the bound differs from the first run's figure.
    @ivar unit: the unit of the bound and of the figure. If the expectation is relative, it is
        the unit of the figure.
    @ivar relative: whether the bound counts from the figure of an earlier run.
    @ivar shown: the expectation for a report: C{p99 < 5 ms}.
    @raise TypeError: from the constructor, if the text is not a string.
    @raise ValueError: from the constructor, naming the text and what is accepted.
    """

    text: str
    quantity: str = field(init=False)
    comparison: str = field(init=False)
    bound: float = field(init=False)
    unit: Unit = field(init=False)
    relative: bool = field(init=False)
    shown: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checkType("text", self.text, str)
        try:
            for name, value in _parsed(self.text).items():
                object.__setattr__(self, name, value)
        except ValueError as error:
            shown = self.text if len(self.text) <= _LONGEST else f"{self.text[:_LONGEST]}..."
            raise ValueError(f"text: {shown!r} is {error}") from None

    @property
    def latency(self) -> str | None:
        """One of L{LATENCIES}; C{None}: the quantity is not a latency."""
        if self.quantity in COUNTED:
            return None
        prefix, colon, _ = self.quantity.partition(":")
        return prefix if colon else LATENCIES[0]

    @property
    def statistic(self) -> str:
        """The quantity without its prefix: C{p99}."""
        return self.quantity.rpartition(":")[2]

    @property
    def percent(self) -> float | None:
        """The percentile, from 0 to 100; C{None}: the quantity is not a percentile."""
        if self.statistic == "max":
            return 100.0
        matched = _LATENCY.fullmatch(self.quantity)
        return float(matched[3]) if matched is not None and matched[3] else None

    def boundFrom(self, first: float) -> float:
        """
        Return the bound of a relative expectation.

        @param first: the figure of the first run.
        """
        share = (100 + Fraction(str(self.bound))) / 100
        return _number(Fraction(first) * share)


def _number(exact: Fraction) -> float:
    return int(exact) if exact.denominator == 1 else float(exact)


def _units(quantity: str) -> tuple[Unit, ...]:
    """
    Return the units that the bound of a quantity can have.

    @raise ValueError: if there is no such quantity. The text follows "is".
    """
    if quantity in COUNTED:
        return COUNTED[quantity]
    matched = _LATENCY.fullmatch(quantity)
    if matched is None or (matched[1] or LATENCIES[0]) not in LATENCIES:
        raise ValueError(f"not about a quantity of a run. The quantities are {QUANTITIES}")
    if matched[3] and float(matched[3]) > 100:
        raise ValueError("not about a percentile from p0 to p100")
    return (Unit.NS,)


def _parsed(text: str) -> dict[str, Any]:
    """
    Return the fields of an expectation.

    @raise ValueError: if the text is not one. The message follows "is".
    """
    matched = _EXPECTATION.fullmatch(text)
    if matched is None:
        raise ValueError(
            "not an expectation such as p99<5ms, failed<0.1% or rate>=990. The comparisons are"
            f" <, <=, > and >=. The quantities are {QUANTITIES}"
        )
    quantity, comparison, written = matched.groups()
    units = _units(quantity)
    # A user may write the Greek letter instead of the micro sign.
    bounded = _BOUND.fullmatch(written.replace("\N{GREEK SMALL LETTER MU}", "µ"))
    found = None
    if bounded is not None:
        sign, number, unit = bounded.groups()
        found = _bound(Fraction(sign + number), unit, units, bool(sign))
    if bounded is None or found is None:
        examples = [f"{quantity}{comparison}{_EXAMPLES[unit]}" for unit in units]
        said = " or ".join(examples)
        if bounded is not None and (sign or unit == "%"):
            sign = sign or ("+" if "<" in comparison else "-")
            fits = unit == "%" and (sign == "+" or float(number) <= 100)
            percent = f"{sign}{number if fits else 10}%"
            said += f"; to compare with an earlier run, {quantity}{comparison}{percent}"
        if units == (Unit.NS,):
            said += f". The units are {', '.join(DURATION_UNITS_NS)}"
        raise ValueError(f"an expectation with a wrong bound: give one such as {said}")
    bound, kind = found
    if comparison == "<" and bound <= (-100 if sign else 0):
        raise ValueError("never met: no figure is less than 0")
    spaced = unit if unit in ("%", "k", "M") else f" {unit}".rstrip()
    return {
        "quantity": quantity,
        "comparison": comparison,
        "bound": bound,
        "unit": kind,
        "relative": bool(sign),
        "shown": f"{quantity} {comparison} {sign}{number}{spaced}",
    }


def _bound(
    number: Fraction, unit: str, units: tuple[Unit, ...], relative: bool
) -> tuple[float, Unit] | None:
    """Return the bound and its unit; C{None}: the bound does not fit the units."""
    if relative:
        return (_number(number), units[0]) if unit == "%" and number >= -100 else None
    if unit == "%" and Unit.PERCENT in units:
        return _number(number), Unit.PERCENT
    if unit in DURATION_UNITS_NS and Unit.NS in units:
        return _number(number * DURATION_UNITS_NS[unit]), Unit.NS
    if unit in MULTIPLES:
        if Unit.RATE in units:
            return _number(number * MULTIPLES[unit]), Unit.RATE
        if Unit.COUNT in units and number.denominator == 1 and not unit:
            return _number(number), Unit.COUNT
    return None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """
    An expectation, and whether a run met it.

    @ivar expectation: the expectation.
    @ivar bound: what the figure was compared with, in the expectation's unit; C{None}: the
        expectation is relative, and the first run does not have the figure.
    @ivar value: the figure of the run, in the expectation's unit; C{None}: the run does not
        have it, and does not meet the expectation.
    @ivar reason: why there is no value or no bound; C{None}: there are both.
    @ivar withinNoise: whether the expectation is relative, and the difference from the first
        run is not more than a run varies. Then it is met. The JSON does not have this field.
    """

    expectation: Expectation
    bound: float | None
    value: float | None
    reason: str | None = None
    withinNoise: bool = False

    @property
    def met(self) -> bool:
        """Whether the run met the expectation."""
        if self.value is None or self.bound is None:
            return False
        return self.withinNoise or self.withinBound

    @property
    def withinBound(self) -> bool:
        """Whether the figure of the run meets the bound, whatever noise there is."""
        if self.value is None or self.bound is None:
            return False
        return COMPARISONS[self.expectation.comparison](self.value, self.bound)

    def asJSON(self) -> dict[str, object]:
        """Return an item of the JSON's C{expectations}."""
        expectation = self.expectation
        return {
            "text": expectation.text,
            "quantity": expectation.quantity,
            "comparison": expectation.comparison,
            "bound": self.bound,
            "unit": str(expectation.unit),
            "value": self.value,
            "met": self.met,
            "reason": self.reason,
        }

    @classmethod
    def fromJSON(cls, written: dict[str, Any]) -> "Judgement":
        """
        Return what L{asJSON} wrote.

        @raise ValueError: if the fields contradict the text or each other.
        """
        expectation = Expectation(written["text"])
        if expectation.relative:
            raise ValueError(f"text: {expectation.text!r} is relative to another run")
        judgement = cls(
            expectation=expectation,
            bound=expectation.bound,
            value=written["value"],
            reason=written["reason"],
        )
        for name, value in judgement.asJSON().items():
            if written[name] != value:
                raise ValueError(f"{name}: it contradicts {expectation.text!r}")
        if (judgement.value is None) != (judgement.reason is not None):
            raise ValueError("reason: it contradicts the value")
        return judgement
