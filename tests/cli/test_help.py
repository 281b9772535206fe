"""
The help of each program, and what names it.
"""

import pytest

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.options import OTHER, CommandOptions
from echofactory.cli.report import ReportOptions
from echofactory.cli.server import ServerOptions

PROGRAMS = [ClientOptions, MonitorOptions, ReportOptions, ServerOptions]


@pytest.mark.parametrize("options", PROGRAMS)
def test_the_help_groups_every_option(options: type[CommandOptions]) -> None:
    """Each has a place in one group, except those of every program and of the fast lane."""
    grouped = options.grouped()
    assert {option.name for option in grouped.pop(OTHER)} <= {"help", "version", "no-express"}
    names = [option.name for each in grouped.values() for option in each]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("options", PROGRAMS)
@pytest.mark.parametrize("width", [40, 80, 200])
def test_both_forms_of_the_help_fit(options: type[CommandOptions], width: int) -> None:
    """They begin with an example. The short form is shorter, and names every option."""
    full, short = options().getUsage(width), options().summary(width)
    for text in (full, short):
        assert f"Example: {options.examples.splitlines()[0]}" in text
        assert all(f"--{option.name}" in text for option in options.listed())
    assert len(short.splitlines()) < len(full.splitlines()) / 2
    described = full.partition("\nExamples:")[0].splitlines()[1:]
    assert max(map(len, described)) <= max(min(width, 80), 48)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("--conections", "--connections"), ("--sise", "--size"), ("--qqqq", None)],
)
def test_a_mistyped_option(
    capsys: pytest.CaptureFixture[str], word: str, meant: str | None
) -> None:
    """The line asks for the option that was probably meant, and names the help."""
    with pytest.raises(SystemExit) as caught:
        ClientOptions().parseOptions([word, "5"])
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    question = f"; did you mean {meant}?" if meant else ""
    assert line == f"echofactory.client: option {word} not recognized{question} (see --help)"


def test_the_short_help(capsys: pytest.CaptureFixture[str]) -> None:
    """-h prints it."""
    with pytest.raises(SystemExit) as caught:
        ClientOptions().parseOptions(["-h"])
    assert caught.value.code == 0
    assert "-n, --connections N  --connect-rate RATE" in capsys.readouterr().out
