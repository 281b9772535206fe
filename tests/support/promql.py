"""
What a PromQL expression names: its metrics, their labels, and the labels' values.

It reads what the dashboard and the alerts need. L{checkExpression} compares them with what the
programs serve, as C{metrics_page} collects it.
"""

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from metrics_page import sections

TARGET_LABELS = {"instance", "job"}
"""Labels that Prometheus adds to each sample."""

OWN_METRICS = {"up"}
"""Metrics that Prometheus makes itself."""

_WORDS = {
    "and", "bool", "by", "group_left", "group_right", "ignoring", "offset", "on", "or",
    "unless", "without",
}  # fmt: skip
_TOKEN = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*")|(?P<range>\[[^]]*\])|(?P<name>[A-Za-z_:][\w:]*)"""
    r"""|(?P<sign>=~|!~|!=|==|[{}(),=])|(?P<other>\d[\w.]*|[-+*/<>%^]=?|\s+)"""
)
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}


class Matcher(NamedTuple):
    """
    A label of a selector, such as C{limit!="fault"}.

    @ivar values: the values that it names; a regular expression is split at its bars.
    """

    label: str
    values: tuple[str, ...]


class Selector(NamedTuple):
    """A metric of an expression, with its matchers."""

    metric: str
    matchers: tuple[Matcher, ...]


def _tokens(expression: str) -> Iterator[tuple[str, str]]:
    """
    @raise ValueError: there is something that this module does not know.
    """
    at = 0
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        if found is None:
            raise ValueError(f"{expression!r}: at {expression[at:]!r}")
        at = found.end()
        if found.lastgroup in ("text", "name", "sign"):
            yield found.lastgroup, found[0]
    yield "end", ""


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[Matcher]:
    """Return what is within braces."""
    for (_, label), (_, sign), (kind, text) in zip(
        tokens, tokens[1:], tokens[2:], strict=False
    ):
        if kind == "text":
            value = text[1:-1]
            yield Matcher(label, tuple(value.split("|")) if "~" in sign else (value,))


def parsed(expression: str) -> tuple[list[Selector], set[str]]:
    """
    Return the selectors of an expression, and the labels that it groups by or joins on.

    @raise ValueError: the expression has a token that PromQL does not have.
    """
    tokens = list(_tokens(expression))
    selectors = []
    groupings = set[str]()
    at = 0
    while at < len(tokens):
        kind, name = tokens[at]
        after = tokens[at + 1][1] if kind != "end" else ""
        at += 1
        if kind != "name":
            continue
        if name in _GROUPING:
            end = tokens.index(("sign", ")"), at) if after == "(" else at
            groupings |= {label for each, label in tokens[at:end] if each == "name"}
            at = end
        elif name not in _WORDS and after not in ("(", "by", "without"):
            within = list[Matcher]()
            if after == "{":
                end = tokens.index(("sign", "}"), at)
                within = list(_matchers(tokens[at + 1 : end]))
                at = end
            selectors.append(Selector(name, tuple(within)))
    return selectors, groupings


def served() -> dict[str, dict[str, set[str]]]:
    """Return the labels of each sample that a program serves, and the values of each label."""
    known = dict[str, dict[str, set[str]]]()
    for metric in (metric for section in sections() for metric in section.metrics):
        for sample in metric.samples:
            labels = known.setdefault(sample.name, {})
            for label, value in sample.labels.items():
                labels.setdefault(label, set()).add(value)
    return known


def checkExpression(expression: str, more: Iterable[str] = ()) -> set[str]:
    """
    Return the metrics of an expression.

    @param more: labels that a legend or an annotation names.
    @raise AssertionError: a metric, a label or a label's value is not there.
    """
    known = served()
    selectors, groupings = parsed(expression)
    assert selectors, expression
    labels = set(TARGET_LABELS)
    for metric, matchers in selectors:
        assert metric in known or metric in OWN_METRICS, f"{metric} in {expression}"
        own = known.get(metric, {})
        labels |= set(own)
        for label, values in matchers:
            if label not in TARGET_LABELS:
                assert label in own, f"{metric} has no label {label}"
                assert set(values) <= own[label], f"{label} of {metric}: {values}"
    assert groupings <= labels, f"{groupings - labels} in {expression}"
    assert set(more) <= labels, f"{set(more) - labels} for {expression}"
    return {metric for metric, _ in selectors}
