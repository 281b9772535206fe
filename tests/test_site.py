"""
The site of the documents: its contents, and what its build refuses.
"""

import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from build_site import faults, inventory, twistedNames
from documents import PAGES, ROOT, anchors
from site_hooks import anchor, outward

SETTINGS: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))
SOURCE = str(SETTINGS["extra"]["source"])


def listed(entries: list[Any]) -> Iterator[str]:
    """Return the files in a part of the contents."""
    for entry in entries:
        for target in entry.values():
            if isinstance(target, list):
                yield from listed(target)
            else:
                yield target


def test_the_contents_have_each_page_once() -> None:
    """And the API, which the build adds."""
    pages = [page.name for page in PAGES if page.parent.name == "docs"]
    assert sorted(listed(SETTINGS["nav"])) == sorted([*pages, "api/index.html"])


def test_the_groups_of_the_contents() -> None:
    """A reader who learns, works, looks up or wonders finds a group."""
    assert [name for entry in SETTINGS["nav"] for name in entry] == [
        "Home", "Tutorial", "How to", "Reference", "Explanation", "Architecture",
    ]  # fmt: skip


def test_one_address_of_the_repository() -> None:
    """Every file that names it has the same."""
    files = [
        *ROOT.glob("*.md"),
        *(ROOT / ".github").rglob("*.yml"),
        ROOT / "pyproject.toml",
    ]
    for path in files:
        text = path.read_text("utf-8")
        named = re.findall(r"https://github\.com/[\w-]+/echofactory\b", text)
        assert set(named) <= {SOURCE}, path.name


@pytest.mark.parametrize(
    "heading", ["Pass or fail", "The status port (`--status`)", "`warm_up`, by rate: 1k..5k"]
)
def test_anchors_are_those_of_github(heading: str, tmp_path: Path) -> None:
    """So a link leads to the same place in both."""
    page = tmp_path / "page.md"
    page.write_text(f"# {heading}\n")
    # The headings reach the site without their marks.
    assert anchors(page) == {anchor(heading.replace("`", ""), "-")}


def test_links_out_of_the_documents() -> None:
    """Those inside stay."""
    text, pictures = outward("[a](../deploy) [b](udp.md) [c](https://x/)", "y.md", "https://z")
    assert text == "[a](https://z/blob/main/deploy) [b](udp.md) [c](https://x/)"
    assert not pictures


def test_pictures_out_of_the_documents() -> None:
    """They become part of the site."""
    text, pictures = outward("![a](../bench/b.svg)", "y.md", "https://z")
    assert text == '<img alt="a" src="bench/b.svg">'
    assert pictures == {"bench/b.svg"}


def test_classes_of_twisted() -> None:
    """Interfaces and classes of the modules that the package imports."""
    names = twistedNames(ROOT / "echofactory")
    assert "twisted.internet.interfaces.IReactorTCP" in names
    assert "twisted.internet.defer.Deferred" in names
    assert "twisted.internet.unix.Port" in names


def test_the_list_of_classes() -> None:
    """Four lines, then each class in compressed lines."""
    head, _, rest = inventory(["a.B"]).partition(b"compressed with zlib.\n")
    assert head.startswith(b"# Sphinx inventory version 2\n")
    assert zlib.decompress(rest) == b"a.B py:class 1 $.html -\n"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ('<script src="https://cdn.example/x.js"></script>', "a browser loads"),
        ('<link rel="stylesheet" href="//cdn.example/x.css">', "a browser loads"),
        ('<img src="https://cdn.example/x.png">', "a browser loads"),
        ('<a href="nowhere.html#there">x</a>', "nothing at nowhere.html#there"),
        ("<p>These:\n- one\n- two</p>", "a list needs an empty line before it: - one"),
    ],
)
def test_what_the_build_refuses(body: str, said: str, tmp_path: Path) -> None:
    """The message names the page."""
    (tmp_path / "page.html").write_text(body)
    found = list(faults(tmp_path))
    assert found[0].startswith("page.html: ")
    assert said in found[0]


def test_what_the_build_accepts(tmp_path: Path) -> None:
    """A link elsewhere loads nothing, and a list can stand where it belongs."""
    (tmp_path / "page.html").write_text(
        '<a href="https://example.org/">x</a><a href="page.html#a">y</a><a href="#a">z</a>'
        '<link rel="canonical" href="https://example.org/">'
        "<p><strong>1. One.</strong> Text.</p><ul><li>\n- x</li></ul><pre>\n- y</pre>"
    )
    assert list(faults(tmp_path)) == []
