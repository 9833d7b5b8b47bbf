"""Mutation testing with hand-picked edits: `python -m tests.mutants [WORD …]`.

`mutants.txt` has one edit per line: `symbol | edit | test that must then fail`. Run this by hand before a release and after a
change of a listed symbol; the words select lines. Each edit is made in a copy of the tree.

A symbol is `module:Class.function`, or the object of a SQL statement: `function private.me`, `trigger …`, `index on …`; `block
tables that can be read` is the `do` below a comment that begins so. Its text is compared without comments and line breaks
(Python: as `ast.unparse` writes it). An edit is `drop`, `return VALUE` (Python), or `OLD -> NEW`, where OLD occurs in the symbol once.
A path such as `assets/page/send.js` is a symbol, too: its text is compared as it is, and `\\n` in the edit is a line break.

An edit of a function of `services.store` or `services.rules` is made in this process, and one pytest runs the tests of all these
edits, so that a stack is started only once. A property test stops at its first failing history (DAYBOOK_NO_SHRINKING).
"""

import argparse
import ast
import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import CodeType

import pytest

ROOT = Path(__file__).parents[1]
_IGNORED = shutil.ignore_patterns(
    ".venv", ".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".hypothesis", "build"
)
_STATEMENTS = {  # the first and the last line of a SQL statement, by the kind of the created object
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

    @property
    def is_return(self):
        return self.edit.startswith("return ") and " ->" not in self.edit

    @property
    def leaves_rows(self):
        """Return True if the effects of the mutant may outlive its test; the rules store nothing."""
        return not self.symbol.startswith("services.rules.")

    @property
    def function(self):
        """The function that is changed in this process; None for a mutant that needs a copy of the tree."""
        module, _, name = self.symbol.partition(":")
        if not module.startswith(("services.store.", "services.rules.")):
            return None
        found = importlib.import_module(module)
        for part in name.split("."):
            found = inspect.getattr_static(found, part)
        if isinstance(found, property):
            found = found.fget
        return inspect.unwrap(found) if inspect.isfunction(found) else None

    def mutated(self, tree):
        """Return the file of the symbol in *tree*, and its text after the edit. Raise LookupError unless both are found exactly once."""
        module, _, name = self.symbol.partition(":")
        if "/" in module:
            path = tree / module
            return path, _replaced(path.read_text(), self.edit.replace("\\n", "\n"))
        if name:
            path = tree / (module.replace(".", "/") + ".py")
            return path, _edited_python(path.read_text(), name, self.edit)
        for path in sorted((tree / "db" / "migrations").glob("*.sql")):
            if text := _edited_sql(path.read_text(), self.symbol, self.edit):
                return path, text
        raise LookupError(self.symbol)


def read(path=ROOT / "tests" / "mutants.txt"):
    """Return the mutants of *path*; lines that begin with `#` are comments."""
    lines = (line for line in path.read_text().splitlines() if line and line[0] != "#")
    parts = (re.fullmatch(r"(.*?) \| (.*) \| (.*)", line) for line in lines)
    return [Mutant(*part.groups()) for part in parts if part]


def _edited_python(text, name, edit):
    """Return *text* after the edit of *name*. Raise LookupError, ValueError or SyntaxError if there is no such text."""
    node = _tree(text)
    for part in name.split("."):
        (node,) = (
            each
            for each in ast.iter_child_nodes(node)
            if getattr(each, "name", _target(each)) == part
        )
    lines = text.splitlines(keepends=True)
    start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    if Mutant(name, edit, "").is_return:
        node = copy(node)  # the tree is that of the next mutant, too
        node.body = ast.parse(edit).body
        changed = ast.unparse(node)
    else:
        changed = _replaced(ast.unparse(node), edit)
    compile(changed, name, "exec")
    lines[start : node.end_lineno] = textwrap.indent(changed, indent) + "\n"
    return "".join(lines)


@cache
def _tree(text):
    return ast.parse(text)


def _target(node):
    """Return the name that an assignment of a module or class binds."""
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
    """Return the end of pytest's output if one of *tests* failed in *tree*, else "". Raise SystemExit if pytest could not run them."""
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
    """Return the mutants whose tests passed."""
    for number, mutant in enumerate(mutants, 1):
        began = time.monotonic()
        path, text = mutant.mutated(tree)
        before = path.read_text()
        path.write_text(text)
        is_alive = not failure(tree, [f"tests/{mutant.test}"])
        path.write_text(before)
        _tell(number, mutant, began, is_alive=is_alive)
        if is_alive:
            yield mutant


class InOneProcess:
    """A pytest plugin that runs each test unchanged, then with each of its mutants, and then unchanged again.

    The session's fixtures stay. A mutant is caught if its test fails with it and passes afterwards; after mutants of the rules the
    unchanged test runs only once for all.
    """

    def __init__(self, mutants):
        self.mutants, self.alive, self._report = mutants, [], ""

    def pytest_report_teststatus(self):
        return "", "", ""

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self._report = report.longreprtext

    def pytest_runtestloop(self, session):
        items = [self._items(session, mutant) for mutant in self.mutants]
        for number, mutant in enumerate(self.mutants, 1):
            here, after = items[number - 1], items[number] if number < len(items) else []
            if number == 1 or here != items[number - 2]:
                self._pass(session, here)
            began = time.monotonic()
            with in_this_process(mutant):
                is_alive = not self._failure(session, here)
            _tell(number, mutant, began, is_alive=is_alive)
            self.alive += [mutant] * is_alive
            if mutant.leaves_rows or here != after:
                self._pass(session, here, after)
        return True

    def _items(self, session, mutant):
        test = f"tests/{mutant.test}"
        found = [one for one in session.items if f"{one.nodeid}[".startswith(f"{test}[")]
        return found or pytest.exit(f"There is no test {test}.")

    def _pass(self, session, items, after=()):
        if output := self._failure(session, items, after):
            pytest.exit(f"{items[0].nodeid} does not pass without a mutant:\n{output}")

    def _failure(self, session, items, after=()):
        """Return the end of the report if one of *items* fails, else "". Fixtures that *after* or its siblings need are kept.

        Those of the module of *items* stay until the last of these: a database that it makes cannot be made twice.
        """
        self._report = ""
        for number, item in enumerate(items, 1):
            following = (*items[number:], *after, *session.items)
            others = (one for one in following if one is not item)
            same = (one for one in others if after or one.path == item.path)
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=next(same, None))
            if self._report:
                break
        return self._report[-3000:]


