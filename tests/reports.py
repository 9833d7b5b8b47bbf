"""Lines at the end of a test run."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pytest


@dataclass(frozen=True, eq=False)
class PartReport:
    """Writes the line *described* at the end of a run with tests whose names have one of *words*: they may be a part of all."""

    words: Collection[str]
    described: Callable[[], str]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter):
        yield
        reports = (one for every in terminalreporter.stats.values() for one in every)
        names = [getattr(one, "nodeid", "") for one in reports]
        if any(word in name for name in names for word in self.words):
            terminalreporter.write_line(self.described())
