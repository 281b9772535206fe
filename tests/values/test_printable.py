"""
Untrusted text: what a terminal gets of it.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from echofactory.values.printable import printable

ANY = st.text(st.characters(codec=None, exclude_categories=()))
"""Any text, lone surrogates too."""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("tcp:127.0.0.1:7", "tcp:127.0.0.1:7"),
        (r"tcp6:\:\:1:7", r"tcp6:\:\:1:7"),
        ("unix:/run/ü 漢字", "unix:/run/ü 漢字"),
        ("\x1b[2J\r\n\t\x00", r"\x1b[2J\r\n\t\x00"),
        ("\x9b2J\x85", r"\x9b2J\x85"),
        ("a\u202eb\u2066c\u200f", r"a\u202eb\u2066c\u200f"),
        ("\u2028\ufeff\U000e0041", r"\u2028\ufeff\U000e0041"),
        ("\udcff", r"\udcff"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    """What moves the cursor, turns the writing round or cannot be written is escaped."""
    assert printable(text) == shown


@given(ANY)
def test_any_text(text: str) -> None:
    """It can be shown and written, and another escape changes nothing."""
    shown = printable(text)
    assert shown.isprintable()
    shown.encode("utf-8")
    assert printable(shown) == shown
