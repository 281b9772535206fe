"""
Options as declarations, and the base class of the command lines.
"""

import getopt
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, TypeVar

from twisted.python import usage

from echofactory.cli.mistakes import explained
from echofactory.cli.naming import asStarted, programAsStarted
from echofactory.cli.streams import printError
from echofactory.cli.versions import versionText
from echofactory.values.printable import printable

T = TypeVar("T")


@dataclass(frozen=True)
class Option:
    """
    An option that takes a value.
    """

    name: str
    """The long name, without dashes."""
    metavar: str
    """What the help calls the value: its unit or its form, such as C{DURATION}."""
    parse: Callable[[str], Any]
    """Reads the value. It raises C{ValueError}, whose text follows "is" in a message, such
    as "not a duration such as 250ms, 10s, 2m or 1h"."""
    default: str | None
    """The value of an option that is not given, as text; C{None}: there is no value."""
    help: str
    """A noun phrase or an imperative, then units and limits. Without default and example."""
    short: str | None = None
    """The short name, a letter."""
    defaultHelp: str = ""
    """If there is no C{default}: what the help says of an option that is not given."""
    example: str = ""
    """A value, for the help."""
    repeated: bool = False
    """Whether the option can be repeated. If so, its value is a tuple."""

    @property
    def words(self) -> str:
        """The option as it is written: C{-n, --connections N}."""
        return f"{_names(self)} {self.metavar}"

    @property
    def namesAPlace(self) -> bool:
        """Whether its value is a file or an endpoint, and there can be only one."""
        return self.metavar in ("FILE", "ENDPOINT") and not self.repeated

    @property
    def isFile(self) -> bool:
        """Whether its value is a file."""
        return self.metavar == "FILE"

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that its value can be: C{none|connections|data} has three."""
        words = self.metavar.split("|")
        return tuple(word for word in words if word.islower() and word.isalpha())


@dataclass(frozen=True)
class Flag:
    """
    An option without a value.
    """

    name: str
    """The long name, without dashes."""
    help: str
    """An imperative."""
    short: str | None = None
    """The short name, a letter."""
    default: ClassVar[None] = None
    defaultHelp: ClassVar[str] = ""
    example: ClassVar[str] = ""

    @property
    def words(self) -> str:
        """The flag as it is written: C{-q, --quiet}."""
        return _names(self)


def _names(option: Option | Flag) -> str:
    return f"-{option.short}, --{option.name}" if option.short else f"--{option.name}"


_COMMON_FLAGS = (
    Flag("help", "Show this help and exit. -h shows the names of the options only."),
    Flag("version", "Show the versions and exit."),
)
"""Those that L{CommandOptions} handles itself."""

OTHER = "Other"
"""The heading, in the help, of options that no group names."""


class CommandOptions(usage.Options):
    """
    A command line: its options are declared in C{parameters} and C{flags}. Options can stand
    before and after the arguments. A mistake is one line on stderr and exit status 2.

    @cvar program: the name that begins the line on stderr. An instance has the name with which
        this process was started (L{naming<echofactory.cli.naming>}).
    @cvar synopsis: the command line, or its part after the name of a C{twistd} command.
    @cvar examples: each is a line with a command and a line that explains it. The help begins
        with the first command, and ends with all of them.
    @cvar groups: by the heading in the help, the names of the options.
    @cvar parameters: the options that take a value.
    @cvar flags: the options without a value.
    @ivar given: whether the command line had any words.
    """

    program: str
    synopsis: str
    examples: ClassVar[str]
    groups: ClassVar[dict[str, tuple[str, ...]]] = {}
    parameters: ClassVar[tuple[Option, ...]] = ()
    flags: ClassVar[tuple[Flag, ...]] = ()
    # What usage.Options reads, with those of the base classes.
    optParameters: ClassVar[list[list[str | None]]] = []
    optFlags: ClassVar[list[list[str | None]]] = []

    def __init_subclass__(cls) -> None:
        """Translate the declarations for L{usage.Options}."""
        super().__init_subclass__()
        if "parameters" in vars(cls):
            cls.optParameters = [[o.name, o.short, o.default, o.help] for o in cls.parameters]
        if "flags" in vars(cls):
            cls.optFlags = [[flag.name, flag.short, flag.help] for flag in cls.flags]

    def __init__(self) -> None:
        super().__init__()
        self.program = programAsStarted(self.program)
        for option in self.parameters:
            if option.repeated:
                self[option.name] = []

    @classmethod
    def listed(cls) -> list[Option | Flag]:
        """Return every option by name, C{--help} and C{--version} too."""
        return sorted(
            [*cls.parameters, *cls.flags, *_COMMON_FLAGS], key=lambda option: option.name
        )

    @classmethod
    def option(cls, name: str) -> Option:
        """Return the declaration of an option that takes a value."""
        return next(option for option in cls.parameters if option.name == name)

    def parseOptions(self, options: list[str] | None = None) -> None:
        """
        @raise SystemExit: with status 2, after a line that says what is wrong.
        """
        words = sys.argv[1:] if options is None else options
        self.given = bool(words)
        try:
            try:
                found, arguments = getopt.gnu_getopt(words, self.shortOpt, self.longOpt)
            except getopt.GetoptError as error:
                hasPort = "HOST PORT" in self.synopsis
                raise usage.UsageError(explained(error, self.listed(), hasPort)) from None
            self._refuseTwice([option for option, _ in found])
            ordered = [word for pair in found for word in self._words(*pair)]
            super().parseOptions([*ordered, "--", *arguments])
        except usage.UsageError as error:
            self._exit(f"{error} (see --help)")

    def _refuseTwice(self, given: list[str]) -> None:
        """
        If an option is given twice, the last value counts. But a file or an endpoint is not
        dropped silently.
        """
        for option in self.parameters:
            if option.namesAPlace and given.count(f"--{option.name}") > 1:
                raise usage.UsageError(f"--{option.name}: given twice")

    def _words(self, word: str, value: str) -> list[str]:
        """
        Keep the value of an option that can be repeated.

        @return: what L{usage.Options} shall parse: any other option, as it can be taken
            apart again.
        """
        name = word.removeprefix("--")
        if f"{name}=" in self.longOpt:
            if self.option(name).repeated:
                self[name].append(value)
                return []
            return [f"{word}={value}"]
        if word[1] != "-" and f"{word[1]}:" in self.shortOpt:
            return [word, value]
        return [word]

    @classmethod
    def grouped(cls) -> dict[str, list[Option | Flag]]:
        """Return every option, by the heading of its group, in the order of the groups."""
        known = {option.name: option for option in cls.listed()}
        found = {
            heading: [known.pop(name) for name in names]
            for heading, names in cls.groups.items()
        }
        return {**found, OTHER: list(known.values())}

    def getUsage(self, width: int | None = None) -> str:
        """Return an example, what the program does, the options, and more examples."""
        width = _widthOf(width)
        lines = self._lead(width)
        for heading, options in self.grouped().items():
            lines += ["", f"{heading}:"]
            for option in options:
                indent = "  " if option.short else "      "
                lines += [
                    f"{indent}{option.words}",
                    *_wrapped(asStarted(helpText(option)), width, 10),
                ]
        lines += ["", "Examples:", textwrap.indent(asStarted(self.examples), "  ")]
        return "\n".join(lines)

    def summary(self, width: int | None = None) -> str:
        """Return the usage, an example, and the names of the options."""
        width = _widthOf(width)
        lines = [self.getSynopsis(), *self._lead(width), ""]
        for heading, options in self.grouped().items():
            words = "  ".join(option.words.replace(" ", "\0") for option in options)
            lines += [f"{heading}:", *_wrapped(words, width, 4)]
        return "\n".join([*lines, "", "--help explains them."]).replace("\0", " ")

    def _lead(self, width: int) -> list[str]:
        """Return the first lines of the help."""
        return [
            f"Example: {asStarted(self.examples.splitlines()[0])}",
            "",
            *_wrapped(asStarted(str(getattr(self, "longdesc", ""))), width, 0),
        ]

    def getSynopsis(self) -> str:
        """Return the line that begins the help."""
        if self.program == type(self).program:
            return str(super().getSynopsis())
        arguments = self.synopsis[self.synopsis.index("[options]") :]
        return f"Usage: {self.program} {arguments}"

    def refuse(self, option: str, text: str) -> NoReturn:
        """
        Say what is wrong with an option that could be read.

        @raise SystemExit: with status 2.
        """
        self._exit(f"--{option}: {text}")

    def _exit(self, text: str) -> NoReturn:
        printError(f"{self.program}: {printable(asStarted(text))}")
        raise SystemExit(2)

    def value(self, name: str) -> Any:
        """
        Return what the parser of an option makes of its text. If the option can be repeated,
        return a tuple. The type depends on the option, and the settings check it.

        @return: C{None} if the option was not given and does not have a default.
        @raise usage.UsageError: naming the option, the text and what is accepted.
        """
        option = self.option(name)
        given = self[name]
        if option.repeated:
            return tuple(readValue(f"--{name}", text, option.parse) for text in given)
        return None if given is None else readValue(f"--{name}", given, option.parse)

    def built(self, make: Callable[..., T], options: dict[str, str], **others: object) -> T:
        """
        Build settings from options. The settings check the values; this translates what they
        refuse.

        @param make: the class of the settings.
        @param options: the option or the flag for each field. If an option has no value, the
            field has its own default.
        @param others: the values of other fields.
        @raise usage.UsageError: naming the option, its text and what is accepted.
        """
        fields: dict[str, Any] = {}
        for field, name in options.items():
            flag = any(flag.name == name for flag in self.flags)
            value = bool(self[name]) if flag else self.value(name)
            if value not in (None, ()):
                fields[field] = value
        try:
            return make(**fields, **others)
        except ValueError as error:
            # A message of the settings begins with the field, and usually the value.
            field, _, text = str(error).partition(": ")
            if field not in options:
                raise
            shown = repr(fields.get(field))
            if text.startswith(shown):
                text = repr(self[options[field]]) + text.removeprefix(shown)
            # It writes another field as in a call: count=.
            for other, name in options.items():
                text = re.sub(rf"(?<!\S){other}=(?!\w)", f"--{name}", text)
            raise usage.UsageError(f"--{options[field]}: {text}") from None

    def opt_version(self) -> NoReturn:
        """
        Show the versions and exit.
        """
        print(versionText())
        raise SystemExit(0)

    def opt_help(self) -> NoReturn:
        """
        Show this help and exit.
        """
        print(self)
        raise SystemExit(0)

    def opt_h(self) -> NoReturn:
        """
        Show the names of the options and exit.
        """
        print(self.summary())
        raise SystemExit(0)


def _widthOf(width: int | None) -> int:
    """Return the columns of the help: at most 80, and those of the terminal."""
    return min(width or shutil.get_terminal_size().columns, 80)


def _wrapped(text: str, width: int, indent: int) -> Iterator[str]:
    for line in textwrap.wrap(
        text, max(width - indent, 30), break_long_words=False, break_on_hyphens=False
    ):
        yield " " * indent + line


def helpText(option: Option | Flag) -> str:
    """Return the help of an option, with its default and its example."""
    text = option.help
    if default := option.default or option.defaultHelp:
        text += f" Default: {default}."
    if option.example:
        text += f" Example: --{option.name} {option.example}"
    return text


def readValue(name: str, text: str, parse: Callable[[str], T]) -> T:
    """
    Return what a parser makes of a text.

    @param name: the option or the argument, as the user knows it.
    @raise usage.UsageError: naming it, the text and what is accepted.
    """
    try:
        return parse(text)
    except ValueError as error:
        raise usage.UsageError(f"{name}: {text!r} is {error}") from None
