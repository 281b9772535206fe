"""
The report of a run: aligned lines of text, with a unit for every figure.
"""

from collections.abc import Mapping, Sequence

from echofactory.report.advice import advice
from echofactory.report.expectations import expectationLines, expectationText, unmetText
from echofactory.report.layout import WIDTH, factLines, styled, tableLines
from echofactory.results.books import Results
from echofactory.results.connectionfacts import tallyText
from echofactory.results.failures import FailureKind
from echofactory.results.labels import labelsText
from echofactory.results.latency import PERCENTILES
from echofactory.results.ownerror import ownErrorNs
from echofactory.results.path import Kernel
from echofactory.results.search import KEPT_UP, Ending, SearchOutcome, SearchStep
from echofactory.values.quantities import (
    counted,
    durationText,
    numberText,
    percentText,
    rateText,
    sizeRateText,
    sizeText,
)

PERCENTS = tuple(PERCENTILES.values())
"""The percentiles of the report, unless the user chooses others."""


def percentileName(percent: float) -> str:
    """Return the name of a percentile, such as C{p99.9}."""
    return "p" + f"{percent:.7f}".rstrip("0").rstrip(".")


def ladder(results: Results, percents: Sequence[float] = PERCENTS) -> list[list[str]]:
    """
    Return the latencies by percentile.

    @param percents: the percentiles to show, each more than 0 and less than 100.
    @return: a row of titles, and a row for each latency that has readings; empty: there is
        none.
    """
    named = [("connect time", results.connect), ("response time", results.response)]
    if results.rateAsked is not None:
        named += [("service time", results.serviceTime), ("send lag", results.sendLag)]
    if results.receiveLag is not None:
        named.append(("receive lag", results.receiveLag))
    rows = [["", "min", *map(percentileName, percents), "max", "mean"]]
    for name, latency in named:
        fields = latency.asJSON()
        if fields["count"]:
            most = [fields["max"], fields["mean"]]
            figures = [fields["min"], *latency.percentiles(*percents), *most]
            rows.append([name, *(durationText(figure or 0) for figure in figures)])
    return rows if len(rows) > 1 else []


def _kernelText(kernel: Kernel) -> str:
    if not kernel.connections:
        return "no figures from the kernel"
    retransmitted = (
        f"{counted(kernel.retransmits, 'segment')} retransmitted (lost, or acknowledged late)"
        if kernel.retransmits
        else "no segment retransmitted"
    )
    reordered = (
        "reordering unknown"
        if kernel.reordering is None
        else f"reordered {counted(kernel.reordering, 'time')}"
    )
    mean = kernel.rttUsTotal / kernel.connections
    return (
        f"{retransmitted}, {kernel.lost:,} lost at the end, {reordered};"
        f" round trip {durationText(kernel.rttUsLeast * 1000)} to"
        f" {durationText(kernel.rttUsMost * 1000)}, mean {durationText(mean * 1000)}"
    )


def _pathText(results: Results) -> tuple[str, str]:
    """Return the name and the text of the line about the path."""
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
    text = _outcomeText(results)
    return f"{text}; {unmetText(results.expectations)}" if results.expectations else text


def _outcomeText(results: Results) -> str:
    if results.verdict in ("ok", "unmet"):
        return f"{results.verdict}: every byte came back"
    if results.verdict == "failed":
        if not results.failed:
            return "failed: no rate keeps the goals"
        return f"failed: {results.failed:,} of {counted(results.requested, 'connection')}"
    if results.search is None:
        return f"interrupted: {counted(results.unfinished, 'connection')} not done"
    found = "no rate found" if results.search.found is None else "this is the best rate"
    return f"interrupted: the search did not end; {found} so far"


def _rateText(results: Results) -> str:
    achieved = f"{rateText(results.achieved)}, {sizeRateText(results.bytesPerSecond)} achieved"
    if results.rateAsked is None:
        if not results.verified:
            return "no message came back"
        if not results.counted:
            return "no message came back after the warm-up"
        return f"{achieved}, as fast as replies came"
    reached = percentText(results.achieved / results.rateAsked)
    return f"{achieved}; {rateText(results.rateAsked)} asked ({reached})"


