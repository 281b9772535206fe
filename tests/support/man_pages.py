"""
The manual pages of the command C{echofactory} and of its subcommands, as roff with the macros
of man(7), from the declarations of the options.
"""

import re

from shell_programs import NOTE, SHELL_PROGRAMS, ShellProgram

from echofactory._version import __version__
from echofactory.cli.main import EXAMPLES, HEAD, SUBCOMMANDS
from echofactory.cli.naming import consoleText
from echofactory.cli.options import CommandOptions, Flag, Option, helpText

_SYMBOLS = {"µ": r"\[mc]", "×": r"\[mu]"}


def _roff(text: str) -> str:
    """Return text as roff: a hyphen that the reader can copy, and no accidental request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\[aq]")
    escaped = escaped.replace("`", r"\[ga]").replace("^", r"\[ha]").replace("~", r"\[ti]")
    for character, symbol in _SYMBOLS.items():
        escaped = escaped.replace(character, symbol)
    assert escaped.isascii(), text
    return re.sub(r"^\.", r"\\&.", escaped, flags=re.MULTILINE)


def _words(option: Option | Flag) -> str:
    """Return the option as it is written: names in bold, the value in italics."""
    names = [f"\\fB{_roff(f'-{option.short}')}\\fR, "] if option.short else []
    names.append(f"\\fB{_roff(f'--{option.name}')}\\fR")
    if isinstance(option, Option):
        names.append(f" \\fI{_roff(option.metavar)}\\fR")
    return "".join(names)


def _optionLines(options: type[CommandOptions]) -> list[str]:
    lines = [".SH OPTIONS"]
    for heading, group in options.grouped().items():
        lines.append(f".SS {_roff(heading)}")
        for option in group:
            lines += [".TP", _words(option), _roff(consoleText(helpText(option)))]
    return lines


def _examples(text: str) -> list[str]:
    """Return examples: each is a line with a command and an indented line about it."""
    lines = [".SH EXAMPLES"]
    for line in text.splitlines():
        if line.startswith(" "):
            lines.append(_roff(line.strip()))
        else:
            lines += [".TP", f"\\fB{_roff(line)}\\fR"]
    return lines


def _head(name: str, summary: str) -> list[str]:
    title = f'.TH {_roff(name.upper())} 1 "" "echofactory {__version__}" "User Commands"'
    return [f'.\\" {NOTE}', title, ".ad l", ".SH NAME", f"{_roff(name)} \\- {_roff(summary)}"]


def _summary(text: str) -> str:
    """Return a sentence as the line of C{whatis}."""
    return (text[0].lower() + text[1:]).rstrip(".")


def _synopsis(arguments: str, subcommand: str = "") -> list[str]:
    name = "\\fBechofactory\\fR" + (f" \\fB{subcommand}\\fR" if subcommand else "")
    return [".PP", f"{name} {_roff(arguments)}"]


def _seeAlso(name: str) -> list[str]:
    names = ["echofactory", *(f"echofactory-{each.name}" for each in SUBCOMMANDS[1:])]
    others = ", ".join(f"\\fB{_roff(other)}\\fR(1)" for other in names if other != name)
    return [".SH SEE ALSO", others]


def _mainPage() -> str:
    """Return the page of C{echofactory}, which is also the client's."""
    client = SHELL_PROGRAMS[0]
    lines = [
        *_head("echofactory", "check and measure a path with an echo server"),
        ".SH SYNOPSIS",
        *_synopsis(client.subcommand.arguments, "")[1:],
    ]
    for each in SHELL_PROGRAMS:
        lines += [".br", *_synopsis(each.subcommand.arguments, each.subcommand.name)[1:]]
    lines += [".SH DESCRIPTION", _roff(HEAD), ".SH COMMANDS"]
    for each in SHELL_PROGRAMS:
        lines += [".TP", f"\\fB{each.subcommand.name}\\fR", _roff(each.subcommand.summary)]
        if each is not client:
            lines.append(f"See \\fBechofactory\\-{each.subcommand.name}\\fR(1).")
    lines += [".SH CLIENT", _roff(consoleText(str(getattr(client.options, "longdesc", ""))))]
    lines += _optionLines(client.options)
    lines += _examples(EXAMPLES + consoleText(client.options.examples))
    return "\n".join([*lines, *_seeAlso("echofactory")]) + "\n"


def _page(program: ShellProgram) -> str:
    """Return the page of a subcommand."""
    name = f"echofactory-{program.subcommand.name}"
    lines = [
        *_head(name, _summary(program.subcommand.summary)),
        ".SH SYNOPSIS",
        *_synopsis(program.subcommand.arguments, program.subcommand.name)[1:],
        ".SH DESCRIPTION",
        _roff(consoleText(str(getattr(program.options, "longdesc", "")))),
    ]
    if program.subcommand.twistd:
        lines += [
            ".PP",
            _roff(f"It is short for twistd -n --pidfile= {program.subcommand.twistd}."),
            "A daemon, another reactor or another log needs twistd itself.",
        ]
    lines += _optionLines(program.options)
    lines += _examples(consoleText(program.options.examples))
    return "\n".join([*lines, *_seeAlso(name)]) + "\n"


def manPages() -> dict[str, str]:
    """Return each page by the name of its file."""
    others = {
        f"echofactory-{each.subcommand.name}.1": _page(each) for each in SHELL_PROGRAMS[1:]
    }
    return {"echofactory.1": _mainPage(), **others}
