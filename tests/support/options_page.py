"""
The page of all options, docs/options.md, from the declarations of the options:

    python tests/support/options_page.py >docs/options.md
"""

import re
import textwrap
from typing import NamedTuple

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.options import CommandOptions, Flag, Option
from echofactory.cli.report import ReportOptions
from echofactory.cli.server import ServerOptions


class Program(NamedTuple):
    """
    A program.

    @ivar key: begins the anchors of its options.
    @ivar command: how it is started.
    @ivar arguments: what follows its options.
    @ivar options: the class that reads its command line.
    """

    key: str
    command: str
    arguments: str
    options: type[CommandOptions]


PROGRAMS = (
    Program("server", "twistd -n multiecho", "[HOST PORT]", ServerOptions),
    Program(
        "client", "python -m echofactory.client", "[HOST PORT [CONNECTIONS]]", ClientOptions
    ),
    Program("report", "python -m echofactory.report", "FILE...", ReportOptions),
    Program(
        "monitor", "twistd -n multiecho-client", "[HOST PORT [CONNECTIONS]]", MonitorOptions
    ),
)

_HEAD = """\
<!-- Written by: python tests/support/options_page.py >docs/options.md -->

# Options

This page lists every option of the four programs. Each program's `--help` has the same text.
The command `echofactory` starts them too ([install.md](install.md#the-command)): `echofactory
serve`, `echofactory`, `echofactory report` and `echofactory monitor`.

## Values

| value | form | examples |
|---|---|---|
| `SIZE` | bytes; `k`, `M` and `G` are powers of 1024. From 1 to `1024G` | `64`, `64k`, `1M` |
| `DURATION` | seconds, or a number with `ms`, `s`, `m` or `h`. At most 10⁹ s | `250ms`, `2m` |
| `RATE` | a number per second; `k` is 1,000 and `M` 1,000,000. Up to `10M` | `0.5`, `20k` |
| `N` | a whole number from 1 to 999,999,999 | `50` |
| `ENDPOINT` | an endpoint string of Twisted | `tcp:7007`, `unix:/run/echo.sock` |
| `FILE` | a path | `run.json` |

These options have other ranges:

| option | range |
|---|---|
| `--drain`, `--hold` | a `DURATION`, or 0 |
| `--keepalive` | 0, or from `1s` to `9h` |
| `--fault-seed` | a whole number of up to 18 digits, or 0 |
| `--workers` | from 1 to 256, or `auto` |
| `--udp-rate` | a `RATE` of 1 or more |
| `--rate` of the client | a `RATE`, or two for a rate that rises evenly: `1k..20k` |
| `--rate` of the monitor | a `RATE` of up to 1,000 |

Options can stand before and after the arguments. If an option is given twice, the last value
counts, with two exceptions. Options that can be repeated collect their values. Options that
name a file or an endpoint are refused if they are given twice.

If a value is wrong, the program writes one line on stderr and ends with exit status 2. The line
names the option, the value and what is accepted.

In the tables, an option without a default does nothing unless it is given.
"""

_VALUE = re.compile(r"\S*\d\S*")
_OPTION = re.compile(r"(?<![\w`-])--[a-z][a-z-]*[a-z]")


def _default(option: Option | Flag) -> str:
    """Return the default as Markdown; empty: the option does nothing unless it is given."""
    if option.default:
        return f"`{option.default}`"
    text = option.defaultHelp
    return f"`{text}`" if _VALUE.fullmatch(text) else _markdown(text)


def _markdown(text: str) -> str:
    """Return text of a command line as Markdown."""
    return _OPTION.sub(r"`\g<0>`", re.sub(r"([*<])", r"\\\1", text))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _section(program: Program) -> list[str]:
    listed = program.options.listed()
    lines = [
        f"## {program.command}",
        "",
        "```",
        f"{program.command} [options] {program.arguments}",
        "```",
        "",
        _wrapped(_markdown(str(getattr(program.options, "longdesc", "")))),
        "",
        "| option | default |",
        "|---|---|",
    ]
    for option in listed:
        words = option.words.replace("|", "\\|")
        default = _default(option).replace("|", "\\|")
        lines.append(f"| [`{words}`](#{program.key}-{option.name}) | {default} |")
    for option in listed:
        lines += [
            "",
            f'### <a id="{program.key}-{option.name}"></a>`{option.words}`',
            "",
            _wrapped(_markdown(option.help)),
        ]
        more = []
        if default := _default(option):
            more.append(f"Default: {default}.")
        if option.example:
            more.append(f"Example: `--{option.name} {option.example}`")
        if more:
            lines += ["", _wrapped(" ".join(more))]
    lines += ["", "### Examples", "", "```", program.options.examples.rstrip("\n"), "```"]
    return lines


def page() -> str:
    """Return the page, as Markdown."""
    sections = [line for program in PROGRAMS for line in ["", *_section(program)]]
    return _HEAD + "\n".join(sections) + "\n"


if __name__ == "__main__":
    print(page(), end="")
