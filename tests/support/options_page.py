"""
The page of all options, docs/options.md, from the options themselves:

    python tests/support/options_page.py >docs/options.md

It takes each option's name, default and help from the classes that read the command lines.
"""

import re
import textwrap
from typing import NamedTuple

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.options import CommandOptions
from echofactory.cli.report import ReportOptions
from echofactory.cli.server import ServerOptions

ARGUMENTS = {
    "bind": "ADDRESS",
    "connect": "ENDPOINT",
    "connect-rate": "RATE",
    "connect-timeout": "DURATION",
    "connections": "N",
    "count": "N",
    "drain": "DURATION",
    "duration": "DURATION",
    "fault": "FAULTS",
    "fault-seed": "N",
    "find-rate": "GOALS",
    "hdr": "FILE",
    "hold": "DURATION",
    "html": "FILE",
    "idle-timeout": "DURATION",
    "interval": "DURATION",
    "json": "FILE",
    "keepalive": "DURATION",
    "listen": "ENDPOINT",
    "max-connections": "N",
    "max-per-host": "N",
    "message": "TEXT",
    "message-file": "FILE",
    "plot": "FILE",
    "progress": "auto|always|never",
    "rate": "RATE",
    "reply-timeout": "DURATION",
    "size": "SIZE",
    "status": "ENDPOINT",
    "trace": "none|connections|data",
    "udp": "HOST:PORT",
    "udp-rate": "RATE",
    "window": "N",
    "workers": "N|auto",
}
"""What an option's argument is called; the classes of the options do not name it."""


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

## Values

| value | form | examples |
|---|---|---|
| `SIZE` | bytes; `k`, `M` and `G` are powers of 1024. From 1 to `1024G` | `64`, `64k`, `1M` |
| `DURATION` | seconds, or a number with `ms`, `s`, `m` or `h`. Up to 366 days | `250ms`, `2m` |
| `RATE` | a number per second; `k` is 1,000 and `M` 1,000,000. Up to `10M` | `0.5`, `20k` |
| `N` | a whole number of 1 or more | `50` |
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

_DEFAULT = re.compile(r"\s*\[default: ([^\]]*)\]$")
_VALUE = re.compile(r"\S*\d\S*")
_OPTION = re.compile(r"(?<![\w`-])--[a-z][a-z-]*[a-z]")


class Option(NamedTuple):
    """
    An option.

    @ivar name: the long one, without dashes.
    @ivar words: how it is written, with its short name and its argument.
    @ivar default: as Markdown; empty: the option does nothing unless it is given.
    @ivar text: what it does.
    """

    name: str
    words: str
    default: str
    text: str


def options(program: Program) -> list[Option]:
    """Return a program's options, by name."""
    read = program.options()
    short = {long: f"-{name}, " for name, long in read.synonyms.items() if len(name) == 1}
    found = []
    for written in read.longOpt:
        name = written.removesuffix("=")
        argument = f" {ARGUMENTS[name]}" if written != name else ""
        text = " ".join((read.docs[name] or "").split())
        value = read.defaults.get(name) if argument else None
        default = f"`{value}`" if value else ""
        if match := _DEFAULT.search(text):
            text = text[: match.start()]
            value = match[1]
            default = f"`{value}`" if _VALUE.fullmatch(value) else _markdown(value)
        found.append(Option(name, f"{short.get(name, '')}--{name}{argument}", default, text))
    return sorted(found)


def _markdown(text: str) -> str:
    """Return text of a command line as Markdown."""
    return _OPTION.sub(r"`\g<0>`", re.sub(r"([*<])", r"\\\1", text))


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 100, break_long_words=False, break_on_hyphens=False)


def _section(program: Program) -> list[str]:
    listed = options(program)
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
        default = option.default.replace("|", "\\|")
        lines.append(f"| [`{words}`](#{program.key}-{option.name}) | {default} |")
    for option in listed:
        lines += [
            "",
            f'### <a id="{program.key}-{option.name}"></a>`{option.words}`',
            "",
            _wrapped(_markdown(option.text)),
        ]
        if option.default:
            lines += ["", _wrapped(f"Default: {option.default}.")]
    lines += ["", "### Examples", "", "```", program.options.examples.rstrip("\n"), "```"]
    return lines


def page() -> str:
    """Return the page, as Markdown."""
    sections = [line for program in PROGRAMS for line in ["", *_section(program)]]
    return _HEAD + "\n".join(sections) + "\n"


if __name__ == "__main__":
    print(page(), end="")
