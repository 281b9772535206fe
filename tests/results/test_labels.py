"""
The titles and labels of several runs.
"""

from echofactory.results.labels import (
    MAX_LABELS,
    MAX_TEXT_LENGTH,
    differingLabels,
    labelsTogether,
    together,
)


def test_texts_together() -> None:
    """Each once, in order; a text that is too long is cut."""
    assert together(["b", "", "a", "b"]) == "b, a"
    assert together(["", ""]) == ""
    cut = together(["x" * MAX_TEXT_LENGTH, "y"])
    assert cut == "x" * (MAX_TEXT_LENGTH - 1) + "…"
    assert together(["x" * MAX_TEXT_LENGTH]) == "x" * MAX_TEXT_LENGTH


def test_labels_together() -> None:
    """A key has the values of all runs that have it."""
    runs = [{"host": "a", "build": "7"}, {"host": "b", "build": "7", "only": "x"}]
    assert labelsTogether(runs) == {"host": "a, b", "build": "7", "only": "x"}
    many = [{f"k{number}": "v" for number in range(MAX_LABELS)}, {"more": "v"}]
    assert labelsTogether(many) == many[0]


def test_labels_that_differ() -> None:
    """Those that not all runs have with one value."""
    runs = [{"host": "a", "build": "7"}, {"host": "b", "build": "7", "only": "x"}]
    assert differingLabels(runs) == [{"host": "a"}, {"host": "b", "only": "x"}]
    assert differingLabels([{}, {}]) == [{}, {}]
