"""
How much of the response times is the client's own send lag. Pure.
"""

from echofactory.results.latency import Latency

BOTTLENECK = 0.5
"""If L{lagShare} is greater, the client is the reason for its response times."""

_ABOVE = 10
"""Readings above a percentile, from which on the percentile says something of the client."""


_BACK = 0.99
"""The share of the messages that has to come back, so that both have the same percentiles."""


def judgedPercent(response: Latency) -> float:
    """
    Return the highest of p99, p90 and p50 that has at least L{_ABOVE} readings above it; 0:
    none has. In a short run, p99 is one or two readings, which a pause of the machine can make.

    @param response: the response times.
    """
    fitting = (each for each in (99, 90, 50) if response.count * (100 - each) >= 100 * _ABOVE)
    return float(next(fitting, 0))


def lagShare(response: Latency, sendLag: Latency) -> float:
    """
    Return the send lag as a share of the response time at p99; with fewer than 1,000 readings,
    at p90, and with fewer than 100, at p50. 0: not known, there are fewer than 20 readings, or
    more than 1 % of the messages did not come back, as in an outage: their send lag has no
    response time to compare with.
    """
    percent = judgedPercent(response)
    if not percent or response.count < _BACK * sendLag.count:
        return 0.0
    whole, lag = (each.percentiles(percent)[0] for each in (response, sendLag))
    return (lag or 0) / whole if whole else 0.0
