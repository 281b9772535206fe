"""
The results for people: aligned text, a unit on every number.
"""

from echofactory.latency import Latency
from echofactory.results import Results

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
    if ns < _MS_NS:
        return f"{ns / 1000:.0f} us"
    if ns < _S_NS:
        return f"{ns / _MS_NS:.2f} ms"
    return f"{ns / _S_NS:.2f} s"


def _latencyText(latency: Latency) -> str:
    if not latency.count:
        return "none measured"
    mean = latency.total / latency.count
    return (
        f"min {durationText(latency.least)}, mean {durationText(mean)},"
        f" max {durationText(latency.greatest)}"
    )


def _verdictText(results: Results) -> str:
    if results.verdict == "ok":
        return "ok: every byte came back"
    if results.verdict == "failed":
        return f"failed: {results.failed:,} of {results.requested:,} connections"
    return f"interrupted: {results.unfinished:,} connections were not done"


def report(results: Results) -> str:
    """Write the results as lines of text, the last one ended too."""
    seconds = results.elapsedNs / _S_NS
    perSecond = 1 / seconds if seconds else 0.0
    rows = [
        ("target", results.target),
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
        (
            "elapsed",
            f"{durationText(results.elapsedNs)}:"
            f" {results.verified * perSecond:,.0f} messages/s verified,"
            f" {sizeText(results.bytesReceived * perSecond)}/s received",
        ),
        ("connect time", _latencyText(results.connect)),
        ("response time", _latencyText(results.response)),
        *(
            ("failures" if index == 0 else "", f"{count:,} {kind}")
            for index, (kind, count) in enumerate(sorted(results.failures.items()))
        ),
        ("verdict", _verdictText(results)),
    ]
    return "".join(f"{name:<13}  {value}\n" for name, value in rows)


def failureLines(results: Results) -> list[str]:
    """Return a line for each kind of failure, with its first example."""
    return [
        f"{kind}: {results.failures[kind]:,} of {results.requested:,} connections;"
        f" first connection {example.connection}: {example.detail}"
        for kind, example in sorted(results.examples.items())
    ]
