"""
The command C{echofactory}, which C{python -m echofactory} is too: it finds the program that is
meant, and starts it.

C{--version} and C{--help} answer before the reactor, OpenSSL or a program is imported.
"""

import difflib
import sys
from collections.abc import Sequence
from itertools import pairwise
from signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal
from typing import NamedTuple, NoReturn

from echofactory.cli.naming import useConsoleNames
from echofactory.cli.streams import prepareStreams, printError
from echofactory.values.printable import printable


class Subcommand(NamedTuple):
    """
    A subcommand.

    @ivar arguments: what follows its name.
    @ivar summary: one line of the help.
    @ivar twistd: the command of C{twistd} that it is short for; empty: none.
    """

    name: str
    arguments: str
    summary: str
    twistd: str = ""


SUBCOMMANDS = (
    Subcommand(
        "client",
        "[options] [HOST PORT [CONNECTIONS]]",
        "Measure a path to an echo server. The word client can be left out.",
    ),
    Subcommand(
        "serve",
        "[options] [HOST PORT]",
        "Run an echo server in the foreground.",
        "multiecho",
    ),
    Subcommand("report", "[options] FILE...", "Show and compare saved results."),
    Subcommand(
        "monitor",
        "[options] [HOST PORT [CONNECTIONS]]",
        "Keep a few connections open, and serve metrics about them.",
        "multiecho-client",
    ),
)

HEAD = (
    "Open connections to an echo server, check that every byte comes back, and report\n"
    "how fast and how reliably it did."
)
"""What the command is for."""

EXAMPLES = """\
echofactory serve 127.0.0.1 7007
    an echo server on port 7007
echofactory 127.0.0.1 7007 100 --size 1k --count 1000 --json run.json
    100 connections; each sends 1000 generated messages of 1 KiB
echofactory report run.json
    the report of that run again
"""


def helpText() -> str:
    """Return the help of the command: its subcommands, and how to go on."""
    lines = [
        "Usage: echofactory [client] [options] [HOST PORT [CONNECTIONS]]",
        *(f"       echofactory {each.name} {each.arguments}" for each in SUBCOMMANDS[1:]),
        "",
        HEAD,
        "",
        "Commands:",
        *(f"  {each.name:8} {each.summary}" for each in SUBCOMMANDS),
        "",
        "Options:",
        "  --help     Show this help and exit. After a command: show its options.",
        "  --version  Show the versions and exit.",
        "",
        "The options of the client: echofactory client --help",
        "",
        "Examples:",
        *(f"  {line}" for line in EXAMPLES.splitlines()),
    ]
    return "\n".join(lines)


_OTHER_WORDS = {
    "compare": "report",
    "help": "--help",
    "listen": "serve",
    "measure": "client",
    "merge": "report --merge",
    "probe": "monitor",
    "run": "client",
    "show": "report",
    "version": "--version",
    "watch": "monitor",
}
"""What other programs call a command, and what it is called here."""


def _meant(word: str) -> str:
    """Return the command that a word probably stands for; empty: there is none."""
    word = word.lower()
    if word in _OTHER_WORDS:
        return _OTHER_WORDS[word]
    close = difflib.get_close_matches(word, [each.name for each in SUBCOMMANDS], n=1)
    return close[0] if close else ""


def _canBeHost(words: Sequence[str]) -> bool:
    """Tell whether the first word can be HOST: every argument after it is a number."""
    if len(words) > 1 and words[1].isdecimal():
        return True
    # A word after an option can be the value of that option.
    arguments = [
        word
        for before, word in pairwise(words)
        if not word.startswith("-") and (not before.startswith("-") or "=" in before)
    ]
    return bool(arguments) and all(map(str.isdecimal, arguments))


def refusal(words: Sequence[str]) -> str:
    """Return why the first word is neither a command nor HOST; empty: it can be."""
    if not words or words[0].startswith("-"):
        return ""
    first, names = words[0], [each.name for each in SUBCOMMANDS]
    if first in names:
        return ""
    meant = _meant(first)
    if meant and not _canBeHost(words):
        return f"{first!r} is not a command; did you mean echofactory {meant}?"
    # The client explains HOST:PORT.
    if len(words) > 1 or ":" in first:
        return ""
    if first.endswith((".json", ".jsonl")):
        return f"{first!r} is not a command; did you mean echofactory report {first}?"
    return f"{first!r}: give HOST and PORT, or a command: {', '.join(names)}"


def _twistd(command: str, words: Sequence[str]) -> NoReturn:
    """Run a command of C{twistd} in the foreground, without a pid file."""
    from twisted.scripts.twistd import run

    sys.argv[1:] = ["--nodaemon", "--pidfile=", command, *words]
    run()
    sys.exit(0)


def main() -> NoReturn:
    """
    Run the command.

    @raise SystemExit: always, with the exit status of the program that was started.
    """
    # Until there is something to report, Ctrl-C ends the process without a traceback.
    if getsignal(SIGINT) is default_int_handler:
        signal(SIGINT, SIG_DFL)
    useConsoleNames()
    prepareStreams()
    words = sys.argv[1:]
    first = words[0] if words else ""
    if first in ("--help", "-h"):
        print(helpText())
        sys.exit(0)
    if first == "--version":
        from echofactory.cli.versions import versionText

        print(versionText())
        sys.exit(0)
    if reason := refusal(words):
        printError(f"echofactory: {printable(reason)} (see --help)")
        sys.exit(2)
    chosen = next((each for each in SUBCOMMANDS if each.name == first), None)
    if chosen is not None:
        words = sys.argv[1:] = words[1:]
    if chosen is not None and chosen.twistd:
        _twistd(chosen.twistd, words)
    if chosen is not None and chosen.name == "report":
        from echofactory.cli.report import main as run
    else:
        from echofactory.cli.client import main as run
    run()
