"""
What to look at if a run's figures do not look right.
"""

from echofactory.results.books import Results


def advice(results: Results) -> list[str]:
    """
    Return sentences for the person who reads the report. They say what the figures suggest,
    and never change the verdict.
    """
    sentences = []
    if results.warnings:
        sentences.append(
            "the client was busy: lower --rate, use fewer connections, or run a second client"
            " and merge both"
        )
    sent = results.kernel.retransmits
    if sent:
        sentences.append(
            "segments were retransmitted: look for loss or a delay on the path, for example"
            " with ss -ti and nstat"
        )
    if results.requested == 1 and results.rateAsked is None and results.verified > 1:
        sentences.append(
            "one connection has one message under way: use -n for the throughput of a path"
        )
    return sentences
