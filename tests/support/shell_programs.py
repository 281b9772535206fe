"""
The subcommands of the command C{echofactory}, with their options, as the completions and the
manual pages need them.
"""

from typing import NamedTuple

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.main import SUBCOMMANDS, Subcommand
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.naming import consoleText
from echofactory.cli.options import CommandOptions, Flag, Option
from echofactory.cli.report import ReportOptions
from echofactory.cli.server import ServerOptions

NOTE = "Written by: python tests/support/shell_files.py"

_OPTIONS: dict[str, type[CommandOptions]] = {
    "client": ClientOptions,
    "serve": ServerOptions,
    "report": ReportOptions,
    "monitor": MonitorOptions,
}


class ShellProgram(NamedTuple):
    """
    A subcommand.

    @ivar subcommand: its name and its summary.
    @ivar options: the class that reads its command line.
    """

    subcommand: Subcommand
    options: type[CommandOptions]

    @property
    def takesFiles(self) -> bool:
        """Whether its arguments are files; otherwise, the first one is HOST."""
        return "FILE" in self.subcommand.arguments

    def listed(self) -> list[Option | Flag]:
        """Return its options by name."""
        return self.options.listed()

    def valued(self) -> list[Option]:
        """Return those of its options that take a value, by name."""
        return [option for option in self.listed() if isinstance(option, Option)]


SHELL_PROGRAMS = tuple(ShellProgram(each, _OPTIONS[each.name]) for each in SUBCOMMANDS)


def words(option: Option | Flag) -> list[str]:
    """Return what a user can type for an option: C{-n} and C{--connections}."""
    return [*([f"-{option.short}"] if option.short else []), f"--{option.name}"]


def description(option: Option | Flag) -> str:
    """Return the first sentence of an option's help, without its full stop."""
    return consoleText(option.help).partition(". ")[0].rstrip(".")
