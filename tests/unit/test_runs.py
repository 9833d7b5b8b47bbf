"""Which tests a run has, and how they are distributed over its workers."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tests import runs
from tests.scheduling import group_of
from tests.stack.apps import ROOT


@pytest.mark.parametrize(
    ("nodeid", "group"),
    [
        ("tests/unit/test_vault.py::test_one[a]", "tests/unit/test_vault.py"),
        ("tests/store/test_leaks.py::test_one", "tests/store/test_leaks.py"),
        (
            "tests/store/test_files.py::test_one[json-plain-a]",
            "tests/store/test_files.py[json-plain]",
        ),
        ("tests/store/test_chat.py::test_one[embedded]", "tests/store/test_chat.py[embedded]"),
        ("tests/store/test_chat.py::test_one[hosted]", "the hosted rig"),
        ("tests/hosted/test_auth.py::test_one", "the hosted rig"),
        ("tests/store/test_firestore.py::test_one", "the Firestore emulator"),
        (
            "tests/journeys/test_access.py::test_one[a]",
            "tests/journeys/test_access.py::test_one[a]",
        ),
    ],
)
def test_tests_of_one_server_or_file_have_one_worker(nodeid, group):
    assert group_of(nodeid) == group


def collected(tests, last, monkeypatch, tmp_path, *, is_whole=False):
    """Return the names of those *tests* (marks by name) that a run has after a long run with these *last* lines."""
    monkeypatch.setattr(runs, "IS_WHOLE", is_whole)
    monkeypatch.setattr(runs, "_LONG_RUN", tmp_path / "long-run.md")
    if last is not None:
        (tmp_path / "long-run.md").write_text(last)
    items = [
        SimpleNamespace(name=name, get_closest_marker=lambda _, mark=mark: mark)
        for name, mark in tests.items()
    ]
    gone = []
    hook = SimpleNamespace(pytest_deselected=lambda items: gone.extend(items))
    before = {item.name for item in items}

    runs.pytest_collection_modifyitems(SimpleNamespace(hook=hook), items)

    left = {item.name for item in items}
    assert {item.name for item in gone} == before - left
    return left


TESTS = {
    "plain": None,
    "long": pytest.mark.long_run.mark,
    "start": pytest.mark.long_run(start=True).mark,
}
GREEN = f"with exit code 0. A start whose files have the hash {runs.start_hash()}"


@pytest.mark.parametrize(
    ("last", "names"),
    [
        (GREEN, {"plain"}),
        (GREEN.replace("code 0", "code 1"), {"plain", "start"}),
        ("with exit code 0. Of another start", {"plain", "start"}),
        (None, {"plain", "start"}),
    ],
)
def test_changed_start_adds_its_tests_to_the_run(last, names, monkeypatch, tmp_path):
    assert collected(TESTS, last, monkeypatch, tmp_path) == names


def test_long_run_has_all_tests(monkeypatch, tmp_path):
    assert collected(TESTS, GREEN, monkeypatch, tmp_path, is_whole=True) == set(TESTS)


@pytest.mark.slow
def test_last_line_of_a_run_has_its_seconds_and_load():
    command = [sys.executable, "-m", "pytest", "-n0", "-q", "tests/unit/test_codes.py"]

    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout

    *_, last = said.splitlines()
    assert last.endswith("at the begin")
    assert " CPU seconds, load " in last
