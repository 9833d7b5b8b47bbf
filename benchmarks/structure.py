"""Lines of code of the product, of the rules that its stores share, and of the tests.

python -m benchmarks.structure [--json]

Lines are those of code: without blank lines, comments and docstrings.
"""

import argparse
import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.stack.apps import ROOT

PRODUCT = ("streamlit_app.py", "pages", "services", "db", "assets")
RULES = ("services/rules", "services/store/tables")
COMMENTS = {
    ".sql": re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL),
    ".css": re.compile(r"/\*.*?\*/", re.DOTALL),
    ".js": re.compile(r"^\s*//[^\n]*|/\*.*?\*/", re.DOTALL | re.MULTILINE),
}
LAYOUT = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT)
DOCUMENTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Module)


def files(*places: str) -> Iterator[Path]:
    """Yield the files of *places* that git knows."""
    # another user may own the checkout: git then reads it only if it is told so
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", *places]
    for name in subprocess.check_output(command, cwd=ROOT, text=True).split("\0"):
        if name:
            yield ROOT / name


def code_lines(file: Path) -> int:
    """Return the number of lines of *file* that have code."""
    text = file.read_text("utf-8")
    if file.suffix == ".py":
        return len(_python_lines(text))
    if file.suffix in COMMENTS:
        return sum(bool(line.strip()) for line in COMMENTS[file.suffix].sub("", text).splitlines())
    return 0


def _python_lines(text: str) -> set[int]:
    told: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            told.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in LAYOUT:
            lines.update(range(token.start[0], token.end[0] + 1))
    return {line for line in lines if line - 1 < len(text.splitlines())} - told


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    is_json = parser.parse_args().json

    product, rules, tests = (
        sum(map(code_lines, files(*places))) for places in (PRODUCT, RULES, ("tests",))
    )
    figures = {"product": product, "of these rules": rules, "tests": tests}
    if is_json:
        json.dump(figures, sys.stdout)
    else:
        for name, figure in figures.items():
            print(f"{figure:10,} {name}")


if __name__ == "__main__":
    main()
