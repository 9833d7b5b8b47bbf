"""The depth to which pages use the services of a user: `user.verb()` or `user.part.verb()`.

python -m tests.unit.test_page_depth lists deeper uses.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stack.apps import ROOT

DEEPEST = 2  # a part and its verb
MOST = 0  # the allowed number of different deeper uses

Reach = tuple[str, ...]  # the attributes after the user
GIVE_USERS = {"find_user", "user_services", "signed_in", "services_of", "here", "page"}
ARE_USERS = {"UserServices", "TemporaryChat", "ChatParts"}
ARE_PARTS = {"Chat": ("chat",)}
VALUES = (
    ("account",),
    ("sign_in_details",),
)  # attributes of a user that are values, whose attributes do not count


def deep_reaches(source: str) -> set[str]:
    """Return the attributes of users that *source* uses deeper than `DEEPEST`, also through local names."""
    reader = _Reader()
    reader.visit(ast.parse(source))
    return reader.found


class _Reader(ast.NodeVisitor):
    """Follows users and their parts through the names of each scope."""

    def __init__(self) -> None:
        self.found: set[str] = set()
        self._names: dict[str, Reach | None] = {}

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        around, self._names = self._names, dict(self._names)
        arguments = node.args
        every = *arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs
        for argument in filter(None, every):
            self._names[argument.arg] = _annotated(argument.annotation)
        self.generic_visit(node)
        self._names = around

    def visit_For(self, node: ast.For) -> None:
        self._bind_each(node.target, node.iter)
        self.generic_visit(node)

    def visit_GeneratorExp(self, node: ast.GeneratorExp | ast.ListComp | ast.SetComp) -> None:
        for one in node.generators:
            self._bind_each(one.target, one.iter)
        self.generic_visit(node)

    visit_ListComp = visit_SetComp = visit_GeneratorExp  # noqa: N815

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.generic_visit(node)
        if isinstance(node.target, ast.Name):
            self._names[node.target.id] = _annotated(node.annotation)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.generic_visit(node)
        self._bind(node.target, node.value)

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            if item.optional_vars:
                self._bind(item.optional_vars, item.context_expr)
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        path = self._path(node)
        if path is None:
            self.generic_visit(node)
        elif len(path) > DEEPEST:
            self.found.add(".".join(("user", *path)))

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._names[target.id] = self._path(value)
        elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            for one, its in zip(target.elts, value.elts, strict=True):
                self._bind(one, its)

    def _bind_each(self, target: ast.expr, values: ast.expr) -> None:
        every = values.elts if isinstance(values, ast.Tuple | ast.List) else [values]
        if isinstance(target, ast.Name):
            users = ((), *ARE_PARTS.values())  # items of other parts are values
            paths = (self._path(one) for one in every)
            self._names[target.id] = next((path for path in paths if path in users), None)

    def _path(self, node: ast.expr) -> Reach | None:
        match node:
            case ast.Name(id=name):
                return self._names.get(name)
            case ast.Attribute(value=value, attr=name):
                path = self._path(value)
                return None if path is None or path[:1] in VALUES else (*path, name)
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)):
                return () if name in GIVE_USERS else None
            case ast.BoolOp(values=values):
                return next((path for one in values if (path := self._path(one)) is not None), None)
            case ast.IfExp(body=body, orelse=other):
                path = self._path(body)
                return self._path(other) if path is None else path
            case ast.NamedExpr(value=value):
                return self._path(value)
            case _:
                return None


def _annotated(annotation: ast.expr | None) -> Reach | None:
    """Return the path of a name that is annotated as a user or a part, also in a union."""
    names = set(re.findall(r"\w+", ast.unparse(annotation)) if annotation else ())
    if names & ARE_USERS:
        return ()
    return next((path for name, path in ARE_PARTS.items() if name in names), None)


def _files() -> Iterator[Path]:
    yield ROOT / "streamlit_app.py"
    yield from sorted((ROOT / "pages").rglob("*.py"))


def reached() -> dict[str, list[str]]:
    """Return the deeper uses in pages, and the files that have them."""
    found: dict[str, list[str]] = {}
    for file in _files():
        for one in deep_reaches(file.read_text("utf-8")):
            found.setdefault(one, []).append(str(file.relative_to(ROOT)))
    return found


def test_pages_call_a_user_or_a_part_of_one():
    assert len(reached()) <= MOST, sorted(reached())


@pytest.mark.parametrize(
    "hidden",
    [
        "def draw(user: UserServices):\n store = user.store\n take = store.facts.keep",
        "def draw(*users: UserServices):\n for one in users:\n  one.store.facts.keep()",
        "def draw(*users: UserServices):\n return [one.store.facts.keep() for one in users]",
        "if user := find_user():\n keep(lambda: user.store.facts.keep())",
    ],
)
def test_local_names_hide_no_depth(hidden):
    assert deep_reaches(hidden) == {"user.store.facts.keep"}


if __name__ == "__main__":
    found = [f"{each}: {', '.join(files)}\n" for each, files in sorted(reached().items())]
    sys.stdout.writelines([*found, f"{len(found)}\n"])
