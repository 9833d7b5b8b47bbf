"""The graph of imports: no module imports itself through others, also inside functions and for annotations alone."""

import ast
from graphlib import CycleError, TopologicalSorter

import pytest

from tests.stack.apps import ROOT

PACKAGES = ("pages", "services")


def modules():
    """Return the path of each module of the product by its name."""
    paths = [path for name in PACKAGES for path in (ROOT / name).rglob("*.py")]
    names = (".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths)
    return dict(zip((name.removesuffix(".__init__") for name in names), paths, strict=True))


def imported(source, known):
    """Return the modules among *known* that *source* imports, wherever the statement is, and by `import_module`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import():
                found |= {alias.name for alias in node.names}
            case ast.ImportFrom(module=str(module)):
                names = {f"{module}.{alias.name}" for alias in node.names}
                found |= {name if name in known else module for name in names}
            case ast.Call(func=ast.Name("import_module"), args=[ast.Constant(str(name))]):
                found.add(name)
    return found & known


def cycle(graph):
    """Return the modules of a cycle in *graph*; none if it has no cycle."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


@pytest.mark.slow
def test_imports_have_no_circle():
    paths = modules()
    graph = {name: imported(path.read_text(), paths.keys()) for name, path in paths.items()}

    assert len(graph) > 200
    assert cycle(graph) == []


@pytest.mark.parametrize(
    "statement",
    [
        "from services import one",
        "import services.one",
        "from services.one import Name",
        "def late():\n    from services.one import Name",
        "if TYPE_CHECKING:\n    from services.one import Name",
        "import_module('services.one')",
    ],
)
def test_circle_is_found_wherever_it_is_imported(statement):
    known = {"services.one", "services.two"}
    graph = {"services.one": {"services.two"}, "services.two": imported(statement, known)}

    assert set(cycle(graph)) == known
