"""
The results of several runs, taken as those of one.
"""

from collections.abc import Sequence
from datetime import timedelta

from echofactory.results.books import Results
from echofactory.results.intervals import mergedIntervals
from echofactory.results.latency import Latency
from echofactory.results.path import Datagrams

_SUMMED = (
    "requested",
    "established",
    "completed",
    "open",
    "peakOpen",
    "sent",
    "verified",
    "mismatched",
    "unanswered",
    "bytesSent",
    "bytesReceived",
    "due",
)


def _difference(one: Results, other: Results) -> str:
    """Say in what the workloads of two runs differ."""
    first, second = one.workload.asJSON(), other.workload.asJSON()
    for name in sorted(first):
        values = first[name], second[name]
        if values[0] != values[1]:
            return f"{name} {values[0]} and {values[1]}"
    return "one has a rate, another none"


def _refuseUnfit(runs: Sequence[Results], first: Results) -> None:
    """
    @param first: the run that began first.
    @raise ValueError: if the runs cannot be taken as one.
    """
    latest = max(run.started for run in runs)
    if any(latest - run.started > timedelta(microseconds=run.elapsedNs / 1000) for run in runs):
        raise ValueError("they did not go on side by side")
    for run in runs:
        if run.search is not None:
            raise ValueError("a search for a rate is no part of another run")
        scheduled = [each.rateAsked is not None for each in (run, first)]
        if run.workload != first.workload or scheduled[0] != scheduled[1]:
            raise ValueError(f"the workloads differ: {_difference(run, first)}")
        if (run.datagrams is None) != (first.datagrams is None):
            raise ValueError("one is of datagrams, another of streams")


def _add(whole: Results, run: Results) -> None:
    """Add what a run counted, whenever that was."""
    for name in _SUMMED:
        setattr(whole, name, getattr(whole, name) + getattr(run, name))
    whole.failures += run.failures
    whole.examples = run.examples | whole.examples
    whole.connect.add(run.connect)
    whole.response.add(run.response)
    whole.sendLag.add(run.sendLag)
    whole.kernel.merge(run.kernel)
    if run.service is not None:
        whole.service = whole.service or Latency()
        whole.service.add(run.service)
    if run.datagrams is not None:
        whole.datagrams = whole.datagrams or Datagrams()
        whole.datagrams.merge(run.datagrams)


def merged(runs: Sequence[Results]) -> Results:
    """
    Return the results of one run that consists of several runs side by side: what all of
    them counted, from the beginning of the first to the end of the last.

     - The most connections open at once are the sum of each run's most. The true figure can
       be lower.
     - A schedule that began later than another counts as one that began with it: the
       achieved rate is over the longest time of them.

    @raise ValueError: if the runs were not side by side, if their workloads differ, if one
        is a search, or if some are of datagrams and others of streams.
    """
    first = min(runs, key=lambda run: run.started)
    _refuseUnfit(runs, first)
    whole = Results(
        target=", ".join(dict.fromkeys(run.target for run in runs)),
        workload=first.workload,
        started=first.started,
        requested=0,
        interrupted=any(run.interrupted for run in runs),
    )
    pieces = []
    firsts, lasts = [], []
    for number, run in enumerate(runs, 1):
        whole.warnings += [f"run {number}: {each}" for each in run.warnings]
        _add(whole, run)
        offset = (run.started - first.started) // timedelta(microseconds=1) * 1000
        pieces.append((offset, run.intervals))
        whole.elapsedNs = max(whole.elapsedNs, offset + run.elapsedNs)
        whole.scheduledNs = max(whole.scheduledNs, run.scheduledNs)
        if run.firstAt:
            firsts.append(offset + run.firstAt - run.beganAt)
        if run.lastAt:
            lasts.append(offset + run.lastAt - run.beganAt)
    whole.intervalNs = max(run.intervalNs for run in runs)
    whole.firstAt, whole.lastAt = min(firsts, default=0), max(lasts, default=0)
    if first.rateAsked is not None:
        whole.rateAsked = _askedTogether(runs, whole)
        whole.lastSentAt = whole.firstAt + max(run.overNs for run in runs)
    whole.intervals = mergedIntervals(pieces, whole.intervalNs)
    return whole


def _askedTogether(runs: Sequence[Results], whole: Results) -> float:
    """Return the messages a second that the schedules of several runs ask for together."""
    rates = [run.rateAsked or 0.0 for run in runs]
    if whole.due and any(run.scheduledNs != whole.scheduledNs for run in runs):
        return whole.due / (whole.scheduledNs / 1e9)
    return sum(rates)
