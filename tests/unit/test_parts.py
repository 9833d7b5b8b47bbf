"""Parts of the tests that a machine may lack: how they are found, and the lines that a run without them ends with."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from tests import npm_firestore, reports
from tests.parts import POSTGRES, library, newest_postgres, postgres_folder
from tests.reports import LackReport, PartReport
from tests.stack.apps import ROOT

NO_POSTGRES = replace(POSTGRES, found=None)


@pytest.fixture
def installed(tmp_path):
    """Return a function that makes a folder in which some versions of Postgres are installed."""

    def make(*versions):
        for version in versions:
            postgres_folder(version, tmp_path).mkdir(parents=True)
            (postgres_folder(version, tmp_path) / "postgres").touch()
        return tmp_path

    return make


@pytest.mark.parametrize(
    ("versions", "newest"), [((13, 15, 17), 17), ((13, 15), 15), ((13, 19), None), ((), None)]
)
def test_newest_postgres_that_works_is_found(installed, versions, newest):
    assert newest_postgres(installed(*versions)) == newest


def test_clients_alone_are_no_postgres(tmp_path):
    postgres_folder(17, tmp_path).mkdir(parents=True)

    assert newest_postgres(tmp_path) is None


def test_library_is_found_by_its_name():
    assert library("libc.so.6") == "libc.so.6"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems need no such library")
def test_missing_library_is_not_found():
    assert library("libkumquat.so.7") is None


@pytest.mark.parametrize(("tests", "wanted"), [("", False), ("all", True)])
def test_other_browsers_are_parts_of_the_long_run(tests, wanted):
    environment = {"PATH": "/none", "DAYBOOK_TESTS": tests}
    command = [sys.executable, "-m", "tests.parts"]

    lacks = subprocess.check_output(command, text=True, env=environment, cwd=ROOT).split()

    assert "chromium-headless-shell" in lacks
    assert ({"firefox-esr", "webkit2gtk-driver", "xvfb", "poppler-utils"} <= {*lacks}) is wanted


def test_test_without_its_part_is_skipped(monkeypatch):
    monkeypatch.delenv("CI", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"Postgres is missing \(Debian: postgresql\)"):
        NO_POSTGRES.required()


def test_test_without_its_part_fails_in_ci(monkeypatch):
    monkeypatch.setenv("CI", "true")

    with pytest.raises(pytest.fail.Exception, match=r"Postgres is missing \(Debian: postgresql\)"):
        NO_POSTGRES.required()


def run_of(*outcomes):
    """Return the end of a run whose tests have these names, outcomes and reasons of a skip."""
    lines, stats = [], {"": [], "passed": [], "skipped": []}
    for name, outcome, reason in outcomes:
        place = (name, 1, f"Skipped: {reason}") if reason else None
        report = pytest.TestReport(name, (name, 1, name), {}, outcome, place, "call")
        stats[outcome].append(report)
        stats[""].append(pytest.TestReport(name, (name, 1, name), {}, "passed", None, "setup"))
    return SimpleNamespace(stats=stats, write_line=lines.append, lines=lines)


def ended(plugin, run):
    """Return the lines that *plugin* writes at the end of *run*."""
    for _ in plugin.pytest_terminal_summary(run):
        assert run.lines == []
    return run.lines


def test_run_ends_with_missing_parts(monkeypatch):
    monkeypatch.setattr(reports, "PARTS", (NO_POSTGRES,))
    run = run_of(
        ("a.py::test_a", "skipped", NO_POSTGRES.lack),
        ("b.py::test_b", "skipped", NO_POSTGRES.lack),
        ("b.py::test_c", "skipped", "another reason"),
        ("b.py::test_d", "passed", ""),
    )

    assert ended(LackReport(), run) == [
        "Debian's Postgres is missing (Debian: postgresql): 2 tests were skipped"
    ]
    assert ended(LackReport(), run_of(("b.py::test_d", "passed", ""))) == []


def test_run_ends_with_what_held_on_npms_emulator():
    failed = "failed, and npm's emulator of Firestore has no cursors"
    run = run_of(
        ("a.py::test_a[firestore]", "passed", ""),
        ("a.py::test_b[firestore]", "skipped", failed),
        ("a.py::test_c[firestore]", "skipped", "npm's emulator of Firestore has no rules"),
        ("a.py::test_a[sqlite]", "passed", ""),
    )

    assert ended(PartReport(["[firestore"], npm_firestore.outcomes), run) == [
        "1 held and 1 were skipped after a failure"
    ]
