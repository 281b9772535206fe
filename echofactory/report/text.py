"""
The results for people: aligned text, a unit on every number.
"""

from collections.abc import Mapping

from echofactory.results.books import Results
from echofactory.results.failures import FailureKind
from echofactory.results.path import Kernel
from echofactory.results.search import Ending, SearchOutcome, SearchStep
from echofactory.values.quantities import (
    counted,
    durationText,
    numberText,
    percentText,
    rateText,
    sizeRateText,
    sizeText,
)

_LADDER = (
    ("min", "min"),
    ("p50", "p50"),
    ("p90", "p90"),
    ("p95", "p95"),
    ("p99", "p99"),
    ("p99_9", "p99.9"),
    ("p99_99", "p99.99"),
    ("max", "max"),
    ("mean", "mean"),
)


def ladder(results: Results) -> list[list[str]]:
    """
    Return the latencies by percentile: a row of titles, and one for each that was
    measured.
    """
    named = [("connect time", results.connect), ("response time", results.response)]
    if results.rateAsked is not None:
        named += [("service time", results.serviceTime), ("send lag", results.sendLag)]
    rows = [["", *(title for _, title in _LADDER)]]
    for name, latency in named:
        fields = latency.asJSON()
        if fields["count"]:
            rows.append([name, *(durationText(fields[field] or 0) for field, _ in _LADDER)])
    return rows if len(rows) > 1 else []


def _kernelText(kernel: Kernel) -> str:
    if not kernel.connections:
        return "the kernel does not say"
    again = (
        f"{counted(kernel.retransmits, 'segment')} sent again: lost on the way,"
        " or acknowledged late"
        if kernel.retransmits
        else "no segment had to be sent again"
    )
    mean = kernel.rttUsTotal / kernel.connections
    return (
        f"{again}; {kernel.lost:,} lost at the end,"
        f" {'?' if kernel.reordering is None else f'{kernel.reordering:,}'} times out of order;"
        f" round trip {durationText(kernel.rttUsLeast * 1000)} to"
        f" {durationText(kernel.rttUsMost * 1000)}, mean {durationText(mean * 1000)}"
    )


def _pathText(results: Results) -> tuple[str, str]:
    """Return what is known of the path, by name."""
    datagrams = results.datagrams
    if datagrams is None:
        return "tcp", _kernelText(results.kernel)
    return "datagrams", (
        f"{datagrams.lost:,} lost, {datagrams.repeated:,} repeated,"
        f" {datagrams.reordered:,} reordered"
    )


def _verdictText(results: Results) -> str:
    if results.underWay:
        return f"under way: {counted(results.unfinished, 'connection')} not done yet"
    if results.verdict == "ok":
        return "ok: every byte came back"
    if results.verdict == "failed":
        if not results.failed:
            return "failed: no rate was found that keeps the promise"
        return f"failed: {results.failed:,} of {counted(results.requested, 'connection')}"
    if results.search is None:
        return f"interrupted: {counted(results.unfinished, 'connection')} not done"
    found = "no rate was found" if results.search.found is None else "this is the best rate"
    return f"interrupted: the search was not done; {found} until then"


def _rateText(results: Results) -> str:
    achieved = f"{rateText(results.achieved)}, {sizeRateText(results.bytesPerSecond)} achieved"
    if results.rateAsked is None:
        if not results.verified:
            return "no message came back"
        return f"{achieved}, as fast as replies came"
    reached = percentText(results.achieved / results.rateAsked)
    return f"{achieved}; {rateText(results.rateAsked)} asked ({reached})"


def _messagesText(results: Results) -> str:
    due = f"{results.due:,} due, {results.unsent:,} unsent, " if results.unsent else ""
    return (
        f"{due}{results.sent:,} sent, {results.verified:,} verified,"
        f" {results.mismatched:,} mismatched, {results.unanswered:,} unanswered"
    )


def _failureText(results: Results, kind: FailureKind) -> str:
    example = results.examples.get(kind)
    first = (
        f"; first connection {example.connection} to {example.peer}: {example.detail}"
        if example is not None
        else ""
    )
    return f"{results.failures[kind]:,} {kind}{first}"