def _clientText(results: Results) -> str:
    """Write the client's own error."""
    own, lag = ownErrorNs(results), results.receiveLag
    spinning = "a core is kept awake (--spin); " if results.spin else ""
    if lag is None:
        return f"{spinning}receive lag not known"
    dropped = results.receiveLagDropped
    without = f", {dropped:,} dropped because the clock was set" if dropped else ""
    if own is None:
        return f"{spinning}no reply sampled{without}"
    return (
        f"{spinning}at most {durationText(own)} of the response time are its own, for 99 % of"
        f" the messages ({counted(lag.count, 'sample')}{without})"
    )


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


def latencyText(ns: int | None) -> str:
    """Write a latency; C{None}: there is no reading, which is C{-}."""
    return "-" if ns is None else durationText(ns)


def _triedText(perSecond: float) -> str:
    """Write a rate of a search, so that rates 5 % apart differ: C{31.2}, C{1,625}."""
    return f"{perSecond:.3g}" if perSecond < 999.5 else numberText(perSecond)


def _ratesText(perSecond: float, verb: str) -> str:
    """Write a rate of a search and what it does, in the number of the rate."""
    written = _triedText(perSecond)
    one = written == "1"
    forms = {"keep": "keeps", "do not": "does not", "do not keep": "does not keep"}
    return f"{written} message{'' if one else 's'}/s {forms[verb] if one else verb}"


def brokenText(step: SearchStep) -> str:
    """Write why a step is broken: missed goals, failures, or replies that fell behind."""
    reasons = [*step.broken]
    if failed := sum(step.failures.values()):
        reasons.append(f"{counted(failed, 'connection')} failed")
    if not reasons:
        share = step.achieved / step.asked
        reasons.append(
            f"fell behind, {percentText(share)} achieved"
            if share < KEPT_UP
            else "fell behind, the last replies came late"
        )
    return ", ".join(reasons)


def stepText(step: SearchStep, goals: Mapping[str, str]) -> str:
    """
    Write a step of a search as a line.

    @param goals: the field of the response times that each goal limits, by the goal's name.
    """
    reached = ", ".join(
        f"{name} {latencyText(step.response[field])}" for name, field in goals.items()
    )
    verdict = "kept" if step.kept else f"broken: {brokenText(step)}"
    if step.interrupted:
        verdict = "interrupted"
    return (
        f"{_triedText(step.asked):>10} messages/s asked,"
        f" {numberText(step.achieved):>10} achieved,"
        f" {reached}, {sum(step.failures.values()):,} failed: {verdict}"
    )


def searchText(search: SearchOutcome) -> str:
    """Write the outcome of a search."""
    goals = ", ".join(search.goals)
    last = search.steps[-1]
    asked = f"{_triedText(last.asked)} messages/s"
    found = search.found
    kept = f"{_ratesText(found, 'keep')} {goals}" if found is not None else ""
    if search.ending is Ending.LOWEST:
        failed = sum(last.failures.values())
        if failed:
            return f"{counted(failed, 'connection')} failed at {asked}, the lowest rate tried"
        return f"the lowest rate tried, {_ratesText(last.asked, 'do not keep')} {goals}"
    broken = min(
        (step for step in search.steps if not step.kept), key=lambda s: s.asked, default=last
    )
    if search.ending is Ending.CLIENT:
        lag = durationText(broken.sendLag["p99"] or 0)
        asked = f"{_triedText(broken.asked)} messages/s"
        limit = f"at {asked}, the client is the limit: its send lag is {lag} at p99"
        return f"{kept}; {limit}" if kept else limit
    if search.ending is Ending.FOUND:
        return f"{kept}; {_ratesText(broken.asked, 'do not')}"
    return f"interrupted; {kept or 'no rate found'}"


def _searchRows(search: SearchOutcome | None) -> list[tuple[str, str]]:
    if search is None:
        return []
    tried = counted(len(search.steps), "rate")
    which = "last" if search.found is None else "best"
    return [
        (
            "search",
            f"{searchText(search)}; {tried} tried. The other lines are of the {which} rate",
        )
    ]


def _factRows(results: Results) -> list[tuple[str, str]]:
    """
    Return the lines about what carried the connections. The address has a line if the target
    does not name it.
    """
    facts = results.connectionFacts
    rows = []
    named = results.target.translate(str.maketrans("", "", "[]\\"))
    if any(
        address.translate(str.maketrans("", "", "[]")) not in named
        for address in facts.addresses
    ):
        rows.append(("address", tallyText(facts.addresses, results.established)))
    if facts.tls:
        rows.append(("tls", tallyText(facts.tls, results.established)))
    if facts.sockets:
        rows.append(("sockets", tallyText(facts.sockets, results.established)))
    return rows


