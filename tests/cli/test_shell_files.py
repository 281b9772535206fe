"""
The completions and the manual pages: up to date, and what real shells and C{man} make of them.
"""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from man_pages import manPages
from programs import LIMIT, environment
from shell_files import SHARE, shellFiles
from shell_programs import SHELL_PROGRAMS, ShellProgram, words
from terminals import Terminal, shellOnTerminal

FILES = shellFiles()
BASH = SHARE / "bash-completion/completions/echofactory"
FISH = SHARE / "fish/vendor_completions.d/echofactory.fish"
ZSH = SHARE / "zsh/site-functions"

programs = pytest.mark.parametrize(
    "program", SHELL_PROGRAMS, ids=lambda program: str(program.subcommand.name)
)


def needs(command: str) -> pytest.MarkDecorator:
    """Skip a test of a command that this machine does not have; C{.ci/run} installs it."""
    return pytest.mark.skipif(shutil.which(command) is None, reason=f"needs {command}")


def names(program: ShellProgram) -> set[str]:
    """Return every word that is an option of a program."""
    return {word for option in program.listed() for word in words(option)}


@pytest.mark.parametrize("name", FILES)
def test_the_files_are_up_to_date(name: str) -> None:
    """Each is what the script writes, to the letter."""
    assert (SHARE / name).read_text("utf-8") == FILES[name], (
        "run: python tests/support/shell_files.py"
    )


def test_there_is_no_other_file() -> None:
    """Everything in share/ is installed, and everything is generated."""
    assert {str(p.relative_to(SHARE)) for p in SHARE.rglob("*") if p.is_file()} == set(FILES)


@programs
def test_choices_are_accepted(program: ShellProgram) -> None:
    """The completions offer nothing that the parser of the option refuses."""
    for option in program.valued():
        for choice in option.choices:
            option.parse(choice)


