"""
Checks of a setting when it is built: its type, then its value. A mistake is one line that
names the field, the value and what is accepted.

C{True} and C{False} are no numbers here. No setting is infinite, or not a number.
"""

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Any

from echofactory.values.quantities import counted

MAX_SECONDS = 1e9
"""Seconds: more than 31 years."""

MAX_RATE = 1e7
"""A second: more messages, connections or datagrams than any process here handles."""

MIN_RATE = 1e-6
"""A second: one in eleven days."""

MAX_SIZE = 1 << 40
"""Bytes: 1 TiB."""

MAX_WHOLE = 10**18
"""Of what is counted: the JSON has no more."""

_LONGEST = 60
"""Characters of a value in a message."""


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:
        # Of a value of a wrong type, even that can fail.
        text = f"a {type(value).__name__}"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def checkType(
    field: str, value: object, kind: type | tuple[type, ...], accepted: str | None = None
) -> None:
    """
    @param accepted: names what is accepted; C{None}: the name of the type.
    @raise TypeError: if the value is of another type.
    """
    if not isinstance(value, kind):
        if accepted is None:
            assert isinstance(kind, type)
            accepted = f"of the type {kind.__name__}"
        raise TypeError(f"{field}: {_shown(value)} is not {accepted}")


def checkItems(
    field: str, value: object, accepted: str, check: Callable[[str, Any], None]
) -> None:
    """
    @param accepted: names the items, in the plural.
    @param check: checks one, of which the name comes first.
    @raise TypeError: if the value is no sequence, or an item is of a wrong type. A string
        and bytes, which are sequences of themselves, are refused.
    @raise ValueError: if an item is wrong otherwise.
    """
    if isinstance(value, str | bytes | bytearray) or not isinstance(value, Sequence):
        raise TypeError(f"{field}: {_shown(value)} is not a sequence of {accepted}")
    for number, item in enumerate(value, 1):
        check(f"{field}: number {number}", item)


def checkNumber(
    field: str, value: object, fits: Callable[[float], bool], accepted: str
) -> None:
    """
    @param fits: tells whether a number is accepted.
    @param accepted: names the numbers, after "is not".
    @raise TypeError: if the value is no number.
    @raise ValueError: if it is one that is not accepted.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{field}: {_shown(value)} is not a number ({accepted})")
    if not fits(value):
        raise ValueError(f"{field}: {_shown(value)} is not {accepted}")


def checkWhole(
    field: str, value: object, least: int = 1, most: int = MAX_WHOLE, unit: str = ""
) -> None:
    """
    @param unit: of the bounds, in the singular.
    @raise TypeError: if the value is no whole number.
    @raise ValueError: if it is not within the bounds.
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
    @raise TypeError: if the value is no number.
    @raise ValueError: if it is not within 0 and L{MAX_SECONDS}.
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
    @raise TypeError: if the value is no number.
    @raise ValueError: if it is not within C{least} and L{MAX_RATE}.
    """
    checkNumber(
        field,
        value,
        lambda rate: least <= rate <= MAX_RATE,
        f"{least:g} or more and at most {MAX_RATE:,.0f} a second",
    )


def checkChance(field: str, value: object) -> None:
    """
    @raise TypeError: if the value is no number.
    @raise ValueError: if it is not from 0 to 1.
    """
    checkNumber(field, value, lambda chance: 0 <= chance <= 1, "a chance from 0 to 1")


def checkAddress(field: str, value: object) -> None:
    """
    @raise TypeError: if the value is no text.
    @raise ValueError: if it is not that of an IP address.
    """
    accepted = "an IPv4 or IPv6 address"
    checkType(field, value, str, accepted)
    try:
        ip_address(str(value))
    except ValueError:
        raise ValueError(f"{field}: {_shown(value)} is not {accepted}") from None