def _reached(ns: int | None) -> str:
    return "-" if ns is None else durationText(ns)


def stepText(step: SearchStep, goals: Mapping[str, str]) -> str:
    """
    Write a step of a search as a line.

    @param goals: the name of each goal, and the field of the latencies that it is about.
    """
    reached = ", ".join(
        f"{name} {_reached(step.response[field])}" for name, field in goals.items()
    )
    verdict = "kept" if step.kept else "broken"
    if step.interrupted:
        verdict = "interrupted"
    return (
        f"{numberText(step.asked):>10} messages/s asked,"
        f" {numberText(step.achieved):>10} achieved,"
        f" {reached}, {sum(step.failures.values()):,} failed: {verdict}"
    )


def searchText(search: SearchOutcome) -> str:
    """Say what came of a search."""
    promise = ", ".join(search.goals)
    last = search.steps[-1]
    asked = rateText(last.asked)
    kept = f"{rateText(search.found)} keep {promise}" if search.found is not None else ""
    if search.ending is Ending.FIRST:
        failed = sum(last.failures.values())
        if failed:
            return f"at {asked}, the first rate tried, {counted(failed, 'connection')} failed"
        return f"not even {asked}, the first rate tried, keep {promise}"
    if search.ending is Ending.CLIENT:
        # The lowest of those that were not kept.
        broken = min((step for step in search.steps if not step.kept), key=lambda s: s.asked)
        lag = durationText(broken.sendLag["p99"] or 0)
        asked = rateText(broken.asked)
        limit = f"at {asked} the client is the limit: its send lag is {lag} at p99"
        return f"{kept}; {limit}" if kept else limit
    if search.ending is Ending.FOUND:
        return f"{kept}, and no rate a twentieth higher"
    return f"interrupted; {kept or 'nothing found'}"


def _searchRows(search: SearchOutcome | None) -> list[tuple[str, str]]:
    if search is None:
        return []
    tried = counted(len(search.steps), "rate")
    were = "was" if len(search.steps) == 1 else "were"
    which = "last" if search.found is None else "best"
    return [
        (
            "search",
            f"{searchText(search)}; {tried} {were} tried. What follows is of the {which} of"
            " them; latencies of its first second are left out",
        )
    ]


def summary(results: Results) -> list[tuple[str, str]]:
    """Return what came of a run, by name, the verdict last."""
    return [
        ("target", results.target),
        *_searchRows(results.search),
        (
            "connections",
            f"{results.requested:,} requested, {results.established:,} established,"
            f" {results.completed:,} completed, {results.failed:,} failed;"
            f" {results.peakOpen:,} open at once",
        ),
        ("messages", _messagesText(results)),
        (
            "bytes",
            f"{sizeText(results.bytesSent)} sent, {sizeText(results.bytesReceived)} received",
        ),
        ("elapsed", durationText(results.elapsedNs)),
        ("rate", _rateText(results)),
        _pathText(results),
        *(
            ("failures" if index == 0 else "", _failureText(results, kind))
            for index, kind in enumerate(sorted(results.failures))
        ),
        *(("warning", sentence) for sentence in results.warnings),
        ("verdict", _verdictText(results)),
    ]


def report(results: Results) -> str:
    """Write the results as lines of text, the last one ended too."""
    *facts, verdict = (f"{name:<13}  {value}" for name, value in summary(results))
    latencies = [
        f"{name:<13}" + "".join(f"  {cell:>8}" for cell in cells)
        for name, *cells in ladder(results)
    ]
    return "".join(f"{line}\n" for line in (*facts, *latencies, verdict))


def failureLines(results: Results) -> list[str]:
    """Return a line for each kind of failure, with its first example."""
    return [
        f"{kind}: {results.failures[kind]:,} of {counted(results.requested, 'connection')};"
        f" first connection {example.connection} to {example.peer}: {example.detail}"
        for kind, example in sorted(results.examples.items())
    ]
