"""
The page of a run: one HTML file, which needs no other file and no network. The rules:

 - The charts are drawn by U{uPlot<https://github.com/leeoniya/uPlot>}, whose file is part of
   the page.
 - The content security policy allows the page's own scripts and styles by their hashes, and
   nothing else.
 - Text of peers, files and command lines is escaped: as HTML, and in the data of the charts.
"""

import json
from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from importlib.resources import files

from echofactory.report.charts import charts
from echofactory.report.compare import Run, comparison, expected, warnings
from echofactory.report.course import caption, stepFields, title
from echofactory.report.palette import (
    COLOURS,
    DARK_COLOURS,
    DARK_PAPER,
    DIM,
    GRID,
    INK,
    PAPER,
)
from echofactory.report.text import brokenText, ladder, latencyText, summary
from echofactory.results.books import Results
from echofactory.results.latency import statisticName
from echofactory.results.search import SearchOutcome
from echofactory.values.quantities import numberText

_DARK_INK = "#e4e9ed"
_DARK_DIM = "#9aa7b1"
_DARK_GRID = "#39434c"


def _file(name: str) -> str:
    return files("echofactory.report").joinpath(name).read_text("utf-8")


def _style() -> str:
    """Return the style sheet: the colours, and the files."""

    def colours(ink: str, dim: str, grid: str, paper: str, lines: Sequence[str]) -> str:
        numbered = "".join(f" --c{number}: {line};" for number, line in enumerate(lines))
        return f"--ink: {ink}; --dim: {dim}; --grid: {grid}; --paper: {paper};{numbered}"

    light = colours(INK, DIM, GRID, PAPER, COLOURS)
    dark = colours(_DARK_INK, _DARK_DIM, _DARK_GRID, DARK_PAPER, DARK_COLOURS)
    return (
        f":root {{ color-scheme: light dark; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
        f"{_file('uplot/uPlot.min.css')}\n{_file('page.css')}"
    )


def _script() -> str:
    """Return the script: uPlot with its licence, and the charts."""
    licence = _file("uplot/LICENSE").strip()
    return f"/*!\n{licence}\n*/\n{_file('uplot/uPlot.iife.min.js')}\n{_file('page.js')}"


def _hash(content: str) -> str:
    return f"'sha256-{b64encode(sha256(content.encode()).digest()).decode()}'"


def _data(value: object) -> str:
    """Write data as JSON that can stand in a script element: no C{<} ends it."""
    written = json.dumps(value, separators=(",", ":"))
    for character in "<>&":
        written = written.replace(character, f"\\u{ord(character):04x}")
    return written


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table with a name and a text in each row."""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in rows
    )
    return f'<table class="facts">\n{lines}</table>\n'


def _figures(rows: Sequence[Sequence[str]], kind: str = "") -> str:
    """Return a table of figures: a row of titles, then rows of a title and figures."""
    titles, *rest = rows
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for name, *cells in rest
    )
    return _table(head, body, kind)


def _table(head: str, body: str, kind: str = "") -> str:
    return (
        f'<div class="scroll" tabindex="0"><table class="figures {kind}">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _comparison(runs: Sequence[Run]) -> str:
    """Return the table that compares the runs. The words better and worse have a colour."""
    head = "<td></td>" + "".join(f'<th scope="col">{escape(run.name)}</th>' for run in runs)
    body = ""
    for name, cells in comparison(runs):
        body += f'<tr><th scope="row">{escape(name)}</th>'
        for cell in cells:
            judged = " ".join(text for text in (cell.change, cell.verdict) if text)
            kind = cell.verdict or ("same" if name != "verdict" else cell.figure)
            change = f'<span class="{kind}">{escape(judged)}</span>' if judged else ""
            shown = f'<span class="{kind}">{escape(cell.figure)}</span>'
            body += f"<td>{shown if name == 'verdict' else escape(cell.figure)} {change}</td>"
        body += "</tr>\n"
    warned = warnings(runs)
    told = f"<h2>Warnings</h2>\n{_facts(warned)}" if warned else ""
    if expectations := expected(runs):
        told += f"<h2>Expectations</h2>\n{_facts(expectations)}"
    return _table(head, body, "compared") + told


def _steps(results: Results, search: SearchOutcome) -> str:
    """Return the table of the rates that a search tried."""
    fields, _ = stepFields([results])
    names = [statisticName(field) for field in fields]
    rows = [["messages/s", "achieved", *names, "goals"]]
    for step in search.steps:
        kept = "kept" if step.kept else f"broken: {brokenText(step)}"
        rows.append(
            [
                numberText(step.asked),
                numberText(step.achieved),
                *(latencyText(step.response[field]) for field in fields),
                "interrupted" if step.interrupted else kept,
            ]
        )
    return f"<h2>Rates tried</h2>\n{_figures(rows, 'tried')}"


def _tables(run: Run) -> tuple[str, str]:
    """Return the tables of one run: those before the charts, and those after them."""
    results = run.results
    after = ""
    if latencies := ladder(results):
        # Percentiles go down, so that the table is narrow enough for a phone.
        after += f"<h2>Latencies</h2>\n{_figures([*zip(*latencies, strict=True)])}"
    if results.search is not None:
        after += _steps(results, results.search)
    return _facts(summary(results)), after


def page(
    runs: Sequence[Run], version: str, command: str = "", used: Sequence[tuple[str, str]] = ()
) -> str:
    """
    Return one run, or the comparison of several, as HTML.

    @param version: the version of echofactory.
    @param command: the command line of the run, if it is known.
    @param used: the options of the run and their values, defaults included.
    """
    before, after = (_comparison(runs), "") if len(runs) > 1 else _tables(runs[0])
    heading = title(runs)
    shown = escape(heading)
    if len(runs) == 1:
        verdict = runs[0].results.verdict
        shown = f'<span class="{verdict}">{verdict}</span>{shown[len(verdict) :]}'
    about = "".join(f"<p>{escape(line)}</p>\n" for line in caption(runs))
    if command:
        about += f"<pre><code>{escape(command)}</code></pre>\n"
    options = ""
    if used:
        options = f"<details><summary>All options</summary>\n{_facts(used)}</details>\n"
    style, script = _style(), _script()
    policy = (
        f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)};"
        " base-uri 'none'; form-action 'none'"
    )
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"<title>{escape(heading)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{style}</style></head>\n"
        f'<body>\n<header><h1>{shown}</h1>\n<div class="about">{about}</div></header>\n'
        f'<main>\n{before}<div id="charts">'
        "<noscript><p>The charts need JavaScript.</p></noscript></div>\n"
        f"{after}{options}</main>\n"
        f"<footer>echofactory {escape(version)}</footer>\n"
        f'<script type="application/json" id="data">{_data(charts(runs))}</script>\n'
        f"<script>{script}</script>\n"
        "</body></html>\n"
    )
