"""The style of the Python code, as far as ruff has no rule for it."""

import ast
from functools import cache

import pytest

from benchmarks.structure import PRODUCT, files
from tests.stack.apps import ROOT

PARTS = {"product": PRODUCT, "tests": ("tests",), "benchmarks": ("benchmarks",)}


def starred_literals(node):
    """Return the arguments `*(a, b)` and `*[a, b]` of a call, which mean the same without the star and the brackets."""
    return [
        argument
        for argument in (node.args if isinstance(node, ast.Call) else ())
        if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Tuple | ast.List)
    ]


@cache
def findings(part):
    """Return the file and the line of each starred literal in a call of *part*."""
    starred = []
    for path in files(*PARTS[part]):
        if path.suffix == ".py" and path.exists():
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                starred += [(name, argument.lineno) for argument in starred_literals(node)]
    return starred


@pytest.mark.parametrize("part", PARTS)
def test_no_argument_is_a_starred_literal(part):
    assert findings(part) == []


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("f(*(a, b), c=1)", 1),
        ("f(a, *[b, c], *())", 2),
        ("f(*a, *(b or ()), *g(c), (d, e), [*(a, b)])", 0),
    ],
)
def test_starred_literals_of_calls_are_found(call, number):
    assert len(starred_literals(ast.parse(call, mode="eval").body)) == number
