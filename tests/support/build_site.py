"""
Builds the site of the documents and the API:

    python tests/support/build_site.py build/site

It needs the extra C{docs}. A warning, a link to nowhere, and what a browser would load from
elsewhere are errors.
"""

import ast
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from inspect import isclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).parents[2]

TWISTED = "https://docs.twisted.org/en/stable/api/"
"""Where Twisted's API is described."""

_NAMED = re.compile(r"<(twisted\.[\w.]+)>|L\{(twisted\.[\w.]+)\}")

_LOADING = {"audio", "iframe", "img", "script", "source", "video"}
"""Elements whose target a browser loads by itself. A C{link} has kinds that load nothing."""

_LOADING_RELATIONS = {"icon", "preload", "stylesheet"}


def _modules(text: str) -> Iterator[str]:
    """Return the modules of Twisted that a module imports, or names in its docstrings."""
    for first, second in _NAMED.findall(text):
        yield (first or second).rpartition(".")[0]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("twisted."):
            assert node.module is not None
            yield node.module
            for alias in node.names:
                # To import the reactor is to install one.
                if alias.name != "reactor" and hasattr(import_module(node.module), "__path__"):
                    yield f"{node.module}.{alias.name}"


def twistedNames(package: Path) -> list[str]:
    """Return the classes of the modules of Twisted that a package imports or names."""
    texts = [path.read_text("utf-8") for path in package.rglob("*.py")]
    found = set[str]()
    for module in sorted({module for text in texts for module in _modules(text)}):
        if find_spec(module) is None:
            continue
        found.update(
            f"{module}.{name}"
            for name, member in vars(import_module(module)).items()
            if (isclass(member) or hasattr(member, "implementedBy")) and name[0] != "_"
        )
    return sorted(found)


def inventory(names: list[str]) -> bytes:
    """Return classes that pydoctor can link to, as a list of Sphinx, version 2."""
    head = "# Sphinx inventory version 2\n# Project: Twisted\n# Version: \n"
    head += "# The rest of this file is compressed with zlib.\n"
    lines = "".join(f"{name} py:class 1 $.html -\n" for name in names)
    return head.encode() + zlib.compress(lines.encode())


class _Page(HTMLParser):
    """
    Reads what a page links to.

    @ivar links: targets of C{href} and C{src}.
    @ivar loads: those that a browser loads by itself.
    @ivar lost: lines that begin with a hyphen inside a paragraph: a list that is none.
    """

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.lost: list[str] = []
        self._paragraph = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attrs if value}
        self._paragraph = tag == "p" or (self._paragraph and tag not in ("ul", "ol", "pre"))
        if target := given.get("href") or given.get("src"):
            self.links.append(target)
            if tag in _LOADING or (tag == "link" and given.get("rel") in _LOADING_RELATIONS):
                self.loads.append(target)

    def handle_endtag(self, tag: str) -> None:
        if tag == "p":
            self._paragraph = False

    def handle_data(self, data: str) -> None:
        if self._paragraph:
            self.lost += re.findall(r"\n\s*(?:[-*]|\d+\.) .*", data)


def faults(folder: Path) -> Iterator[str]:
    """Return what is wrong with the pages of a site, those of the API included."""
    for path in sorted(folder.rglob("*.html")):
        name = path.relative_to(folder)
        page = _Page()
        page.feed(path.read_text("utf-8"))
        for target in page.loads:
            if urlsplit(target).netloc:
                yield f"{name}: a browser loads {target}"
        for target in page.links:
            parts = urlsplit(target)
            # The page of errors has addresses from the root, because it can stand anywhere.
            if parts.scheme or parts.netloc or not parts.path or path.name == "404.html":
                continue
            if not (path.parent / unquote(parts.path)).exists():
                yield f"{name}: nothing at {target}"
        for line in page.lost:
            yield f"{name}: a list needs an empty line before it: {line.strip()}"


def build(folder: Path) -> None:
    """
    Write the site.

    @raise subprocess.CalledProcessError: there were errors or warnings.
    """
    # Material for MkDocs advertises at each start.
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "--quiet", "build", "--strict", "--clean",
         "--config-file", str(ROOT / "mkdocs.yml"), "--site-dir", str(folder)],
        check=True, env=environment,
    )  # fmt: skip
    names = folder / "twisted.inv"
    names.write_bytes(inventory(twistedNames(ROOT / "echofactory")))
    subprocess.run(
        [sys.executable, "-m", "pydoctor", "--quiet", "--warnings-as-errors",
         "--docformat=epytext", "--project-name=echofactory", "--project-url=../index.html",
         f"--project-base-dir={ROOT}", f"--html-output={folder / 'api'}",
         "--privacy=PUBLIC:**.__init__",
         f"--intersphinx-file={names}::{TWISTED}", "--theme=readthedocs",
         str(ROOT / "echofactory")],
        check=True,
    )  # fmt: skip
    names.unlink()


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    build(place)
    sys.exit("\n".join(faults(place)) or None)
