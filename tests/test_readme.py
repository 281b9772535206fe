"""
What the README shows is there.
"""

import ast
import re
from importlib import import_module
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_what_it_imports() -> None:
    """Each name is where its programs import it from."""
    programs = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
    assert len(programs) >= 4
    found = set()
    for program in programs:
        for node in ast.walk(ast.parse(program)):
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    assert hasattr(import_module(node.module), alias.name), alias.name
                    found.add(alias.name)
    assert {"probe", "EchoService", "OrderedServices", "StatusService"} <= found


def test_what_it_points_to() -> None:
    """Each file and each heading that it links to is there."""
    headings = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    }
    links = re.findall(r"\]\(([^)\s]+)\)", README)
    assert links
    for link in links:
        if link.startswith("#"):
            assert link[1:] in headings, link
        elif "://" not in link:
            assert (Path(__file__).parent.parent / link).exists(), link