@needs("bash")
class TestBash:
    """The completion in bash."""

    def complete(self, folder: Path, *typed: str) -> list[str]:
        """Return what bash offers for the last word."""
        script = (
            f"source {shlex.quote(str(BASH))}; complete -p echofactory >&2;"
            f" COMP_WORDS=({shlex.join(['echofactory', *typed])}); COMP_CWORD={len(typed)};"
            ' _echofactory; printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "--norc", "-c", script],
            cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        assert done.stderr == "complete -F _echofactory echofactory\n"
        return done.stdout.split("\n")[:-1]

    @programs
    def test_options(self, tmp_path: Path, program: ShellProgram) -> None:
        """Every option of each subcommand is offered, and no other word."""
        name = program.subcommand.name
        assert set(self.complete(tmp_path, name, "-")) == names(program)

    def test_the_client_needs_no_word(self, tmp_path: Path) -> None:
        """Without a subcommand, the options are the client's."""
        assert set(self.complete(tmp_path, "-")) == names(SHELL_PROGRAMS[0])
        assert self.complete(tmp_path, "--qui") == ["--quiet"]

    def test_subcommands(self, tmp_path: Path) -> None:
        """They are offered as the first word only."""
        offered = self.complete(tmp_path, "")
        assert {each.subcommand.name for each in SHELL_PROGRAMS} <= set(offered)
        assert "serve" not in self.complete(tmp_path, "127.0.0.1", "")

    @programs
    def test_choices(self, tmp_path: Path, program: ShellProgram) -> None:
        """The values of an option that has choices, in both forms."""
        for option in program.valued():
            if option.choices:
                typed = [program.subcommand.name, f"--{option.name}"]
                assert self.complete(tmp_path, *typed, "") == list(option.choices)
                # As bash takes --option= and --option=v apart.
                assert self.complete(tmp_path, *typed, "=") == list(option.choices)
                (first, *_) = option.choices
                assert first in self.complete(tmp_path, *typed, "=", first[0])

    @programs
    def test_files(self, tmp_path: Path, program: ShellProgram) -> None:
        """Files where the value is a file, and nothing where it is something else."""
        (tmp_path / "my run.json").touch()
        for option in program.valued():
            typed = [program.subcommand.name, f"--{option.name}", "my"]
            offered = self.complete(tmp_path, *typed)
            assert offered == (["my run.json"] if option.isFile else [""]), option.name

    def test_files_are_the_arguments_of_the_report(self, tmp_path: Path) -> None:
        """Every argument of it."""
        (tmp_path / "run.json").touch()
        assert self.complete(tmp_path, "report", "ru") == ["run.json"]
        assert self.complete(tmp_path, "report", "run.json", "ru") == ["run.json"]

    def test_on_a_terminal(self, tmp_path: Path) -> None:
        """What Tab adds to a line."""
        with shellOnTerminal(["bash", "--norc", "--noprofile", "-i"], tmp_path) as shell:
            shell.press(
                f"PS1='re''ady> '; source {shlex.quote(str(BASH))};"
                """ bind -x '"\\C-xb": echo "<$READLINE_LINE>"'\n"""
            )
            tabs(tmp_path, shell)


@needs("zsh")
class TestZsh:
    """The completion in zsh."""

    def start(self, shell: Terminal) -> None:
        """
        Load the completion as zsh finds it in its C{fpath}. The shell reads keys as such from
        when it shows its prompt.
        """
        shell.press(
            f"PROMPT='re''ady> '; fpath=({shlex.quote(str(ZSH))} $fpath);"
            " autoload -Uz compinit; compinit -u -D;"
            " show() { print -r -- \"<$BUFFER>\" }; zle -N show; bindkey '^Xb' show\n"
        )

    def test_on_a_terminal(self, tmp_path: Path) -> None:
        """What Tab adds to a line."""
        with shellOnTerminal(["zsh", "-f", "-i"], tmp_path) as shell:
            self.start(shell)
            tabs(tmp_path, shell)

    @programs
    def test_options(self, tmp_path: Path, program: ShellProgram) -> None:
        """Every option of each subcommand is offered, with its first sentence."""
        offered = tmp_path / "offered"
        with shellOnTerminal(["zsh", "-f", "-i"], tmp_path) as shell:
            self.start(shell)
            shell.waitFor("ready> ")
            # Writes down what the completion adds, instead of a list on the terminal.
            shell.press(
                "compadd() { [[ ${@[(I)-[OAD]*]} -gt 0 ]] || { local -a found;"
                f' builtin compadd -O found "$@"; print -rl -- $found >>{offered}; }};'
                ' builtin compadd "$@" }; zstyle ":completion:*" verbose no; LISTMAX=-1\n'
            )
            shell.waitFor("ready> ")
            shell.press(f"echofactory {program.subcommand.name} -\t\x15echo en''d\n")
            shell.waitFor("end")
        found = {line.removesuffix("=") for line in offered.read_text().split()}
        assert found == names(program)


def tabs(folder: Path, shell: Terminal) -> None:
    """
    Check what Tab completes: a subcommand, an option, a choice and a file. C{Ctrl-X b} shows
    the line, because a shell writes only what changes; C{Ctrl-U} clears it.
    """
    shell.waitFor("ready> ")
    (folder / "run.json").touch()
    for line, completed in (
        ("echofactory serv", "echofactory serve "),
        ("echofactory serve --max-c", "echofactory serve --max-connections"),
        ("echofactory serve --trace=da", "echofactory serve --trace=data"),
        ("echofactory --progress al", "echofactory --progress always"),
        ("echofactory report ru", "echofactory report run.json"),
        ("echofactory report --json ru", "echofactory report --json run.json"),
        ("echofactory client --message-file ru", "echofactory client --message-file run.json"),
    ):
        shell.press(f"{line}\t\x18b\x15")
        shell.waitFor(f"<{completed}")


@needs("fish")
class TestFish:
    """The completion in fish."""

    def complete(self, folder: Path, typed: str) -> dict[str, str]:
        """Return what fish offers for the last word, with its description."""
        script = f"source {shlex.quote(str(FISH))}; complete -C {shlex.quote(typed)}"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            cwd=folder, capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        return {
            word: told
            for word, _, told in (line.partition("\t") for line in done.stdout.splitlines())
        }

    @programs
    def test_options(self, tmp_path: Path, program: ShellProgram) -> None:
        """Every option of each subcommand is offered with its first sentence, and no other."""
        offered = self.complete(tmp_path, f"echofactory {program.subcommand.name} --")
        assert set(offered) == {f"--{option.name}" for option in program.listed()}
        assert offered["--help"] == "Show this help and exit"

    def test_subcommands(self, tmp_path: Path) -> None:
        """They are offered as the first word only."""
        assert self.complete(tmp_path, "echofactory ser") == {
            "serve": "Run an echo server in the foreground"
        }
        assert self.complete(tmp_path, "echofactory 127.0.0.1 ser") == {}
        assert "--quiet" in self.complete(tmp_path, "echofactory --q")

    @programs
    def test_choices_and_files(self, tmp_path: Path, program: ShellProgram) -> None:
        """The values of each option."""
        (tmp_path / "zz.json").touch()
        for option in program.valued():
            line = f"echofactory {program.subcommand.name} --{option.name}"
            if option.choices:
                assert set(self.complete(tmp_path, f"{line} ")) == set(option.choices)
            found = self.complete(tmp_path, f"{line} zz")
            assert set(found) == ({"zz.json"} if option.isFile else set()), option.name

    def test_files_are_the_arguments_of_the_report(self, tmp_path: Path) -> None:
        """Only of the report."""
        (tmp_path / "zz.json").touch()
        assert set(self.complete(tmp_path, "echofactory report zz")) == {"zz.json"}
        assert self.complete(tmp_path, "echofactory serve zz") == {}


class TestManPages:
    """The manual pages."""

    @programs
    def test_every_option_has_its_place(self, program: ShellProgram) -> None:
        """Each is in the page of its program, with its whole help."""
        name = program.subcommand.name
        page = manPages()["echofactory.1" if name == "client" else f"echofactory-{name}.1"]
        tags = re.findall(r"^\.TP\n(\\fB\\-.*)$", page, re.MULTILINE)
        shown = [re.sub(r"\\f.", "", tag).replace("\\-", "-") for tag in tags]
        assert sorted(shown) == sorted(option.words for option in program.listed())

    @needs("man")
    @pytest.mark.parametrize("name", manPages())
    def test_man_shows_them_without_a_warning(self, name: str) -> None:
        """In 80 columns, and with the commands as the console script has them."""
        done = subprocess.run(
            ["man", "--warnings", "--local-file", str(SHARE / "man/man1" / name)],
            env=environment(LC_ALL="C.UTF-8", MANWIDTH="80", MANPAGER="cat"),
            capture_output=True, text=True, timeout=LIMIT, check=True,
        )  # fmt: skip
        assert done.stderr == ""
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert "SYNOPSIS" in done.stdout
        assert "python -m" not in done.stdout
