"""
The results of a run, from an untrusted file. The rules:

 - The size of the file, its values, the items of a list and the length of a string have
   a bound, so that memory and time have one.
 - A string is escaped here, once. Nobody who shows it has to.
 - Whatever is wrong with the file, the complaint is one line.
"""

import json
from math import isfinite
from typing import Any

from echofactory.results.books import Results
from echofactory.results.json import fromJSON
from echofactory.values.printable import printable

MOST_BYTES = 64 << 20
"""Bytes of a file: a run of four days, in intervals of a second."""
MOST_VALUES = 4_000_000
"""Values in a file. A value takes up to 100 bytes of memory, a list or an object 400."""
_CONTAINER = 4
"""Values that a list or an object counts as."""
MOST_MEMBERS = 100
"""Members of an object."""
MOST_ITEMS = 10_000
"""Items of a list, except intervals. The steps of a search take a check of 2 ms each."""
MOST_STEPS = 200
LONGEST_TEXT = 1 << 20
"""Characters of a string."""
_MOST_DIGITS = 20
_LONGEST_LINE = 300
"""Characters of a complaint."""


def readResults(content: bytes) -> Results:
    """
    Return the results that the content of a file describes.

    @param content: of a larger file than L{MOST_BYTES}, one byte more is enough.
    @raise ValueError: if the content has no results, or exceeds a bound.
    """
    try:
        return fromJSON(_decoded(content))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        # It may quote what is wrong, which may be long.
        raise ValueError(str(error)[:_LONGEST_LINE]) from error


def _decoded(content: bytes) -> Any:
    if len(content) > MOST_BYTES:
        raise ValueError(f"larger than {MOST_BYTES >> 20} MiB")
    # Before any value is made: each but the first of a list or an object has a comma.
    containers = content.count(b"[") + content.count(b"{")
    if content.count(b",") + _CONTAINER * containers > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values")
    try:
        return json.loads(
            content,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_number,
        )
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not JSON: {error}") from error


def _integer(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:_MOST_DIGITS]} is not a finite number")
    return number


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members) > MOST_MEMBERS:
        raise ValueError(f"an object of more than {MOST_MEMBERS} members")
    made: dict[str, Any] = {}
    for name, value in members:
        shown = _printable(name)
        if shown in made:
            raise ValueError(f"'{shown}' is given twice in one object")
        if isinstance(value, list):
            most = {"intervals": MOST_VALUES, "steps": MOST_STEPS}.get(shown, MOST_ITEMS)
            if len(value) > most:
                raise ValueError(f"{shown}: more than {most:,} items")
        made[shown] = _escaped(value)
    return made


def _escaped(value: Any) -> Any:
    """Return a member's value. Objects within it have been through L{_object}."""
    if isinstance(value, str):
        return _printable(value)
    return [_escaped(each) for each in value] if isinstance(value, list) else value


def _printable(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"a string of {len(text):,} characters")
    return printable(text)
