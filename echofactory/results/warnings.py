"""
The warnings of a run that has ended: reasons not to believe one of its figures.
"""

from echofactory.results.books import Results
from echofactory.results.lagshare import BOTTLENECK, judgedPercent, lagShare
from echofactory.values.quantities import percentText


def addWarnings(results: Results) -> None:
    """
    Add the warnings: the client did not keep its schedule, or was the bottleneck; no message
    was due; or messages were due but not sent. Without a schedule, or if a search has ended
    the run, there are none.
    """
    if results.rateAsked is None or results.endedEarly:
        return
    if results.keptNoSchedule:
        results.warnings.append(
            "the client could not keep its schedule: it handled"
            f" {percentText(results.paced)} of the messages in time. These figures show the"
            " limit of the client, not of the peer"
        )
    elif (lag := lagShare(results.response, results.sendLag)) > BOTTLENECK:
        share = percentText(min(1.0, lag))
        percent = judgedPercent(results.response)
        said = f"at p{percent:g}, its send lag is {share} of the response time"
        results.warnings.append(f"the client was the bottleneck: {said}")
    if not results.due and not results.interrupted:
        results.warnings.append("no message was due in this time at this rate")
    if results.unsent and not results.interrupted:
        results.warnings.append(
            f"{results.unsent:,} of {results.due:,} messages"
            f" ({percentText(results.unsent / results.due)}) were due but not sent: "
            + _whyUnsent(results)
        )


def _whyUnsent(results: Results) -> str:
    if results.keptNoSchedule:
        return "the client did not handle them in time"
    if results.failed:
        return "their connections failed or waited for replies"
    return "their connections waited for replies"
