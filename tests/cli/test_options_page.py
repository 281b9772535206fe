"""
The page of all options is what the options say.
"""

import re
from pathlib import Path

from options_page import PROGRAMS, page

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_the_page_is_up_to_date() -> None:
    """It is what the script writes, to the letter."""
    assert PAGE.read_text("utf-8") == page(), (
        "run: python tests/support/options_page.py >docs/options.md"
    )


def test_each_anchor_is_there_once() -> None:
    """The table of a program links to each of its options."""
    text = page()
    for program in PROGRAMS:
        for option in program.options.listed():
            anchor = f"{program.key}-{option.name}"
            assert text.count(f'<a id="{anchor}"></a>') == 1
            assert len(re.findall(rf"\(#{anchor}\)", text)) == 1
