"""The style of the Python code, as far as ruff has no rule for it."""

import ast
from functools import cache

import pytest

from benchmarks.structure import PRODUCT, files
from tests.parts import GIT
from tests.stack.apps import ROOT

PARTS = {"product": PRODUCT, "tests": ("tests",), "benchmarks": ("benchmarks",)}
VAGUE = {"one", "each"}  # a loop variable is called after the thing that it is
VAGUE_VARIABLES = {"product": 419, "tests": 880, "benchmarks": 27}  # may only fall


def starred_literals(node):
    """Return the arguments `*(a, b)` and `*[a, b]` of a call, which mean the same without the star and the brackets."""
    return [
        argument
        for argument in (node.args if isinstance(node, ast.Call) else ())
        if isinstance(argument, ast.Starred) and isinstance(argument.value, ast.Tuple | ast.List)
    ]


def vague_variables(node):
    """Return the variables of a loop or a comprehension whose names are in VAGUE."""
    if not isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
        return []
    parts = ast.walk(node.target)
    return [part.id for part in parts if isinstance(part, ast.Name) and part.id in VAGUE]


@cache
def findings(part):
    """Return the file and the line of each starred literal in a call of *part*, and its number of vague variables."""
    GIT.required()
    starred, vague = [], 0
    for path in files(*PARTS[part]):
        if path.suffix == ".py" and path.exists():
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                starred += [(name, argument.lineno) for argument in starred_literals(node)]
                vague += len(vague_variables(node))
    return starred, vague


@pytest.mark.slow
@pytest.mark.parametrize("part", PARTS)
def test_no_argument_is_a_starred_literal(part):
    starred, _ = findings(part)
    assert starred == []


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


@pytest.mark.parametrize("part", PARTS)
def test_number_of_vague_loop_variables_only_falls(part):
    _, vague = findings(part)
    most = VAGUE_VARIABLES[part]

    assert vague <= most, f"call the new loop variables after what they are, not {VAGUE}"
    assert vague == most, f"lower VAGUE_VARIABLES[{part!r}] to {vague}"


@pytest.mark.parametrize(
    ("loop", "number"),
    [
        ("for one in a: pass", 1),
        ("for n, (each, *one) in a: pass", 2),
        ("{each: one for each in a for one in each}", 2),
        ("for row in [one, each]: one = each", 0),
    ],
)
def test_vague_loop_variables_are_found(loop, number):
    assert sum(len(vague_variables(node)) for node in ast.walk(ast.parse(loop))) == number
