"""The breakages of `tests/mutants.py` are ones: each finds its place, and what it makes of a module can be read."""

from tests.mutants import MUTANTS, ROOT


def test_each_breakage_finds_its_place_and_leaves_a_module():
    lost = [m for m in MUTANTS if (ROOT / m.file).read_text(encoding="utf-8").count(m.old) != 1]
    assert lost == []
    for mutant in MUTANTS:
        if mutant.file.endswith(".py"):
            text = (ROOT / mutant.file).read_text(encoding="utf-8")
            compile(text.replace(mutant.old, mutant.new), mutant.file, "exec")
