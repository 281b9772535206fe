"""
The reader of PromQL, which checks the dashboard and the alerts, finds what is wrong.
"""

import pytest
from promql import Matcher, Selector, checkExpression, parsed

GOOD = (
    "sum by (instance, limit) (rate(echofactory_connections_refused_total"
    '{limit!~"fault|host", instance=~"$server"}[5m])) > 0.5e3'
)


def test_what_an_expression_names() -> None:
    """Functions, words, ranges and numbers are no metrics."""
    selectors, groupings = parsed(f"{GOOD} and on (job) a:b == 1 or time() - c offset 5m")
    refused = "echofactory_connections_refused_total"
    assert selectors[0] == Selector(
        refused, (Matcher("limit", ("fault", "host")), Matcher("instance", ("$server",)))
    )
    assert [selector.metric for selector in selectors] == [refused, "a:b", "c"]
    assert groupings == {"instance", "limit", "job"}


def test_an_expression_that_is_right() -> None:
    """Its metrics are returned."""
    assert checkExpression(GOOD, ["limit"]) == {"echofactory_connections_refused_total"}


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD.replace("refused_total", "refused"),
        GOOD.replace("limit!~", "reason!~"),
        GOOD.replace("fault", "faults"),
        GOOD.replace("limit)", "how)"),
        "1 + 1",
    ],
)
def test_an_expression_that_is_wrong(wrong: str) -> None:
    """A metric, a label, a value, a label of a grouping, and no metric at all."""
    with pytest.raises(AssertionError):
        checkExpression(wrong)


def test_a_legend_with_a_label_that_is_not_there() -> None:
    """The labels of the metrics are what a legend can name."""
    with pytest.raises(AssertionError, match="how"):
        checkExpression(GOOD, ["how"])


def test_something_that_is_not_promql() -> None:
    """It is refused, so that nothing escapes the check."""
    with pytest.raises(ValueError, match="at '\\?'"):
        parsed("up ?")
