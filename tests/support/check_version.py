"""
What keeps a version from being released:

    python tests/support/check_version.py
"""

import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from echofactory import __version__

ROOT = Path(__file__).parents[2]


def problems(
    version: str, changelog: str, fragments: Iterable[str], changes: str, tags: Iterable[str]
) -> Iterator[str]:
    """
    Return what has to be done first.

    @param changelog: the text of CHANGELOG.md.
    @param fragments: the names of the files in newsfragments/.
    @param changes: what C{git status --porcelain} says.
    @param tags: the tags of the repository.
    """
    headings = [line for line in changelog.splitlines() if line.startswith("## ")]
    if not headings or not headings[0].startswith(f"## {version} - "):
        yield f"CHANGELOG.md does not begin with {version}: make changelog WRITE=1"
    if left := sorted(set(fragments) - {"README.md"}):
        yield f"fragments that are not in CHANGELOG.md: {', '.join(left)}"
    if changes:
        yield "changes that are not committed"
    if f"v{version}" in tags:
        yield f"v{version} was released already: change echofactory/_version.py"


def _git(*words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(ROOT), *words], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


if __name__ == "__main__":
    found = list(
        problems(
            __version__,
            (ROOT / "CHANGELOG.md").read_text("utf-8"),
            (each.name for each in (ROOT / "newsfragments").iterdir()),
            _git("status", "--porcelain"),
            _git("tag").split(),
        )
    )
    sys.exit("\n".join(found) or None)
