"""
The page of all options is what the options say.
"""

from pathlib import Path

from options_page import ARGUMENTS, PROGRAMS, options, page

PAGE = Path(__file__).parents[2] / "docs" / "options.md"


def test_the_page_is_up_to_date() -> None:
    """It is what the script writes, to the letter."""
    assert PAGE.read_text("utf-8") == page(), (
        "run: python tests/support/options_page.py >docs/options.md"
    )


def test_each_argument_is_an_options() -> None:
    """No option that is gone leaves the name of its argument behind."""
    found = {option.name for program in PROGRAMS for option in options(program)}
    assert ARGUMENTS.keys() <= found
