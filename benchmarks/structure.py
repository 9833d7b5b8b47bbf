"""The size of the code, the imports between its modules, and the beginnings of its docstrings.

python -m benchmarks.structure [--json] [--walk]

Lines are those of code: without blank lines, comments and docstrings. `--walk` starts the embedded stack, sends one
prompt, and counts the modules of `services.chat` and `services.store` on the way from `Chat.begin` to the RPC that
stores it. Only functions that have lines to be read count: a dataclass's own `__init__` has none, and a comprehension
stands in the function that it is part of.
"""

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType

import httpx

from benchmarks import rig
from tests.journeys.people import PASSWORD
from tests.journeys.seeds import converse, let_talk_fast, second_process
from tests.stack.apps import ROOT

Figures = dict[str, float]
PRODUCT = ("streamlit_app.py", "pages", "services", "db", "assets")
COMMENTS = {
    ".sql": re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL),
    ".css": re.compile(r"/\*.*?\*/", re.DOTALL),
    ".js": re.compile(r"^\s*//[^\n]*|/\*.*?\*/", re.DOTALL | re.MULTILINE),
}
LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
INVERTED = re.compile(r"(What|Whether|Where|Who|How|That|Those|Which|As)\b")
PEOPLE = re.compile(r"\b(somebody|nobody|whoever|anybody|everybody)\b", re.IGNORECASE)
WALKED = ("services.chat", "services.store")
COMPREHENSIONS = ("<genexpr>", "<listcomp>", "<setcomp>", "<dictcomp>")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef | ast.Module


def files(*places: str) -> Iterator[Path]:
    """The files of *places* that git knows."""
    listed = subprocess.check_output(
        ["git", "ls-files", "-z", *places],  # noqa: S607
        cwd=ROOT,
        text=True,
    )
    return (ROOT / name for name in listed.split("\0") if name)


def code_lines(file: Path) -> int:
    """The lines of *file* that hold code."""
    text = file.read_text("utf-8")
    if file.suffix == ".py":
        return len(_python_lines(text))
    if file.suffix in COMMENTS:
        return sum(bool(line.strip()) for line in COMMENTS[file.suffix].sub("", text).splitlines())
    return 0


def _python_lines(text: str) -> set[int]:
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, Documented) and ast.get_docstring(node, clean=False) is not None:
            told.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return {line for line in lines if line - 1 < len(text.splitlines())} - told


def imports(package: str) -> set[tuple[str, str]]:
    """The pairs of modules inside *package* of which one imports the other."""
    place = ROOT / package
    names = {_module(file): file for file in place.rglob("*.py")}
    found: set[tuple[str, str]] = set()
    for name, file in names.items():
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            for other in _imported(node):
                if other in names and other != name:
                    found.add((name, other))
    return found


def _module(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{each.name}" for each in node.names)


def functions(sources: Iterable[Path]) -> Iterator[Function]:
    """All functions and methods in *sources*."""
    for file in sources:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, Function):
                yield node


def static() -> Figures:
    """Count what the files alone show."""
    modules = [file for file in files(*PRODUCT) if file.suffix == ".py"]
    known = list(functions(modules))
    told = [said for one in known if (said := ast.get_docstring(one))]
    inverted = sum(bool(INVERTED.match(said)) for said in told)
    ours = [file for file in files("services", "pages") if file.suffix == ".py"]
    return {
        "product, lines": sum(map(code_lines, files(*PRODUCT))),
        "tests, lines": sum(map(code_lines, files("tests"))),
        "imports inside services/chat": len(imports("services/chat")),
        "imports inside services/store": len(imports("services/store")),
        "longest module, lines": max(len(file.read_text().splitlines()) for file in modules),
        "longest function, lines": max((one.end_lineno or 0) - one.lineno + 1 for one in known),
        "docstrings that begin inverted, per cent": round(100 * inverted / len(told), 1),
        "somebody and the like": sum(len(PEOPLE.findall(file.read_text())) for file in ours),
    }


def walk() -> Figures:
    """The modules of `services.chat` and `services.store` whose functions are called between `Chat.begin` and the RPC
    that stores a prompt, and how often one is called again after another was."""
    way: list[str] = []
    is_begun = is_sent = False

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal is_begun, is_sent
        code = frame.f_code
        if event != "call" or code.co_filename == "<string>" or code.co_name in COMPREHENSIONS:
            return
        if code.co_qualname == "Chat.begin":
            is_begun, is_sent = True, False
            way.clear()
        name = str(frame.f_globals.get("__name__", ""))
        if is_begun and not is_sent and name.startswith(WALKED) and way[-1:] != [name]:
            way.append(name)
        request = frame.f_locals.get("request")
        if code.co_qualname == "Client.send" and isinstance(request, httpx.Request):
            is_sent = is_sent or request.url.path.endswith("/rpc/begin_turn")

    with rig.model() as endpoint, rig.daybook(endpoint) as app, second_process(app) as sessions:
        _, session = sessions.sign_up(rig.EMAIL, PASSWORD)
        let_talk_fast(app)
        sys.setprofile(look)
        # the second prompt in a conversation that is cached
        converse(session, [("Before", "Yes."), ("Now", "Yes.")])
        sys.setprofile(None)
    print(" > ".join(way), file=sys.stderr)
    return {"modules crossed": len({*way}), "returns": len(way) - len({*way})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--walk", action="store_true")
    options = parser.parse_args()
    figures = static() | (walk() if options.walk else {})
    if options.json:
        json.dump(figures, sys.stdout)
    else:
        for name, figure in figures.items():
            print(f"{figure:10,} {name}")


if __name__ == "__main__":
    main()
