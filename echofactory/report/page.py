"""
The page of a run: one HTML file without scripts, which needs no other file and no network.
"""

from collections.abc import Sequence
from html import escape
from io import BytesIO

from echofactory.report.compare import Run, comparison, expected, warnings
from echofactory.report.plot import draw
from echofactory.report.text import ladder, summary

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2730; --dim: #5b6770; --line: #d8dee3;
  --paper: #fff; --ok: #1b7f4b; --failed: #b3261e; --interrupted: #8a6100; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ed; --dim: #9aa7b1; --line: #39434c;
  --paper: #14191e; --ok: #5fcf97; --failed: #ff8a80; --interrupted: #f0c25a; } }
body { margin: 2rem auto; max-width: 64rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.05rem; margin-top: 2rem; }
.ok { color: var(--ok); } .failed, .unmet { color: var(--failed); }
.interrupted { color: var(--interrupted); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--line); text-align: left;
  vertical-align: top; overflow-wrap: anywhere; }
th { color: var(--dim); font-weight: 500; white-space: nowrap; }
.figures th, .figures td { white-space: nowrap; overflow-wrap: normal; }
.figures td, .figures thead th { text-align: right; }
.plot { background: #fff; border-radius: 6px; padding: .5rem; }
.plot svg { width: 100%; height: auto; }
pre { overflow-x: auto; } footer { margin-top: 2rem; color: var(--dim); }
"""


def _facts(rows: Sequence[tuple[str, str]]) -> str:
    """Return a table with a name and a text in each row."""
    lines = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{escape(value)}</td></tr>\n'
        for name, value in rows
    )
    return f'<div class="scroll"><table>\n{lines}</table></div>\n'


def _figures(rows: Sequence[Sequence[str]]) -> str:
    """Return a table of figures: a row of titles, then rows of a title and figures."""
    titles, *rest = rows
    head = "".join(f'<th scope="col">{escape(title)}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{escape(title)}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in cells)
        + "</tr>\n"
        for title, *cells in rest
    )
    return (
        '<div class="scroll"><table class="figures">\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n"
    )


def _plot(runs: Sequence[Run]) -> str:
    drawn = BytesIO()
    draw(runs, drawn, "svg")
    # The XML declaration before the element belongs into a separate file only.
    svg = drawn.getvalue().decode()
    return f'<div class="plot">{svg[svg.index("<svg") :]}</div>\n'


def page(
    runs: Sequence[Run], version: str, command: str = "", used: Sequence[tuple[str, str]] = ()
) -> str:
    """
    Return one run, or the comparison of several, as HTML.

    @param version: the version of echofactory.
    @param command: the command line of the run, if it is known.
    @param used: the options of the run and their values, defaults included.
    """
    (name, results), *others = runs
    if others:
        title = "Comparison: " + ", ".join(run.name for run in runs)
        heading = escape(title)
        tables = _figures(comparison(runs))
        if warned := warnings(runs):
            tables += f"<h2>Warnings</h2>\n{_facts(warned)}"
        if judged := expected(runs):
            tables += f"<h2>Expectations</h2>\n{_facts(judged)}"
    else:
        title = f"{results.verdict}: {results.target}"
        heading = (
            f'<span class="{results.verdict}">{results.verdict}</span>:'
            f" {escape(results.target)}"
        )
        latencies = ladder(results)
        tables = _facts(summary(results))
        if latencies:
            tables += f"<h2>Latencies</h2>\n{_figures(latencies)}"
    options = ""
    if command:
        options = (
            f"<h2>Options used</h2>\n<pre><code>{escape(command)}</code></pre>\n{_facts(used)}"
        )
    begun = "" if others else f"{name}, started {results.started:%Y-%m-%d %H:%M:%S} UTC. "
    return (
        "<!DOCTYPE html>\n"
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{_STYLE}</style></head>\n"
        f"<body>\n<h1>{heading}</h1>\n{tables}"
        f"<h2>Plots</h2>\n{_plot(runs)}{options}"
        f"<footer>{escape(begun)}echofactory {escape(version)}</footer>\n"
        "</body></html>\n"
    )
