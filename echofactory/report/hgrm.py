"""
The percentile distribution of the response times as text (C{.hgrm}), in the format that the
plotter of HdrHistogram (C{plotFiles.html}) reads. It follows C{outputPercentileDistribution} of
the Java library, with milliseconds and 5 ticks per half distance. The Python library is not
used, because its standard deviation is in another unit than its mean, and its ticks differ.
"""

from math import log2

from echofactory.results.books import Results
from echofactory.results.labels import labelsText
from echofactory.results.latency import Latency

_TICKS = 5
"""Lines per half of the rest up to 100 %."""
_MS_NS = 1e6


def _next(level: float) -> float:
    """Return the percentile of the next line."""
    halves = int(log2(100.0 / (100.0 - level))) + 1
    return level + 100.0 / (_TICKS * 2.0**halves)


def _levels(latency: Latency) -> list[tuple[int, float, int]]:
    """
    Return the lines: nanoseconds, percentile, and the number of readings that do not exceed
    these nanoseconds. A percentile of P is the lowest reading that at least P percent of the
    readings do not exceed.
    """
    lines: list[tuple[int, float, int]] = []
    total, level = latency.count, 0.0
    if not total:
        return lines
    shares, readings = latency.distribution()
    for share, ns in zip(shares, readings, strict=True):
        below = round(share * total)
        while 100.0 * below / total >= level:
            lines.append((ns, level, below))
            if below == total:
                break
            level = _next(level)
    return [*lines, (readings[-1], 100.0, total)]


def percentileText(results: Results) -> str:
    """Write the percentile distribution of the response times, in milliseconds."""
    lines = [
        f"{'Value':>12} {'Percentile':>14} {'TotalCount':>10} {'1/(1-Percentile)':>14}",
        "",
    ]
    for ns, level, below in _levels(results.response):
        line = f"{ns / _MS_NS:12.3f} {level / 100:2.12f} {below:10d}"
        # The last line has no fourth column: the plotter draws lines of four.
        lines.append(line if level == 100 else f"{line} {1 / (1 - level / 100):14.2f}")
    fields = results.response.asJSON()
    mean, stddev, most = ((fields[name] or 0) / _MS_NS for name in ("mean", "stddev", "max"))
    empty = Latency().histogram()
    lines += [
        f"#[Mean    = {mean:12.3f}, StdDeviation   = {stddev:12.3f}]",
        f"#[Max     = {most:12.3f}, Total count    = {fields['count']:12d}]",
        f"#[Buckets = {empty.bucket_count:12d}, SubBuckets     = {empty.sub_bucket_count:12d}]",
    ]
    if results.title:
        lines.append(f"#[Title: {results.title}]")
    if results.labels:
        lines.append(f"#[Labels: {labelsText(results.labels)}]")
    return "".join(f"{line}\n" for line in lines)
