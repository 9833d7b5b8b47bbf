"""Mutation testing by hand-picked breakages: `python -m tests.mutants [WORD …]`.

`mutants.txt` has one breakage a line: `symbol | edit | test that must then fail`. Run it by hand, before a release and after a
change of a listed symbol; the words choose lines. Each breakage is made in a copy of the tree.

A symbol is `module:Class.function`, or what a SQL statement creates: `function private.me`, `trigger …`, `index on …`; `block
tables that can be read` is the `do` below a comment that begins so. Its text is compared without comments and line breaks
(Python: as `ast.unparse` writes it). An edit is `drop`, `return VALUE` (Python), or `OLD -> NEW`, where OLD stands in the symbol once.
"""

import argparse
import ast
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_IGNORED = shutil.ignore_patterns(
    ".venv", ".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", "build"
)
_STATEMENTS = {  # how a SQL statement begins and ends, by the kind of what it creates
    "function": r"create function {}\(.*?(?:\$\$;|^end;|^return\b[^;]*;)$",
    "index": r"create (?:unique )?index on {};$",
    "block": r"-- {}\b.*?^end \$\$;$",
}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One line of `mutants.txt`."""

    symbol: str
    edit: str
    test: str

    def mutated(self, tree):
        """The file of the symbol in *tree*, and its text after the edit. Raise LookupError if either is not found once."""
        module, _, name = self.symbol.partition(":")
        if name:
            path = tree / (module.replace(".", "/") + ".py")
            return path, _edited_python(path.read_text(), name, self.edit)
        for path in sorted((tree / "db" / "migrations").glob("*.sql")):
            if text := _edited_sql(path.read_text(), self.symbol, self.edit):
                return path, text
        raise LookupError(self.symbol)


def read(path=ROOT / "tests" / "mutants.txt"):
    """The mutants of *path*; lines that begin with `#` are comments."""
    lines = (line for line in path.read_text().splitlines() if line and line[0] != "#")
    parts = (re.fullmatch(r"(.*?) \| (.*) \| (.*)", line) for line in lines)
    return [Mutant(*part.groups()) for part in parts if part]


def _edited_python(text, name, edit):
    node = ast.parse(text)
    for part in name.split("."):
        (node,) = (
            each
            for each in ast.iter_child_nodes(node)
            if getattr(each, "name", _target(each)) == part
        )
    lines = text.splitlines(keepends=True)
    start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    if edit.startswith("return ") and " ->" not in edit:
        node.body = ast.parse(edit).body
        changed = ast.unparse(node)
    else:
        changed = _replaced(ast.unparse(node), edit)
    lines[start : node.end_lineno] = textwrap.indent(changed, indent) + "\n"
    return "".join(lines)


def _target(node):
    """The name that an assignment of a module or class binds."""
    targets = getattr(node, "targets", [getattr(node, "target", None)])
    return getattr(targets[0], "id", None) if targets else None


def _edited_sql(text, symbol, edit):
    kind, _, name = symbol.partition(" ")
    begin = _STATEMENTS.get(kind, rf"create {kind} {{}}\b.*?;$").format(re.escape(name))
    found = re.search(rf"^{begin}", text, re.DOTALL | re.MULTILINE)
    if found is None:
        return None
    plain = " ".join(re.sub(r"--[^\n]*", "", found[0]).split())
    changed = "" if edit == "drop" else _replaced(plain, edit)
    return text[: found.start()] + changed + text[found.end() :]


def _replaced(text, edit):
    old, _, new = edit.partition(" ->")
    if text.count(old) != 1:
        raise LookupError(f"{text.count(old)} times, not once: {old}")
    return text.replace(old, new.strip())


def failure(tree, tests):
    """The end of pytest's output if one of *tests* failed in *tree*, else nothing. Raise SystemExit if they could not be run."""
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n=0", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        capture_output=True,
        text=True,
    )
    if ran.returncode not in (0, 1):
        raise SystemExit(f"{tests} could not be run:\n{ran.stdout[-3000:]}")
    return ran.stdout[-3000:] if ran.returncode else ""


def survivors(tree, mutants):
    """The mutants that their tests did not notice."""
    for number, mutant in enumerate(mutants, 1):
        began = time.monotonic()
        path, text = mutant.mutated(tree)
        before = path.read_text()
        path.write_text(text)
        is_alive = not failure(tree, [f"tests/{mutant.test}"])
        path.write_text(before)
        word = "SURVIVES" if is_alive else "caught"
        seconds = time.monotonic() - began
        sys.stdout.write(f"{number:3} {word:8} {seconds:5.1f} s  {mutant.symbol}: {mutant.edit}\n")
        sys.stdout.flush()
        if is_alive:
            yield mutant


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    chosen = [m for m in read() if all(word in f"{m.symbol} {m.edit} {m.test}" for word in words)]
    if not chosen:
        raise SystemExit("No mutant has all these words.")
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_IGNORED)
        if output := failure(tree, sorted({f"tests/{m.test}" for m in chosen})):
            raise SystemExit(f"The tests do not pass without a mutant either:\n{output}")
        alive = list(survivors(tree, chosen))
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} caught\n")
    raise SystemExit(bool(alive))


if __name__ == "__main__":
    main()
