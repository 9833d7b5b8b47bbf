"""Lines at the end of a test run."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pytest

from tests.parts import PARTS


@dataclass(frozen=True, eq=False)
class PartReport:
    """Writes a line at the end of a run with tests whose names have one of *words*. *described* returns it for their reports."""

    words: Collection[str]
    described: Callable[[list], str]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter):
        yield
        if reports := [test for test in _reports(terminalreporter) if self._is_of(test)]:
            terminalreporter.write_line(self.described(reports))

    def _is_of(self, report):
        return any(word in report.nodeid for word in self.words)


class LackReport:
    """Writes a line for each part that the machine lacks, at the end of a run that skipped tests for it."""

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter):
        yield
        reports = [*_reports(terminalreporter)]
        for part in PARTS:
            if count := skipped_for(part.lack, reports):
                terminalreporter.write_line(f"{part.lack}: {count} tests were skipped")


def skipped_for(reason, reports):
    """Return the number of the tests that were skipped for a reason that begins so."""
    reasons = (test.longrepr[2] for test in reports if isinstance(test.longrepr, tuple))
    return sum(text.startswith(f"Skipped: {reason}") for text in reasons)


def _reports(terminalreporter):
    """Return the reports of a run, without those of passed fixtures."""
    every = (report for name, some in terminalreporter.stats.items() if name for report in some)
    return (report for report in every if isinstance(report, pytest.TestReport))
