"""The list of mutants: each line finds its symbol and its place, and leaves Python that compiles."""

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
