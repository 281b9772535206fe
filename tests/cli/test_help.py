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


@pytest.mark.parametrize(
    ("options", "word", "said"),
    [
        (ClientOptions, "-v", "option -v not recognized; did you mean --version?"),
        (ServerOptions, "-V", "option -V not recognized; did you mean --version?"),
        (ReportOptions, "-?", "option -? not recognized; did you mean --help?"),
        (ClientOptions, "-c", "option -c not recognized; did you mean --connections?"),
        (ReportOptions, "-c", "option -c not recognized; did you mean --csv?"),
        (ClientOptions, "-q", "option -q not recognized; did you mean --quiet?"),
        (MonitorOptions, "-s", "option -s not recognized; did you mean --size?"),
        (
            ReportOptions,
            "-p",
            "option -p not recognized; did you mean --percentiles or --plot?",
        ),
        (ServerOptions, "--verbose", "option --verbose not recognized; did you mean --trace?"),
        (
            ServerOptions,
            "--port",
            "option --port not recognized: give HOST and PORT as arguments, such as 127.0.0.1"
            " 7007",
        ),
        (ClientOptions, "-n", "--connections: give its value, N, such as --connections 500"),
        (
            ServerOptions,
            "--idle",
            "--idle-timeout: give its value, DURATION, such as --idle-timeout 10m",
        ),
        (ClientOptions, "--churn=1", "--churn: this option has no value"),
        (ReportOptions, "--p=1", "option --p can be --percentiles or --plot"),
        (ClientOptions, "--=5", "option -- not recognized"),
    ],
)
def test_what_is_wrong_with_an_option(
    capsys: pytest.CaptureFixture[str], options: type[CommandOptions], word: str, said: str
) -> None:
    """The line names the option that was meant, or what is missing."""
    with pytest.raises(SystemExit) as caught:
        options().parseOptions([word])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"{options.program}: {said} (see --help)\n"


def test_the_short_help(capsys: pytest.CaptureFixture[str]) -> None:
    """-h prints it."""
    with pytest.raises(SystemExit) as caught:
        ClientOptions().parseOptions(["-h"])
    assert caught.value.code == 0
    assert "-n, --connections N  --connect-rate RATE" in capsys.readouterr().out
