"""A sample of the comments and docstrings of the product, for a reader who judges them without their history.

python -m benchmarks.prose [--json] [--count N] [--seed TEXT]

The seed is the hash of the last commit, so that the sample is not chosen. Comment lines below one another count as one text, which is
printed with the line of code that it stands beside or above.
"""

import argparse
import ast
import io
import json
import random
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path

from benchmarks.structure import DOCUMENTED, PRODUCT, files
from tests.stack.apps import ROOT

_BLOCK = {".js": "/*", ".mjs": "/*", ".css": "/*", ".sql": "/*"}
_LINE = {".js": "//", ".mjs": "//", ".sql": "--"}
# a string, in which a comment sign starts no comment; then a comment
_TOKEN = r"""(?P<string>"(?:\\.|[^"\\\n])*"|'(?:''|\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|(?P<comment>{}/\*.*?\*/)"""


@dataclass(frozen=True, slots=True)
class Prose:
    """A comment or docstring."""

    place: str  # path and line
    code: str  # the line that the text stands beside, above or, as a docstring, below
    text: str


def prose(path: Path) -> Iterator[Prose]:
    """Yield the comments and docstrings of *path*."""
    text = path.read_text("utf-8")
    found = _of_python(text) if path.suffix == ".py" else _of_other(text, path.suffix)
    lines = ["", *text.splitlines(), ""]
    for line, words in found:
        if re.search(r"[a-z]{2}", words) and not words.startswith(("noqa", "pyright", "type:")):
            yield Prose(f"{path.relative_to(ROOT)}:{line}", _code(lines, line, words), words)


def _code(lines: list[str], line: int, words: str) -> str:
    """Return the code beside the text that begins at *line*, else the nearest line: above a docstring, below a comment."""
    here = lines[line].strip()
    if here.startswith(('"""', 'r"""')):
        return lines[line - 1].strip()
    if here.startswith(("#", "--", "//", "/*")):
        return lines[min(line + words.count("\n") + 1, len(lines) - 1)].strip()
    return here


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, DOCUMENTED) and (said := ast.get_docstring(node)):
            yield node.body[0].lineno, said
    comments = [
        (token.start, token.string.lstrip("#: "))
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    ]
    yield from _blocks(comments, text)


def _of_other(text: str, suffix: str) -> Iterator[tuple[int, str]]:
    line = f"{_LINE[suffix]}[^\\n]*|" if suffix in _LINE else ""
    comments: list[tuple[tuple[int, int], str]] = []
    for match in re.finditer(_TOKEN.format(line), text, re.DOTALL):
        if comment := match["comment"]:
            start = text.count("\n", 0, match.start()) + 1
            column = match.start() - text.rfind("\n", 0, match.start()) - 1
            comments.append(((start, column), re.sub(r"^/\*+|\*/$|^(//|--)+", "", comment).strip()))
    yield from _blocks(comments, text)


def _blocks(comments: list[tuple[tuple[int, int], str]], text: str) -> Iterator[tuple[int, str]]:
    """Join comments of *text* that stand below one another in one column, on lines of their own."""
    lines = text.splitlines()

    def block(numbered: tuple[int, tuple[tuple[int, int], str]]) -> tuple[int, int, int]:
        number, ((line, column), _) = numbered
        is_beside_code = lines[line - 1][:column].strip()
        return line - number, column, number if is_beside_code else -1

    for _, group in groupby(enumerate(comments), block):
        joined = [comment for _, comment in group]
        yield joined[0][0][0], "\n".join(words for _, words in joined)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", help="in place of the hash of the last commit")
    chosen = parser.parse_args()

    head = ["git", "rev-parse", "HEAD"]
    seed = chosen.seed or subprocess.check_output(head, cwd=ROOT, text=True).strip()
    every = [
        each for path in files(*PRODUCT) if path.suffix in {".py", *_BLOCK} for each in prose(path)
    ]
    sample = random.Random(seed).sample(every, chosen.count)
    if chosen.json:
        json.dump([asdict(each) for each in sample], sys.stdout)
        return
    print(f"{chosen.count} of {len(every)} comments and docstrings, seed {seed}")
    for each in sample:
        print(f"\n{each.place}\n    {each.code}\n{each.text}")


if __name__ == "__main__":
    main()
