"""
Merges the results of several runs into those of one.
"""

from collections.abc import Sequence
from datetime import timedelta
from operator import mul

from echofactory.results.books import Results
from echofactory.results.intervals import mergedIntervals
from echofactory.results.labels import labelsTogether, together
from echofactory.results.latency import Latency
from echofactory.results.path import Datagrams
from echofactory.results.schedulefacts import mergedSchedules

SUMMED = (
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
    "uncounted",
    "uncountedDue",
    "uncountedBytes",
    "reconnects",
    "receiveLagDropped",
)


def weightedMean(
    values: Sequence[float], weights: Sequence[int], default: float = 0.0
) -> float:
    """Return the weighted mean of some values; without weights, the default."""
    total = sum(weights)
    if not total:
        return default
    return float(sum(map(mul, values, weights)) / total)


def _difference(one: Results, other: Results) -> str:
    """Return the first difference between the workloads of two runs."""
    first, second = one.workload.asJSON(), other.workload.asJSON()
    for name in sorted(first):
        values = first[name], second[name]
        if values[0] != values[1]:
            return f"{name} {values[0]} and {values[1]}"
    return "only one of them has a rate"


def _refuseUnfit(runs: Sequence[Results], first: Results) -> None:
    """
    @param first: the run that began first.
    @raise ValueError: if the runs cannot be merged.
    """
    latest = max(run.started for run in runs)
    if any(latest - run.started > timedelta(microseconds=run.elapsedNs / 1000) for run in runs):
        raise ValueError("the runs did not take place at the same time")
    for run in runs:
        if run.search is not None:
            raise ValueError("one of the runs is a search for a rate")
        scheduled = [each.rateAsked is not None for each in (run, first)]
        if run.workload != first.workload or scheduled[0] != scheduled[1]:
            raise ValueError(f"the workloads differ: {_difference(run, first)}")
        if (run.datagrams is None) != (first.datagrams is None):
            raise ValueError("some of the runs are over UDP, others are not")


def _add(whole: Results, run: Results) -> None:
    """Add the counts and latencies of a run."""
    for name in SUMMED:
        setattr(whole, name, getattr(whole, name) + getattr(run, name))
    whole.failures += run.failures
    whole.examples = run.examples | whole.examples
    whole.connect.add(run.connect)
    whole.response.add(run.response)
    whole.sendLag.add(run.sendLag)
    whole.connectionFacts.merge(run.connectionFacts)
    whole.kernel.merge(run.kernel)
    if run.receiveLag is not None:
        whole.receiveLag = whole.receiveLag or Latency()
        whole.receiveLag.add(run.receiveLag)
    if run.service is not None:
        whole.service = whole.service or Latency()
        whole.service.add(run.service)
    if run.datagrams is not None:
        whole.datagrams = whole.datagrams or Datagrams()
        whole.datagrams.merge(run.datagrams)


def merged(runs: Sequence[Results]) -> Results:
    """
    Return the results of one run that consists of several simultaneous runs, from the
    beginning of the first to the end of the last.

     - C{peakOpen} is the sum over the runs. The true figure can be lower.
     - All schedules count as if they began together: the achieved rate is over the longest
       time of them.

    @param runs: one or more.
    @raise ValueError: if the runs did not take place at the same time, if their workloads
        differ, if one is a search, or if some are over UDP and others are not.
    """
    first = min(runs, key=lambda run: run.started)
    _refuseUnfit(runs, first)
    whole = Results(
        title=together(run.title for run in runs),
        labels=labelsTogether([run.labels for run in runs]),
        target=", ".join(dict.fromkeys(run.target for run in runs)),
        workload=first.workload,
        started=first.started,
        requested=0,
        interrupted=any(run.interrupted for run in runs),
        spin=any(run.spin for run in runs),
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
    places = [run.requested - run.reconnects for run in runs]
    whole.missing = min(1.0, weightedMean([run.missing for run in runs], places))
    whole.intervalNs = max(run.intervalNs for run in runs)
    whole.firstAt, whole.lastAt = min(firsts, default=0), max(lasts, default=0)
    if first.rateAsked is not None:
        whole.rateAsked = _askedTogether(runs, whole)
        whole.schedule = mergedSchedules([run.schedule for run in runs])
        whole.lastSentAt = whole.firstAt + max(run.overNs for run in runs)
    whole.intervals = mergedIntervals(pieces, whole.intervalNs)
    return whole


def _askedTogether(runs: Sequence[Results], whole: Results) -> float:
    """Return the scheduled rate of all runs together, in messages a second."""
    rates = [run.rateAsked or 0.0 for run in runs]
    if whole.due > whole.uncountedDue and any(
        run.scheduledNs != whole.scheduledNs for run in runs
    ):
        return (whole.due - whole.uncountedDue) / (whole.scheduledNs / 1e9)
    return sum(rates)
