"""
The rooms of the package: imports point one way, and there is no circle.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "echofactory"

EVERYWHERE = {"values", "express", "net"}
DATA = EVERYWHERE | {"results", "workload"}
MAY_IMPORT = {
    "values": set(),
    # The fast lane stands on Twisted alone.
    "express": set(),
    "net": {"values", "express"},
    "results": EVERYWHERE,
    "workload": EVERYWHERE | {"results"},
    "server": DATA,
    "client": DATA,
    "report": DATA,
    "status": DATA | {"server", "client", "report"},
    "distributed": DATA | {"client"},
    "cli": DATA | {"server", "client", "report", "status", "distributed"},
}
"""Which rooms each of them may import, itself aside."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

# Modules of the package that are in no room, and who may import them.
BESIDE = {
    "_version": set(MAY_IMPORT),
    "__main__": set(),
    "service": set(),
    "testing": set(),
}


def _modules() -> dict[str, ast.Module]:
    """Return each module of the package by its dotted name within it."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts).removesuffix("__init__").rstrip(".")
        found[name] = ast.parse(path.read_text())
    return found


MODULES = _modules()


def _imported(module: str) -> Iterator[str]:
    """
    Return the modules of the package that one of them imports, wherever in its text: within
    a function and for type checking, too.
    """
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            package, _, within = name.partition(".")
            if package == "echofactory":
                yield within if within in MODULES else within.rpartition(".")[0]


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_point_one_way(module: str) -> None:
    """A room imports the rooms below it; C{__main__} is the way from C{-m} to a program."""
    room, _, rest = module.partition(".")
    if room in {"", "__main__", "service", "testing"} or rest == "__main__":
        return
    for imported in _imported(module):
        other = imported.partition(".")[0]
        if other in BESIDE:
            assert room in BESIDE[other], f"{module} imports {imported}"
        elif other != room:
            assert other in MAY_IMPORT[room], f"{module} imports {imported}"


PURE = {"values", "results", "workload"}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_pure_rooms_know_no_twisted(module: str) -> None:
    """No transport, no clock, no reactor."""
    if module.partition(".")[0] not in PURE:
        return
    for node in ast.walk(MODULES[module]):
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").partition(".")[0] != "twisted", module
        elif isinstance(node, ast.Import):
            assert all(not alias.name.startswith("twisted") for alias in node.names), module


def test_no_circle() -> None:
    """No module imports itself by way of others."""
    graph = {name: {*_imported(name)} - {name} for name in MODULES if name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("module", sorted(MODULES))
def test_no_module_is_long(module: str) -> None:
    """None has over 400 lines, and no class over 20 methods, without a reason."""
    tree = MODULES[module]
    lines = max((node.end_lineno or 0 for node in tree.body), default=0)
    assert lines <= 400 or "400 lines" in (ast.get_docstring(tree) or ""), lines
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            methods = sum(isinstance(each, _FUNCTIONS) for each in node.body)
            reason = " ".join((ast.get_docstring(node) or "").split())
            assert methods <= 20 or "over 20 methods:" in reason, node.name


def test_every_room_is_known() -> None:
    """A new room has its place in the direction."""
    rooms = {name.partition(".")[0] for name in MODULES} - {"", *BESIDE}
    assert rooms == set(MAY_IMPORT)


def test_mistakes_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An import that points up, and a circle that only a type checker sees."""
    up = "def f():\n    from echofactory.cli.options import CommandOptions"
    monkeypatch.setitem(MODULES, "net.tracing", ast.parse(up))
    with pytest.raises(AssertionError, match=r"net\.tracing imports cli\.options"):
        test_imports_point_one_way("net.tracing")
    back = "if TYPE_CHECKING:\n    from echofactory.server.factory import EchoFactory"
    monkeypatch.setitem(MODULES, "net.tracing", ast.parse(""))
    monkeypatch.setitem(MODULES, "server.echo", ast.parse(back))
    with pytest.raises(pytest.fail.Exception, match=r"server\.echo"):
        test_no_circle()
