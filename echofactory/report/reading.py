"""
Reads the results of a run from an untrusted file. The rules:

 - Memory and time are bounded: the size of the file, the number of values, the items of a
   list and the length of a string have limits.
 - Every string is escaped here, and nowhere else.
 - Every error message is one line.

Of lines of JSON (L{jsonlines<echofactory.report.jsonlines>}), the last one has the results.
"""

import json
import re
from math import isfinite
from typing import Any

from echofactory.results.books import Results
from echofactory.results.json import fromJSON
from echofactory.values.printable import printable

MAX_FILE_SIZE = 64 << 20
"""Maximum size of a file in bytes: enough for 4 days in intervals of 1 s."""
MAX_VALUES = 4_000_000
"""Maximum number of values in a file. A value takes up to 100 bytes of memory, a list or an
object 400."""
_CONTAINER = 4
"""The number of values that a list or an object counts as."""
MAX_MEMBERS = 100
"""Maximum number of members of an object."""
MAX_ITEMS = 10_000
"""Maximum number of items of a list, except intervals and steps."""
MAX_STEPS = 200
"""Maximum number of steps of a search. The check of a step takes 2 ms."""
MAX_EXPECTATIONS = 1_000
"""Maximum number of expectations."""
MAX_STRING_LENGTH = 1 << 20
"""Maximum length of a string in characters."""
_MOST_ITEMS = {
    "intervals": MAX_VALUES,
    "steps": MAX_STEPS,
    "expectations": MAX_EXPECTATIONS,
}
_MAX_DIGITS = 20
_MAX_MESSAGE_LENGTH = 300
"""Maximum length of an error message in characters."""


def readResults(content: bytes) -> Results:
    """
    Return the results in a file.

    @param content: the content of the file. If the file is larger than L{MAX_FILE_SIZE}, its
        first C{MAX_FILE_SIZE + 1} bytes are enough.
    @raise ValueError: if the content is not the results of a run, or exceeds a limit.
    """
    try:
        if len(content) <= MAX_FILE_SIZE and _LINES.match(content):
            return fromJSON(_ofLastLine(content))
        return fromJSON(_decoded(content))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError as error:
        # The message can quote a long value.
        raise ValueError(str(error)[:_MAX_MESSAGE_LENGTH]) from error


_LINES = re.compile(rb'\s*\{\s*"type"\s*:')
"""The beginning of a file of lines. The results of C{--json} have no type."""


def _ofLastLine(content: bytes) -> Any:
    """
    Return the results of lines of JSON.

    @raise ValueError: if the run has not ended, or the line exceeds a limit.
    """
    last = _decoded(content.rstrip().rpartition(b"\n")[2])
    if not isinstance(last, dict) or last.pop("type", None) != "results":
        raise ValueError("the last line has no results: the run has not ended")
    return last


def _decoded(content: bytes) -> Any:
    if len(content) > MAX_FILE_SIZE:
        raise ValueError(f"larger than {MAX_FILE_SIZE >> 20} MiB")
    # Before json makes any value: a comma precedes each one except the first of a list.
    containers = content.count(b"[") + content.count(b"{")
    if content.count(b",") + _CONTAINER * containers > MAX_VALUES:
        raise ValueError(f"more than {MAX_VALUES:,} values")
    try:
        return json.loads(
            content,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_number,
            parse_constant=_number,
        )
    except json.JSONDecodeError as error:
        place = f"line {error.lineno:,}, column {error.colno:,}"
        said = (
            f"not JSON, from {place}" if content.strip() else "empty: no results were written"
        )
        raise ValueError(said) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"not JSON: byte {error.start + 1:,} is not UTF-8") from error


def _integer(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a number of {len(text):,} digits")
    return int(text)


def _number(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise ValueError(f"{text[:_MAX_DIGITS]} is not a finite number")
    return number


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(members) > MAX_MEMBERS:
        raise ValueError(f"an object of more than {MAX_MEMBERS} members")
    made: dict[str, Any] = {}
    for name, value in members:
        shown = _printable(name)
        if shown in made:
            raise ValueError(f"'{shown}' is given twice in one object")
        if isinstance(value, list):
            most = _MOST_ITEMS.get(shown, MAX_ITEMS)
            if len(value) > most:
                raise ValueError(f"{shown}: more than {most:,} items")
        made[shown] = _escaped(value)
    return made


def _escaped(value: Any) -> Any:
    """Return the value of a member, escaped. L{_object} has escaped the objects in it."""
    if isinstance(value, str):
        return _printable(value)
    return [_escaped(each) for each in value] if isinstance(value, list) else value


def _printable(text: str) -> str:
    if len(text) > MAX_STRING_LENGTH:
        raise ValueError(f"a string of {len(text):,} characters")
    return printable(text)
