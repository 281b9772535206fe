"""
The declarations of the options, and what is made of them.
"""

import shlex
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
from options_page import PROGRAMS
from twisted.python import usage

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.options import CommandOptions, Flag, Option
from echofactory.cli.parsers import parseDuration, parseWhole
from echofactory.cli.server import ServerOptions
from echofactory.client.settings import Patience
from echofactory.server.settings import ServerSettings
from echofactory.values.checks import checkSeconds, checkWhole

DECLARED = [
    pytest.param(option, id=f"{program.key}-{option.name}")
    for program in PROGRAMS
    for option in program.options.parameters
]


@pytest.mark.parametrize("option", DECLARED)
def test_each_has_an_example(option: Option) -> None:
    """Its parser accepts the example, and the default."""
    (example,) = shlex.split(option.example)
    option.parse(example)
    if option.default is not None:
        assert not option.repeated
        option.parse(option.default)


@pytest.mark.parametrize("option", DECLARED)
def test_each_has_one_help(option: Option) -> None:
    """It is sentences; the default and the example are not in it."""
    assert option.help.endswith((".", ")"))
    assert "efault" not in option.help
    assert not (option.default and option.defaultHelp)


def test_defaults_are_those_of_the_settings() -> None:
    """A program without options serves and connects as the library does."""
    client = ClientOptions()
    client.parseOptions(["127.0.0.1", "7"])
    assert client.patience == Patience()
    server = ServerOptions()
    server.parseOptions([])
    assert server.settings.drain == ServerSettings().drain
    assert server.settings.limits == ServerSettings().limits


@dataclass(frozen=True)
class Settings:
    """What some options are for."""

    wait: float = 1.0
    numbers: tuple[int, ...] = ()
    quick: bool = False

    def __post_init__(self) -> None:
        checkSeconds("wait", self.wait)
        for number in self.numbers:
            checkWhole("numbers", number)
        if self.quick and self.wait > 5:
            raise ValueError("quick: not with a long wait")


class SomeOptions(CommandOptions):
    """A command line."""

    program = "some"
    examples = "some --wait 3s\n"
    parameters: ClassVar[tuple[Option, ...]] = (
        Option("wait", "DURATION", parseDuration, None, "Time.", "w", "1s", "2s"),
        Option("number", "N", parseWhole, None, "Number.", example="3", repeated=True),
    )
    flags: ClassVar[tuple[Flag, ...]] = (Flag("quick", "Hurry."),)

    def postOptions(self) -> None:
        fields = {"wait": "wait", "numbers": "number", "quick": "quick"}
        self.settings = self.built(Settings, fields)


def parsed(*words: str) -> Settings:
    """Return what a command line makes of the settings."""
    options = SomeOptions()
    options.parseOptions(list(words))
    return options.settings


def test_settings_from_options() -> None:
    """An option that is not given leaves the default of the settings."""
    assert parsed() == Settings()
    assert parsed("--quick", "-w", "250ms", "--number", "3", "--number=4", "-w2") == Settings(
        2.0, (3, 4), True
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--wait", "soon"], "--wait: 'soon' is not a duration such as"),
        (["--wait", "0s"], "--wait: '0s' is not more than 0 s"),
        (["--number", "1", "--number", "x"], "--number: 'x' is not a whole number"),
        (["--quick", "--wait", "6s"], "--quick: not with a long wait"),
    ],
)
def test_what_the_settings_refuse(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    """The line names the option, not the field, and the value as it was given."""
    with pytest.raises(SystemExit):
        parsed(*words)
    assert capsys.readouterr().err.startswith(f"some: {said}")


def test_an_error_of_another_field() -> None:
    """It is no mistake of the user's."""

    def make(**_: Any) -> None:
        raise ValueError("other: 5 is not 4")

    with pytest.raises(ValueError, match=r"^other: ") as caught:
        SomeOptions().built(make, {"wait": "wait"})
    assert not isinstance(caught.value, usage.UsageError)


def test_the_help() -> None:
    """It shows how each option is written, its default and its example."""
    assert (
        str(SomeOptions()).partition("\n\n\nOther:\n")[2]
        == """\
      --help
          Show this help and exit. -h shows the names of the options only.
      --number N
          Number. Example: --number 3
      --quick
          Hurry.
      --version
          Show the versions and exit.
  -w, --wait DURATION
          Time. Default: 1s. Example: --wait 2s

Examples:
  some --wait 3s
"""
    )
