"""
Writes numbers for people: with a unit and few digits.
"""

from math import floor, log10

DURATION_UNITS_NS = {
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
"""The units of a bound of a latency, in nanoseconds."""
MULTIPLES = {"": 1, "k": 1_000, "M": 1_000_000}
"""What can follow the number of a rate."""

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_MS_NS = 1_000_000
_S_NS = 1_000_000_000


def sizeText(size: float) -> str:
    """Write a number of bytes: C{64 B}, C{1.5 KiB}."""
    unit = 0
    while size >= 1024 and unit < len(_SIZES) - 1:
        size /= 1024
        unit += 1
    return f"{size:,.1f} {_SIZES[unit]}" if unit else f"{size:,.0f} B"


def durationText(ns: float) -> str:
    """
    Write a number of nanoseconds with up to three significant digits: C{250 µs}, C{1.50 ms},
    C{132 ms}, C{2.00 s}. Under 10 µs, one decimal is known.
    """
    if ns < 9_950:
        return f"{ns / 1000:.1f} µs"
    if ns < 999_500:
        return f"{ns / 1000:.0f} µs"
    if ns < 999_500_000:
        return f"{_threeDigits(ns / _MS_NS)} ms"
    return f"{_threeDigits(ns / _S_NS)} s"


def _threeDigits(number: float) -> str:
    """Write a number of 1 or more with three significant digits, or all of a whole number."""
    decimals = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:,.{decimals}f}"


def _small(number: float) -> str:
    """Write a number under 10 with three significant digits: C{9.5}, C{0.0833}."""
    decimals = 2 - floor(log10(number))
    return f"{number:.{decimals}f}".rstrip("0").rstrip(".")


def numberText(number: float) -> str:
    """Write a number: C{1,234}; under 10 with three significant digits, C{0.0833}."""
    return _small(number) if 0 < number < 9.995 else f"{number:,.0f}"


def rateText(perSecond: float) -> str:
    """Write a rate in messages a second: C{1,234 messages/s}."""
    return f"{numberText(perSecond)} messages/s"


def sizeRateText(perSecond: float) -> str:
    """Write a rate in bytes a second: C{1.5 KiB/s}; under 10, C{0.5 B/s}."""
    size = f"{_small(perSecond)} B" if 0 < perSecond < 9.995 else sizeText(perSecond)
    return f"{size}/s"


def percentText(share: float) -> str:
    """Write a share from 0 to 1: C{99.5%}; under 10 % with three digits, C{0.0417%}."""
    percent = 100 * share
    return f"{_small(percent) if 0 < percent < 9.995 else f'{percent:,.1f}'}%"


def counted(count: int, thing: str) -> str:
    """Write a number with a noun whose plural ends in s: C{1 rate}, C{1,000 rates}."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"
