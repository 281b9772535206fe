"""
The results for people: aligned text, a unit on every number.
"""

from collections.abc import Mapping
from typing import Any

from echofactory.results import FailureKind, Kernel, Results

_SIZES = ("B", "KiB", "MiB", "GiB", "TiB")
_MS_NS = 1_000_000
_S_NS = 1_000_000_000


def sizeText(size: float) -> str:
    """Write a number of bytes: C{64 B}, C{1.5 KiB}."""
    unit = 0
    while size >= 1024 and unit < len(_SIZES) - 1:
        size /= 1024
        unit += 1
    return f"{size:,.1f} {_SIZES[unit]}" if unit else f"{size:,.0f} B"


def durationText(ns: float) -> str:
    """Write a number of nanoseconds: C{250 us}, C{1.50 ms}, C{2.00 s}."""
    if ns < 9_950:
        return f"{ns / 1000:.1f} us"
    if ns < 999_500:
        return f"{ns / 1000:.0f} us"
    if ns < 999_995_000:
        return f"{ns / _MS_NS:.2f} ms"
    return f"{ns / _S_NS:.2f} s"


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
        named += [("service time", results.service), ("send lag", results.sendLag)]
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
        f"{kernel.retransmits:,} segments sent again: lost on the way, or acknowledged late"
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
    if results.verdict == "ok":
        return "ok: every byte came back"
    if results.verdict == "failed" and not results.failed:
        return "failed: no rate was found that keeps the promise"
    if results.verdict == "failed":
        return f"failed: {results.failed:,} of {results.requested:,} connections"
    if results.findRate is not None:
        return "interrupted: the search was not done; this is the best rate until then"
    return f"interrupted: {results.unfinished:,} connections were not done"


def _rateText(results: Results) -> str:
    achieved = (
        f"{results.achieved:,.0f} messages/s, {sizeText(results.bytesPerSecond)}/s achieved"
    )
    if results.rateAsked is None:
        if not results.verified:
            return "no message came back"
        return f"{achieved}, as fast as replies came"
    reached = results.achieved / results.rateAsked
    return f"{achieved}; {results.rateAsked:,.0f} messages/s asked ({reached:.1%})"


def _failureText(results: Results, kind: FailureKind) -> str:
    example = results.examples.get(kind)
    first = (
        f"; first connection {example.connection} to {example.peer}: {example.detail}"
        if example is not None
        else ""
    )
    return f"{results.failures[kind]:,} {kind}{first}"


def searchText(findRate: Mapping[str, Any]) -> str:
    """
    Say what came of a search.

    @param findRate: of the JSON.
    """
    promise = ", ".join(findRate["goals"])
    found, last = findRate["found"], findRate["steps"][-1]
    asked = f"{last['asked']:,.0f} messages/s"
    kept = f"{found:,.0f} messages/s keep {promise}" if found is not None else ""
    if findRate["ended_by"] == "first":
        failed = sum(last["failures"].values())
        if failed:
            return f"at {asked}, the first rate tried, {failed:,} connections failed already"
        return f"not even {asked}, the first rate tried, keep {promise}"
    if findRate["ended_by"] == "client":
        lag = durationText(last["send_lag_ns"]["p99"] or 0)
        limit = f"at {asked} the client is the limit: its send lag is {lag} at p99"
        return f"{kept}; {limit}" if kept else limit
    if findRate["ended_by"] == "found":
        return f"{kept}, and no rate a twentieth higher"
    return f"interrupted; {kept or 'nothing found'}"


def _searchRows(findRate: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    if findRate is None:
        return []
    tried = len(findRate["steps"])
    return [
        (
            "search",
            f"{searchText(findRate)}; {tried} rates were tried, and what follows is of"
            " the best of them, its latencies without its first second",
        )
    ]


def summary(results: Results) -> list[tuple[str, str]]:
    """Return what came of a run, by name, the verdict last."""
    return [
        ("target", results.target),
        *_searchRows(results.findRate),
        (
            "connections",
            f"{results.requested:,} requested, {results.established:,} established,"
            f" {results.completed:,} completed, {results.failed:,} failed;"
            f" {results.peakOpen:,} open at once",
        ),
        (
            "messages",
            f"{results.sent:,} sent, {results.verified:,} verified,"
            f" {results.mismatched:,} mismatched, {results.unanswered:,} unanswered",
        ),
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
        f"{kind}: {results.failures[kind]:,} of {results.requested:,} connections;"
        f" first connection {example.connection} to {example.peer}: {example.detail}"
        for kind, example in sorted(results.examples.items())
    ]
