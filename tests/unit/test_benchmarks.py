"""Benchmarks are run by hand, and seldom: these tests check that each can still start."""

import importlib
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
NAMES = sorted(path.stem for path in FOLDER.glob("*.py") if "def main(" in path.read_text("utf-8"))


def test_there_are_some():
    assert {"fresh", "life", "page", "prefix_cache", "seal", "turns"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_each_says_how_it_is_run(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--help"])

    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"benchmarks.{name}").main()

    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out
