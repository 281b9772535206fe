"""
What the site needs beside mkdocs.yml: headings have the anchors that GitHub gives them, links
to files beside docs/ lead to the repository, and pictures beside docs/ are in the site too.
"""

import posixpath
import re
import shutil
from pathlib import Path
from typing import Any

_LINK = re.compile(r"(!?)\[([^]]*)\]\((\.\./[^)\s]+)\)")

_pictures = set[str]()
"""Pictures beside docs/ that the pages show, as paths in the repository."""


def anchor(text: str, separator: str) -> str:
    """Return the anchor of a heading, as GitHub writes it."""
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", separator)


def outward(markdown: str, page: str, source: str) -> tuple[str, set[str]]:
    """
    Return a page whose links to files beside docs/ lead to the repository, and the pictures
    beside docs/ that it shows.

    @param page: the path of the page below docs/.
    @param source: the address of the repository.
    """
    folder = posixpath.dirname(f"docs/{page}")
    pictures = set[str]()

    def replaced(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if not picture:
            return f"[{text}]({source}/blob/main/{path})"
        pictures.add(path)
        # As HTML, because mkdocs looks for the files of Markdown below docs/.
        return f'<img alt="{text}" src="{path}">'

    return _LINK.sub(replaced, markdown), pictures


def on_config(config: Any) -> Any:
    """Called by mkdocs once its settings are known."""
    config["mdx_configs"].setdefault("toc", {})["slugify"] = anchor
    return config


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Called by mkdocs for the text of each page."""
    text, pictures = outward(markdown, page.file.src_uri, config["extra"]["source"])
    _pictures.update(pictures)
    return text


def on_post_build(config: Any) -> None:
    """Called by mkdocs when the pages are written."""
    root = Path(config["config_file_path"]).parent
    for path in _pictures:
        place = Path(config["site_dir"]) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / path, place)