def _reconnectsText(results: Results) -> str:
    if not results.workload.reconnect:
        return ""
    missing = percentText(results.missing)
    return f"; {counted(results.reconnects, 'reconnect')}, {missing} of connection time missing"


def _scheduleRows(results: Results) -> list[tuple[str, str]]:
    """Return the rows of what a plain run does not have: stages, random gaps, a warm-up."""
    rows = []
    if results.schedule is not None and not results.schedule.plain:
        rows.append(("schedule", results.schedule.text))
    if results.workload.warmUpS:
        lasted = durationText(results.workload.warmUpS * 1e9)
        verified = counted(results.uncounted, "message")
        rows.append(("warm-up", f"{lasted}; rate and latencies are without its {verified}"))
    return rows


def summary(results: Results) -> list[tuple[str, str]]:
    """Return the lines of the report before the latencies, each with its name."""
    return [
        *([("title", results.title)] if results.title else []),
        *([("labels", labelsText(results.labels))] if results.labels else []),
        ("target", results.target),
        *([] if results.parts is None else [("parts", results.parts.text)]),
        *_factRows(results),
        *_searchRows(results.search),
        (
            "connections",
            f"{results.requested:,} requested, {results.established:,} established,"
            f" {results.completed:,} completed, {results.failed:,} failed;"
            f" {results.peakOpen:,} open at once{_reconnectsText(results)}",
        ),
        ("messages", _messagesText(results)),
        (
            "bytes",
            f"{sizeText(results.bytesSent)} sent, {sizeText(results.bytesReceived)} received",
        ),
        ("elapsed", durationText(results.elapsedNs)),
        *_scheduleRows(results),
        ("rate", _rateText(results)),
        _pathText(results),
        ("client", _clientText(results)),
        *(
            ("failures" if index == 0 else "", _failureText(results, kind))
            for index, kind in enumerate(sorted(results.failures))
        ),
        *(("warning", sentence) for sentence in results.warnings),
        *(
            ("" if index else "expected", line)
            for index, line in enumerate(expectationLines(results.expectations))
        ),
        *(("advice", sentence) for sentence in advice(results)),
        ("verdict", _verdictText(results)),
    ]


_MARKS = {"failures": "bad", "warning": "doubtful", "advice": "doubtful"}
_VERDICTS = {"ok": "good", "failed": "bad", "unmet": "bad", "interrupted": "doubtful"}


def report(
    results: Results,
    percents: Sequence[float] = PERCENTS,
    width: int = WIDTH,
    colour: bool = False,
) -> str:
    """
    Write the report. The last line ends with a newline too.

    @param percents: see L{ladder}.
    @param width: the columns that it shall fit in.
    @param colour: whether to write in the colours of a terminal.
    """
    *facts, verdict = summary(results)
    lines: list[str] = []
    style = ""
    for name, text in facts:
        # A second kind of failure has no name of its own.
        style = _MARKS.get(name, "") if name else style
        lines += _marked(factLines(name, text, width), style, colour)
    rows = ladder(results, percents)
    if rows:
        columns = [[_heading(row[0]), *row[1:]] for row in rows]
        lines += ["", *tableLines(columns, width), ""]
    lines += _marked(factLines(*verdict, width), _VERDICTS.get(results.verdict, ""), colour)
    return "".join(f"{line}\n" for line in lines)


def _heading(name: str) -> str:
    """Return the heading of a column of latencies."""
    return name.removesuffix(" time") or "latency"


def _marked(lines: list[str], style: str, colour: bool) -> list[str]:
    return [styled(line, style) if colour else line for line in lines]


def failureLines(results: Results) -> list[str]:
    """Return a line for each kind of failure, with the first connection that failed so."""
    return [
        f"{kind}: {results.failures[kind]:,} of {counted(results.requested, 'connection')};"
        f" first connection {example.connection} to {example.peer}: {example.detail}"
        for kind, example in sorted(results.examples.items())
    ]


def unmetLines(results: Results) -> list[str]:
    """Return a line for each expectation that was not met."""
    return [
        f"not met: {expectationText(judgement)}"
        for judgement in results.expectations
        if not judgement.met
    ]
