"""
What to look at if a run's figures do not look right.
"""

from echofactory.results.books import Results
from echofactory.results.warnings import BOTTLENECK, lagShare


def advice(results: Results) -> list[str]:
    """
    Return sentences for the person who reads the report. They say what the figures suggest,
    and never change the verdict.
    """
    sentences = []
    if results.keptNoSchedule or lagShare(results) > BOTTLENECK:
        sentences.append(
            "the client itself was late: use --spin, a longer run or a lower --rate, or merge"
            " the results of two clients"
        )
    sent = results.kernel.retransmits
    if sent:
        sentences.append(
            "segments were retransmitted: look for loss or a delay on the path, for example"
            " with ss -ti and nstat"
        )
    closed = results.rateAsked is None and results.workload.window == 1
    if results.requested == 1 and closed and results.verified > 1:
        sentences.append(
            "one connection has one message under way: use -n for the throughput of a path"
        )
    return sentences
