"""
The command C{echofactory}: which program it starts, how that program is named, and what it
loads to answer.
"""

import subprocess
import sys
from importlib.metadata import entry_points

import pytest
from programs import LIMIT, untraced
from shell_programs import SHELL_PROGRAMS, ShellProgram

from echofactory._version import __version__
from echofactory.cli.main import EXAMPLES, helpText, main, refusal
from echofactory.cli.naming import consoleProgram, consoleText

COMMAND = [sys.executable, "-m", "echofactory"]

programs = pytest.mark.parametrize(
    "program", SHELL_PROGRAMS, ids=lambda program: str(program.subcommand.name)
)


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [*COMMAND, *words],
        capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def loaded(code: str, *modules: str) -> set[str]:
    """Return which of these modules a program in Python has loaded at its end."""
    ending = f"import sys; print('loaded', *(set({modules!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{ending}"],
        capture_output=True, text=True, timeout=LIMIT, check=True, env=untraced(),
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split()[1:])


def test_the_console_script() -> None:
    """It is this function."""
    (script,) = entry_points(group="console_scripts", name="echofactory")
    assert script.load() is main


class TestHelp:
    """What a new user reads first."""

    def test_it_teaches_the_subcommands(self) -> None:
        """It fits 80 columns, and is short."""
        text = helpText()
        assert max(map(len, text.splitlines())) <= 80
        assert len(text.splitlines()) <= 30
        for program in SHELL_PROGRAMS[1:]:
            name, arguments, summary, _ = program.subcommand
            assert f"echofactory {name} {arguments}\n" in text
            assert f"  {name:8} {summary}\n" in text

    @programs
    def test_the_arguments_are_those_of_the_program(self, program: ShellProgram) -> None:
        """They are declared in both places, because the help loads no program."""
        assert program.options.synopsis.endswith(program.subcommand.arguments)

    @programs
    def test_programs_are_named_as_they_were_started(self, program: ShellProgram) -> None:
        """The help of a subcommand has the commands as a user of C{echofactory} types them."""
        done = run(program.subcommand.name, "--help")
        assert (done.returncode, done.stderr) == (0, "")
        name = consoleProgram(program.options.program)
        assert done.stdout.startswith(f"Usage: {name} [options]")
        assert "python -m" not in done.stdout
        assert "twistd" not in done.stdout
        # A process that was started otherwise has the other names.
        assert program.options.examples.splitlines()[0] in str(program.options())

    def test_the_examples_are_accepted(self) -> None:
        """Of this help; those of the programs have their own tests."""
        commands = [line.split() for line in EXAMPLES.splitlines() if line[0] != " "]
        by = {each.subcommand.name: each for each in SHELL_PROGRAMS}
        for _, first, *words in commands:
            if first == "report":
                continue
            named = first in by
            given = words if named else [first, *words]
            by[first if named else "client"].options().parseOptions(given)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["server", "127.0.0.1", "7"], "'server' is not a command; did you mean echofactory s"),
        (
            ["127.0.0.1"],
            "'127.0.0.1': give HOST and PORT, or a command: client, serve, report, monitor",
        ),
        (["\x1b[2J"], r"'\x1b[2J': give HOST and PORT, or a command: client, serve, report,"),
        (["--sise", "5"], "option --sise not recognized; did you mean --size?"),
        (["client", "reports", "7", "-n", "x"], "--connections: 'x' is not a whole number"),
        (["reports", "7", "-n", "x"], "--connections: 'x' is not a whole number"),
    ],
)
def test_mistakes(words: list[str], line: str) -> None:
    """One line, and exit status 2. A host that resembles a command is a host, with a port."""
    done = run(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"echofactory: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        ("server", "serve"),
        ("SERVE", "serve"),
        ("servr --trace none", "serve"),
        ("server --workers 4", "serve"),
        ("server --listen tcp:7 --max-connections 100", "serve"),
        ("server 127.0.0.1 7007", "serve"),
        ("server --trace none 127.0.0.1 7007", "serve"),
        ("server --workers=2 127.0.0.1 7007", "serve"),
        ("reports a.json", "report"),
        ("compare a.json b.json", "report"),
        ("merge a.json b.json", "report --merge"),
        ("help", "--help"),
        ("a.json", "report a.json"),
    ],
)
def test_a_word_that_resembles_a_command(words: str, meant: str) -> None:
    """The line has the command that was probably meant."""
    first = words.partition(" ")[0]
    said = f"{first!r} is not a command; did you mean echofactory {meant}?"
    assert refusal(words.split()) == said


@pytest.mark.parametrize(
    "words",
    [
        "server 7007",
        "server 7007 100",
        "server 7007 --message hello",
        "server --trace none 7007",
        "server --bind 127.0.0.1 7007 100",
        "compare --size=5 7007",
        "127.0.0.1:7",
        "--size 5 server 7007",
        "serve",
    ],
)
def test_a_host_or_a_command(words: str) -> None:
    """A host can have a name that resembles a command, if a port follows it."""
    assert refusal(words.split()) == ""


@pytest.mark.parametrize(
    ("words", "start"),
    [
        (["report", "nowhere.json"], "echofactory report: 'nowhere.json': "),
        (["serve", "--drain", "x"], "echofactory serve: --drain: 'x' is not a duration"),
        (["serve", "--listen", "tcp:x"], "echofactory serve: --listen: tcp:x: 'x' is not"),
        (["monitor"], "echofactory monitor: nothing to connect to: "),
        (["client", "127.0.0.1", "7", "--expect", "p99<+5%"], "echofactory: --expect: "),
    ],
)
def test_each_program_names_itself(words: list[str], start: str) -> None:
    """Its errors begin with what the user typed, and name no other way to start it."""
    done = run(*words)
    assert done.returncode == 2
    assert done.stderr.startswith(start)
    assert "python -m" not in done.stderr


def test_names_that_begin_alike() -> None:
    """The monitor's command begins with the server's."""
    text = "twistd -n multiecho-client, twistd -n multiecho, python -m echofactory.report"
    assert consoleText(text) == "echofactory monitor, echofactory serve, echofactory report"


class TestWhatIsLoaded:
    """A short answer is quick, and a run loads nothing that it does not use."""

    @pytest.mark.parametrize("word", ["--version", "--help"])
    def test_a_short_answer(self, word: str) -> None:
        """It needs no reactor."""
        code = (
            "import sys\n"
            "from echofactory.cli.main import main\n"
            f"sys.argv = ['echofactory', {word!r}]\n"
            "try: main()\n"
            "except SystemExit as end: assert end.code == 0"
        )
        heavy = ("OpenSSL", "asyncio", "cryptography", "twisted.internet", "ssl")
        assert loaded(code, *heavy) == set()

    def test_the_client(self) -> None:
        """Plots, pages, the live view and the status load when they are asked for."""
        late = (
            "jsonschema", "matplotlib", "prometheus_client", "rich", "twisted.web.server",
            "echofactory.status.web",
        )  # fmt: skip
        assert loaded("import echofactory.cli.client", *late) == set()

    def test_the_fixture(self) -> None:
        """Every pytest of an environment with echofactory loads it."""
        heavy = ("twisted", "OpenSSL", "asyncio", "hdrh")
        assert loaded("import echofactory.testing", *heavy) == set()


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It is the same line as each program's."""
    with pytest.raises(SystemExit):
        SHELL_PROGRAMS[0].options().parseOptions(["--version"])
    line = capsys.readouterr().out
    assert line.startswith(f"echofactory {__version__} (Twisted ")
    assert run("--version").stdout == line
