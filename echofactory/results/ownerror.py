"""
The client's own error in the response times.
"""

from echofactory.results.books import Results


def ownErrorNs(results: Results) -> int | None:
    """
    Return a bound for the client's own error, in nanoseconds: in at least 99 % of the response
    times, send lag and receive lag together do not exceed it. C{None}: not known.

    Percentiles of two figures do not add up. But at most 0.5 % of the messages exceed p99.5 of
    the send lag, and at most 0.5 % p99.5 of the receive lag. So at most 1 % exceed the sum.
    """
    receiveLag = results.receiveLag
    if receiveLag is None or not receiveLag.count:
        return None
    if results.rateAsked is None:
        return receiveLag.percentiles(99.0)[0]
    halves = [lag.percentiles(99.5)[0] for lag in (results.sendLag, receiveLag)]
    return sum(half or 0 for half in halves)
