"""
What to look at if a run's figures do not look right.
"""

from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.results.lagshare import BOTTLENECK, lagShare

_SILENT = (FailureKind.CLOSED_EARLY, FailureKind.RESET, FailureKind.REPLY_TIMEOUT)
"""How connections fail if the server waits for a greeting of TLS, or received another one."""


def _maySpeakTLS(results: Results) -> bool:
    """Tell whether a run over TCP failed as it does if the server expects TLS."""
    return (
        results.target.startswith("tcp:")
        and not results.connectionFacts.tls
        and not results.bytesReceived
        and any(results.failures[kind] for kind in _SILENT)
    )


def _ofALateClient(results: Results) -> str:
    lower = "use --spin, a longer run or a lower --rate"
    if results.parts is None:
        return f"the client itself was late: {lower}, or merge the results of two clients"
    more = "more parts, on idle cores or on another machine"
    return f"the parts of the client were late: {lower}, or {more}"


def advice(results: Results) -> list[str]:
    """
    Return sentences for the person who reads the report. They say what the figures suggest,
    and never change the verdict.
    """
    sentences = []
    if results.keptNoSchedule or lagShare(results.response, results.sendLag) > BOTTLENECK:
        sentences.append(_ofALateClient(results))
    if _maySpeakTLS(results):
        sentences.append(
            "no byte came back: look whether the server is an echo, whether it expects TLS"
            " (--tls), and behind a proxy, whether a backend is up"
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
