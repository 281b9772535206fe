"""
What the documents show is there, and their commands do what they say.
"""

import ast
import os
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from documents import (
    EXAMPLES,
    PAGES,
    ROOT,
    Session,
    anchors,
    blocks,
    links,
    matches,
    missing,
    ours,
    prose,
    steps,
)
from peers import Certificates

from echofactory.cli.clientoptions import ClientOptions
from echofactory.cli.monitor import MonitorOptions
from echofactory.cli.options import CommandOptions
from echofactory.cli.report import ReportOptions
from echofactory.cli.server import ServerOptions

named = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))

# Options in the prose that belong to programs of others.
OTHERS = {
    "build-arg", "data-integrity", "from", "gid", "health-cmd", "into",
    "latency-correction", "logfile", "network", "no-healthcheck", "pidfile", "reactor",
    "rounds", "strict", "time", "uid",
}  # fmt: skip


PROGRAMS: dict[str, type[CommandOptions]] = {
    "multiecho": ServerOptions,
    "multiecho-client": MonitorOptions,
    "echofactory.client": ClientOptions,
    "echofactory.report": ReportOptions,
}


def optionsOf(program: str) -> set[str]:
    """Return the long options of a program."""
    return {name.rstrip("=") for name in PROGRAMS[program]().longOpt}


def test_the_length_of_the_readme() -> None:
    """It is one screen and a half."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def test_the_readme_names_every_page() -> None:
    """Its table of contents is complete."""
    pages = {page.relative_to(ROOT).as_posix() for page in PAGES} - {"README.md"}
    assert pages <= {file for file, _ in links(ROOT / "README.md")}


@named
def test_what_programs_import(page: Path) -> None:
    """Each Python block parses, and each name is where the block imports it from."""
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), alias.name
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    import_module(alias.name)


def test_cells_of_the_comparison() -> None:
    """Each says where it is from. The table of the questions is in our words."""
    text = (ROOT / "docs" / "comparison.md").read_text("utf-8")
    _, _, tables = text.partition("## What they speak")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in re.findall(r"^\|.*\|$", tables, re.MULTILINE)
    ]
    cells = [cell for row in rows if row[0] not in ("tool", "---") for cell in row[1:] if cell]
    assert len(cells) > 50
    unsourced = [cell for cell in cells if "](" not in cell and "][" not in cell]
    assert set(unsourced) == {"Not found"}
    named = set(re.findall(r"\]\[([^]]+)\]", text))
    assert named == set(re.findall(r"^\[([^]]+)\]: https://", text, re.MULTILINE))


@named
def test_yaml(page: Path) -> None:
    """Each YAML block parses."""
    for block in blocks(page, "yaml"):
        assert list(yaml.safe_load_all(block.text))


@named
def test_links(page: Path) -> None:
    """Each file and each heading that a page links to is there."""
    for file, anchor in links(page):
        target = page.parent / file if file else page
        assert target.exists(), file
        assert not anchor or anchor in anchors(target), f"{file}#{anchor}"


@named
def test_kinds_of_blocks(page: Path) -> None:
    """Every block says what it holds, so that no command escapes the tests."""
    fences = re.findall(r"^ *```(.*)$", page.read_text(), re.MULTILINE)
    assert set(fences[1::2]) <= {""}
    assert set(fences[::2]) <= {
        "", "console", "dockerfile", "ini", "json", "python", "sh", "text", "yaml",
    }  # fmt: skip


@named
def test_options_in_blocks(page: Path) -> None:
    """Commands that are not run are command lines that the programs accept."""
    for block in blocks(page, "sh", "text", ""):
        for line in block.text.replace("\\\n", " ").splitlines():
            if (command := ours(line)) is None:
                continue
            program, words = command
            named = {word.partition("=")[0][2:] for word in words if word.startswith("--")}
            assert named <= optionsOf(program), line
            # The report reads its files, which are not here.
            if program != "echofactory.report" and not {"help", "version"} & named:
                PROGRAMS[program]().parseOptions(words)


@named
def test_options_in_sentences(page: Path) -> None:
    """Each option that a sentence names exists."""
    known = OTHERS.union(*map(optionsOf, PROGRAMS))
    for code in re.findall(r"`([^`]+)`", prose(page)):
        assert set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", code)) <= known, code


@named
@pytest.mark.seconds
def test_commands(page: Path, folder: Path, certificates: Certificates) -> None:
    """The commands of a page, one after the other, print what the page shows."""
    if (absent := missing(page)) and "CI" not in os.environ:
        pytest.skip(f"not installed: {', '.join(absent)}")
    shutil.copy(certificates.pem, folder / "server.pem")
    shutil.copytree(certificates.trust, folder / "authority")
    for example in [*EXAMPLES.glob("*.cfg"), *EXAMPLES.glob("*.conf")]:
        shutil.copy(example, folder)
    with Session(folder) as session:
        for block in blocks(page, "console"):
            for command, shown in steps(block):
                session.run(command, shown)
        session.finish()


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("response time  44 µs  1.20 ms", "response time    1.1 s    3 us"),
        ("target\n...\nverdict  ok", "target\nrate  3\nwarning  slow\nverdict  ok"),
        ("received 61.1 MiB/s  +37.2%", "received     3 B/s  -0.1%"),
        ("messages  3 sent", "messages  9 due, 1 unsent, 8 sent"),
    ],
)
def test_output_that_matches(shown: str, said: str) -> None:
    """Figures, their units, and what a slow machine adds make no difference."""
    assert matches(shown.splitlines(), said.splitlines())


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        ("verdict  ok", "verdict  failed"),
        ("a\n...\nb", "a\nc"),
        ("response time  44 µs", "service time  44 µs"),
        ("one", "one\ntwo"),
    ],
)
def test_output_that_differs(shown: str, said: str) -> None:
    """Words, and lines that are missing or more, make a difference."""
    assert not matches(shown.splitlines(), said.splitlines())