@contextmanager
def in_this_process(mutant):
    """Change the function of *mutant* during the block."""
    path, text = mutant.mutated(ROOT)
    function, name = mutant.function, mutant.symbol.partition(":")[2]
    before = function.__code__
    function.__code__ = _code(compile(text, path, "exec"), name)
    try:
        yield
    finally:
        function.__code__ = before


def _code(outer, name):
    """Return the code object of the function *name* within that of a module."""
    inner = [one for one in outer.co_consts if isinstance(one, CodeType)]
    here = [one for one in inner if one.co_qualname == name]
    return here[0] if here else next(filter(None, (_code(one, name) for one in inner)), None)


def survivors_in_one_process(mutants):
    """Return the mutants of functions in this process whose tests passed."""
    plugin = InOneProcess(sorted(mutants, key=lambda mutant: mutant.test))
    files = sorted({f"tests/{mutant.test.partition('::')[0]}" for mutant in mutants})
    options = ["-q", "-n=0", "--no-header", "--no-summary", "-p", "no:cacheprovider"]
    options += ["-p", "no:unraisableexception"]  # warnings about objects that a mutant leaves open
    if (code := pytest.main([*options, *files], plugins=[plugin])) > pytest.ExitCode.TESTS_FAILED:
        raise SystemExit(code)
    return plugin.alive


def _tell(number, mutant, began, *, is_alive):
    word, seconds = "SURVIVES" if is_alive else "caught", time.monotonic() - began
    sys.stdout.write(f"{number:3} {word:8} {seconds:5.1f} s  {mutant.symbol}: {mutant.edit}\n")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("words", nargs="*")
    words = parser.parse_args().words
    os.environ["DAYBOOK_NO_SHRINKING"] = "1"
    chosen = [m for m in read() if all(word in f"{m.symbol} {m.edit} {m.test}" for word in words)]
    if not chosen:
        raise SystemExit("No mutant has all these words.")
    here = [mutant for mutant in chosen if mutant.function]
    others = [mutant for mutant in chosen if not mutant.function]
    alive = survivors_in_one_process(here) if here else []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(ROOT, tree, ignore=_IGNORED)
        if others and (output := failure(tree, sorted({f"tests/{m.test}" for m in others}))):
            raise SystemExit(f"The tests do not pass without a mutant either:\n{output}")
        alive += survivors(tree, others)
    sys.stdout.write(f"{len(chosen) - len(alive)} of {len(chosen)} caught\n")
    raise SystemExit(bool(alive))


if __name__ == "__main__":
    main()
