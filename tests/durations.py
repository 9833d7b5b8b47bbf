"""CPU and wall seconds of a test run, by test file and by the servers that fixtures start.

The last line of a run has its sums. `python -m tests.durations [arguments of pytest]` also writes the table tests/durations.md.
"""

import os
import subprocess
import sys
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

TABLE = Path(__file__).with_suffix(".md")
_TABLE_WANTED = "DAYBOOK_DURATIONS"
_SERVERS = {  # fixtures of servers that many files share: their starts have rows of their own
    "embedded_stack": "start of the embedded stack",
    "hosted": "start of the hosted rig",
    "open_rig": "start of the hosted rig",
    "second_rig": "start of the hosted rig",
    "second_postgres": "start of the second Postgres",
    "firestore": "start of the Firestore emulator",
    "app": "start of the journeys' app",
}
_LISTED_SECONDS = 2.0  # CPU seconds from which a file has a row of its own


def cpu_seconds(*, with_children=True):
    """Return the CPU seconds of this process and its descendants, ended ones included if their parent waited for them."""
    own, total = psutil.Process(), 0.0
    if not with_children:
        return sum(own.cpu_times()[:2])
    for process in [own, *own.children(recursive=True)]:
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])  # of ended children, too
    return total


class Durations:
    """Attributes the CPU and wall seconds of a worker to files and servers, and sums those of all workers in the controller.

    Processes that nobody waits for, as Chromium's on its exit, are read before a file's fixtures end.
    """

    def __init__(self, config):
        self._config = config
        self._rows = defaultdict(lambda: [0.0, 0.0, 0])  # CPU seconds, wall seconds, tests
        self._row = "collection and waiting"
        self._load = os.getloadavg()[0]
        self._begun = self._at = time.monotonic()
        self._cpu = 0.0
        self._terminal = None  # of the process that writes the summary

    def _switch(self, row):
        """Attribute what was used since the last call to the current row, and go on with *row*. Return the former row."""
        # the children of the controller are the workers, which count themselves
        cpu = self._cpu
        with suppress(AttributeError):  # a test hides psutil
            cpu = cpu_seconds(with_children=not self._config.pluginmanager.has_plugin("dsession"))
        at, former = time.monotonic(), self._row
        self._rows[former][0] += max(cpu - self._cpu, 0)
        self._rows[former][1] += at - self._at
        self._cpu, self._at, self._row = cpu, at, row
        return former

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        file = item.location[0]
        if self._row != file:
            self._switch(file)
        self._rows[file][2] += 1
        result = yield
        if nextitem is None or nextitem.location[0] != file:
            self._switch("collection and waiting")
        return result

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_teardown(self, item, nextitem):
        if nextitem is None or nextitem.location[0] != item.location[0]:
            self._switch(self._row)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        if fixturedef.argname not in _SERVERS or fixturedef.scope == "function":
            return (yield)
        former = self._switch(_SERVERS[fixturedef.argname])
        try:
            return (yield)
        finally:
            self._switch(former)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        self._switch(self._row)
        if hasattr(self._config, "workeroutput"):
            self._config.workeroutput["durations"] = dict(self._rows)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node):
        for row, figures in getattr(node, "workeroutput", {}).get("durations", {}).items():
            self._rows[row] = [sum(pair) for pair in zip(self._rows[row], figures, strict=True)]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter):
        yield
        self._terminal = terminalreporter

    def pytest_unconfigure(self):
        """Write the sums, after the line of pytest's own that would otherwise be the last."""
        if self._terminal is None:
            return
        cpu = sum(figures[0] for figures in self._rows.values())
        wall = time.monotonic() - self._begun
        line = f"{wall:.0f} s, {cpu:.0f} CPU seconds, load {self._load:.1f} at the begin"
        if os.environ.get(_TABLE_WANTED):
            TABLE.write_text(_table(self._rows, line), encoding="utf-8")
        self._terminal.write_line(line)


def _table(rows, line):
    """Return a Markdown table of the rows, those of most CPU seconds first; small files are one row."""
    small = [row for row, figures in rows.items() if figures[0] < _LISTED_SECONDS and figures[2]]
    listed = {row: figures for row, figures in rows.items() if row not in small}
    others = [sum(column) for column in zip(*(rows[row] for row in small), strict=True)]
    if small:
        listed[f"{len(small)} files of less than {_LISTED_SECONDS:.0f} CPU seconds"] = others
    lines = [
        f"| {row} | {cpu:.1f} | {wall:.1f} | {tests or ''} |"
        for row, (cpu, wall, tests) in sorted(listed.items(), key=lambda item: -item[1][0])
    ]
    head = [
        "# Durations of the tests",
        "",
        f"The whole run: {line}. Written by `python -m tests.durations`.",
        "",
    ]
    return "\n".join(
        [*head, "| file or server | CPU s | worker s | tests |", "|---|---|---|---|", *lines, ""]
    )


if __name__ == "__main__":
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    sys.exit(subprocess.run(command, env=os.environ | {_TABLE_WANTED: "1"}, check=False).returncode)
