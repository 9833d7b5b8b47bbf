"""The list of mutants: each line finds its symbol, its place and its test, and leaves Python that compiles."""

from tests.mutants import ROOT, read


def test_each_mutant_finds_its_place():
    lost = []
    for mutant in read():
        try:
            path, text = mutant.mutated(ROOT)
        except (LookupError, ValueError) as error:
            lost.append(f"{mutant.symbol} | {mutant.edit}: {error}")
            continue
        assert text != path.read_text()
        if path.suffix == ".py":
            compile(text, path, "exec")
    assert lost == []


def test_test_of_each_mutant_exists():
    lost = []
    for mutant in read():
        path, name = mutant.test.partition("[")[0].split("::")
        if f"def {name}(" not in (ROOT / "tests" / path).read_text():
            lost.append(mutant.test)
    assert lost == []
