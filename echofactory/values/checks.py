"""
Checks of a setting: first the type, then the value. An error message is one line that names
the field, the value and what is accepted.

C{True} and C{False} do not count as numbers. Infinity and NaN are refused.

Each check takes the name of the field, which the message shows, and the value.
"""

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from echofactory.values.quantities import counted

MAX_SECONDS = 1e9
"""Seconds: more than 31 years."""

MAX_RATE = 1e7
"""A second. No process handles as many messages, connections or datagrams."""

MIN_RATE = 1e-6
"""A second: one event in eleven days."""

MAX_SIZE = 1 << 40
"""Bytes: 1 TiB."""

MAX_WHOLE = 10**18
"""The highest number of anything that is counted, and the limit of the JSON."""

_LONGEST = 60
"""Characters of a value in an error message."""


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        # A value of a wrong type can have a repr that fails.
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def checkType(
    field: str, value: object, kind: type | tuple[type, ...], accepted: str | None = None
) -> None:
    """
    @param kind: the accepted type or types.
    @param accepted: the text after "is not"; C{None}: the name of the type.
    @raise TypeError: if the value has another type.
    """
    if not isinstance(value, kind):
        if accepted is None:
            assert isinstance(kind, type)
            accepted = f"of type {kind.__name__}"
        raise TypeError(f"{field}: {_shown(value)} is not {accepted}")


def checkItems(
    field: str, value: object, accepted: str, check: Callable[[str, Any], None]
) -> None:
    """
    @param accepted: a name for the items, in the plural.
    @param check: checks one item. Its arguments are a name for the item, and the item.
    @raise TypeError: if the value is not a sequence, or an item has a wrong type. Strings and
        bytes are refused.
    @raise ValueError: if an item has a wrong value.
    """
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise TypeError(f"{field}: {_shown(value)} is not a sequence of {accepted}")
    for number, item in enumerate(value, 1):
        check(f"{field}: number {number}", item)


def checkNumber(
    field: str, value: object, fits: Callable[[float], bool], accepted: str
) -> None:
    """
    @param fits: returns whether a number is accepted.
    @param accepted: the text after "is not".
    @raise TypeError: if the value is not a number.
    @raise ValueError: if the number is not accepted.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field}: {_shown(value)} is not a number ({accepted})")
    if not fits(value):
        raise ValueError(f"{field}: {_shown(value)} is not {accepted}")


def checkWhole(
    field: str, value: object, least: int = 1, most: int = MAX_WHOLE, unit: str = ""
) -> None:
    """
    @param least: the lowest accepted number.
    @param most: the highest accepted number.
    @param unit: the unit of the bounds, in the singular.
    @raise TypeError: if the value is not a whole number.
    @raise ValueError: if the number is out of range.
    """
    lowest, highest = (counted(n, unit) if unit else f"{n:,}" for n in (least, most))
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field}: {_shown(value)} is not a whole number of {lowest} or more")
    if value < least:
        raise ValueError(f"{field}: {_shown(value)} is not {lowest} or more")
    if value > most:
        raise ValueError(f"{field}: {_shown(value)} is not {highest} or less")


def checkSeconds(field: str, value: object, zero: bool = False) -> None:
    """
    @param zero: whether 0 is accepted.
    @raise TypeError: if the value is not a number.
    @raise ValueError: if the number is not between 0 and L{MAX_SECONDS}.
    """
    least = "0 s or more" if zero else "more than 0 s"
    checkNumber(
        field,
        value,
        lambda seconds: 0 < seconds <= MAX_SECONDS or (zero and seconds == 0),
        f"{least} and at most {MAX_SECONDS:,.0f} s",
    )


def checkRate(field: str, value: object, least: float = MIN_RATE) -> None:
    """
    @param least: the lowest accepted rate.
    @raise TypeError: if the value is not a number.
    @raise ValueError: if the number is not from C{least} to L{MAX_RATE}.
    """
    checkNumber(
        field,
        value,
        lambda rate: least <= rate <= MAX_RATE,
        f"{_plain(least)} or more and at most {MAX_RATE:,.0f} a second",
    )


def _plain(number: float) -> str:
    """Write a number without an exponent: C{0.000001}."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def checkChance(field: str, value: object) -> None:
    """
    @raise TypeError: if the value is not a number.
    @raise ValueError: if the number is not from 0 to 1.
    """
    checkNumber(field, value, lambda chance: 0 <= chance <= 1, "a probability from 0 to 1")


def checkAddress(field: str, value: object) -> None:
    """
    @raise TypeError: if the value is not a string.
    @raise ValueError: if the string is not an IP address.
    """
    accepted = "an IPv4 or IPv6 address"
    checkType(field, value, str, accepted)
    try:
        ip_address(str(value))
    except ValueError:
        raise ValueError(f"{field}: {_shown(value)} is not {accepted}") from None
