"""
The page of the JSON is what the schema says.
"""

from documents import ROOT
from schema_page import page, typeOf


def test_the_page_is_up_to_date() -> None:
    """It is what the script writes, to the letter. So each field has a description."""
    assert (ROOT / "docs" / "schema.md").read_text("utf-8") == page(), (
        "run: python tests/support/schema_page.py >docs/schema.md"
    )


def test_types() -> None:
    """A bound is written as people write it, and a link leads to the fields of an object."""
    assert typeOf({"type": "integer", "minimum": 0, "maximum": 63}, "a") == (
        "whole number from 0 to 63"
    )
    assert typeOf(
        {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1e28}, "a"
    ) == ("number from above 0 to 10²⁸ or null")
    assert typeOf({"type": "object", "properties": {"x": {}}}, "rate.schedule") == (
        "[object](#rateschedule)"
    )
    assert typeOf({"anyOf": [{"$ref": "#/$defs/count"}, {"type": "null"}]}, "a") == (
        "count or null"
    )
