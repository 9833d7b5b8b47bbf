"""The table of promises: each row names a mutant that is listed, or a line that is there, and a test that exists."""

import re

import pytest

from tests.mutants import ROOT, read

_BREAKAGE, _TEST = re.compile(r"`([^`]+)`: `([^`]+)`"), re.compile(r"`([^`]+)`")


def rows():
    """Return the cells of each row of promises.md, without those of the headings."""
    lines = (ROOT / "tests" / "promises.md").read_text().splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] != "promise"]


def is_listed(place, part, test):
    """Return True if the mutant of *place* with *part* in its edit has *test*; a path is a file with the line *part*."""
    if "/" in place:
        path, name = test.partition("[")[0].split("::")
        is_test = f"def {name}(" in (ROOT / "tests" / path).read_text()
        return is_test and part in (ROOT / place).read_text()
    mutants = [mutant for mutant in read() if mutant.symbol == place and part in mutant.edit]
    # a test that mutants.txt names without parameters is run with all of them
    return any(f"{test}[".startswith(f"{mutant.test}[") for mutant in mutants)


@pytest.mark.slow
def test_each_promise_names_a_mutant_and_its_test():
    lost = []
    for promise, breakages, tests in rows():
        found, named = _BREAKAGE.findall(breakages), _TEST.findall(tests)
        is_whole = 0 < len(found) == len(named) and "in-memory" not in tests
        if not is_whole or not all(map(is_listed, *zip(*found, strict=True), named)):
            lost.append(promise)
    assert len(rows()) > 150
    assert lost == []
