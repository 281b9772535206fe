"""
The habits of the repository: workflows, hooks, templates, and the notes of changes.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_version import problems
from documents import ROOT

GITHUB = ROOT / ".github"
FILES = sorted([*GITHUB.rglob("*.yml"), ROOT / ".pre-commit-config.yaml"])
BLANKS = {"textarea", "input", "dropdown", "checkboxes", "markdown"}


def targets(text: str) -> set[str]:
    """Return the make targets of shell commands."""
    lines = re.findall(r"^make ([^$\n]+)$", text, re.MULTILINE)
    return {word for line in lines for word in line.split() if "=" not in word}


def required() -> set[str]:
    """Return the targets that .ci/run makes."""
    return targets((ROOT / ".ci" / "run").read_text())


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.name))
def test_each_file_parses(path: Path) -> None:
    """It is a YAML mapping."""
    assert isinstance(load(path), dict)


def test_the_targets_of_a_script() -> None:
    """Variables are no targets."""
    assert targets("export A=1\nmake test COVERAGE=1\nmake lint typecheck\n") == {
        "test", "lint", "typecheck",
    }  # fmt: skip


def test_each_target_is_in_the_makefile() -> None:
    """And there are some."""
    rules = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {"test", "lint", "site"} <= required() <= set(rules)


def test_the_workflow_makes_what_ci_makes() -> None:
    """And the quick bench, which shows no figures."""
    made = set[str]()
    for job in load(GITHUB / "workflows" / "checks.yml")["jobs"].values():
        assert job["timeout-minutes"] <= 60
        commands = "\n".join(step.get("run", "") for step in job["steps"])
        made |= targets(commands)
        if "make ${{ matrix.target }}" in commands:
            made |= set(job["strategy"]["matrix"]["target"])
        assert "bash .ci/install-packages" in commands
    assert made == required() | {"bench"}
    assert "bash .ci/install-packages" in (ROOT / ".ci" / "run").read_text()


def test_the_workflow_has_each_python_of_the_metadata() -> None:
    """A version that is not in the metadata stops nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    listed = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    job = load(GITHUB / "workflows" / "checks.yml")["jobs"]["test"]
    run = job["strategy"]["matrix"]["python"]
    assert set(listed) <= set(run)
    allowed = re.findall(r"'(3\.\d+)'", str(job["continue-on-error"]))
    assert set(allowed) == set(run) - set(listed)


def test_the_workflow_cannot_write() -> None:
    """It runs code of strangers."""
    assert load(GITHUB / "workflows" / "checks.yml")["permissions"] == {"contents": "read"}


def test_the_hooks_make_what_ci_makes() -> None:
    """Nothing comes from other repositories."""
    (repository,) = load(ROOT / ".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    assert targets("\n".join(hook["entry"] for hook in repository["hooks"])) == required()
    assert all(hook["language"] == "system" for hook in repository["hooks"])


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_issue_forms(name: str) -> None:
    """Each blank is of a kind that GitHub knows, and has a name of its own."""
    form = load(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    assert form["name"]
    assert form["description"]
    assert {each["type"] for each in form["body"]} <= BLANKS
    ids = [each["id"] for each in form["body"] if each["type"] != "markdown"]
    assert len(set(ids)) == len(ids)


def fragments() -> list[Path]:
    """Return the notes that the next release will have."""
    return [each for each in (ROOT / "newsfragments").iterdir() if each.name != "README.md"]


def test_names_of_fragments() -> None:
    """Each has a kind that the settings know. The guide explains the same kinds."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["towncrier"]
    kinds = [each["directory"] for each in settings["type"]]
    for path in fragments():
        assert re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({'|'.join(kinds)})\.md", path.name), path
    guide = (ROOT / "newsfragments" / "README.md").read_text("utf-8")
    assert re.findall(r"^\| `([a-z]+)` \|", guide, re.MULTILINE) == kinds


def test_fragments_become_a_section(tmp_path: Path) -> None:
    """It stands above the older ones, and the fragments are gone."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tmp_path)
    folder = tmp_path / "newsfragments"
    folder.mkdir()
    (folder / "7.fixed.md").write_text("The `--rate` is kept.\n")
    (folder / "+ramp.added.md").write_text("`--ramp` is new.\n")
    before = (tmp_path / "CHANGELOG.md").read_text("utf-8")
    subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--yes", "--version", "9.8"],
        cwd=tmp_path, check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    after = (tmp_path / "CHANGELOG.md").read_text("utf-8")
    head, mark, rest = before.partition("below this line. -->\n\n")
    assert mark
    assert after.startswith(f"{head}{mark}## 9.8 - ")
    assert after.endswith(rest)
    section = after.removesuffix(rest)
    assert "### Added\n\n- `--ramp` is new.\n" in section
    assert not list(folder.glob("*.*.md"))
    assert "### Fixed\n\n- The `--rate` is kept. ([#7](https://" in section


READY = "# Changes\n\n## 1.0 - 2026-12-01\n\n## 0.9 - 2026-01-01\n"


def test_a_version_that_can_be_released() -> None:
    """Its section is the first, and nothing is left to do."""
    assert list(problems("1.0", READY, ["README.md"], "", ["v0.9"])) == []


@pytest.mark.parametrize(
    ("changelog", "names", "changes", "tags", "said"),
    [
        ("## Unreleased\n", [], "", [], "does not begin with 1.0"),
        ("## 1.0.1 - 2026-12-01\n", [], "", [], "does not begin with 1.0"),
        (READY, ["README.md", "7.fixed.md"], "", [], "7.fixed.md"),
        (READY, [], " M README.md\n", [], "not committed"),
        (READY, [], "", ["v1.0"], "released already"),
    ],
)
def test_what_keeps_a_version_back(
    changelog: str, names: list[str], changes: str, tags: list[str], said: str
) -> None:
    """One reason, which says what to do."""
    (problem,) = problems("1.0", changelog, names, changes, tags)
    assert said in problem
