"""Starts of servers for tests: patient while they make progress, tried twice, and reported once."""

import time
from contextlib import ExitStack, contextmanager, suppress
from functools import wraps

import psutil
import pytest

from services.embedded.processes import tail

START_SECONDS = 1200.0  # of a start that makes progress: the machine may have much other work
SILENT_SECONDS = 300.0  # without CPU time or a line of log: it hangs
_POLL_SECONDS = 0.1  # between two calls of `is_up`: its server answers while it starts its parts
_LOOK_SECONDS = 1.0  # between two polls of the progress, which cost CPU time themselves
_second_tries = []  # reasons of failed first tries that are not reported yet
_reported = []  # instances of NeverStarted for which a test has failed


class StartFailed(Exception):
    """Raised by a try of a start; the text has the reason and the last lines of the logs."""


class NeverStarted(Exception):
    """Raised if the second try of a start failed, too. Tests behind a fixture share one instance."""


def await_start(is_up, progress, told=lambda: "", *, now=time.monotonic, sleep=time.sleep):
    """Return once *is_up*. Raise StartFailed if the start ends, makes no progress, or takes too long.

    *progress* returns a value that changes with each progress, or None if the processes have ended.
    """
    began = changed = looked = now()
    before = progress()
    while not is_up():
        sleep(_POLL_SECONDS)
        if now() - looked < _LOOK_SECONDS:
            continue
        looked, current = now(), progress()
        if current is None:
            if is_up():
                return
            raise StartFailed(f"it ended{told()}")
        if current != before:
            before, changed = current, looked
        if looked - changed > SILENT_SECONDS:
            raise StartFailed(f"no CPU time and no log for {SILENT_SECONDS:.0f} s{told()}")
        if looked - began > START_SECONDS:
            raise StartFailed(f"not up after {START_SECONDS:.0f} s{told()}")


def await_child(child, log, is_up):
    """Return once *is_up*, for a server of one process with the log *log*. Raise StartFailed."""

    def progress():
        ended = child.poll() is not None
        return None if ended else work_of([psutil.Process(child.pid)], [log])

    await_start(is_up, progress, lambda: f": {tail(log)}")


def work_of(processes, logs):
    """Return the CPU time of *processes* and their children, and the bytes of *logs*."""
    seconds = sum(map(_cpu_seconds, {one for each in processes for one in _with_children(each)}))
    return seconds, sum(map(_size, logs))


def _size(log):
    with suppress(FileNotFoundError):  # the name may briefly be that of an older log
        return log.stat().st_size
    return 0


def children_in(folder):
    """Return the child processes of this one that work in *folder*."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if process.cwd().startswith(str(folder)):
                found.append(process)
    return found


def _with_children(process):
    with suppress(psutil.Error):
        return [process, *process.children(recursive=True)]
    return []


def _cpu_seconds(process):
    with suppress(psutil.Error):
        return sum(process.cpu_times()[:4])  # includes children that have ended
    return 0.0


def twice(what, start, again=None, note=_second_tries.append):
    """Return the result of *start*, or of *again* (or *start*) if it raised StartFailed. Raise NeverStarted."""
    try:
        return start()
    except StartFailed as first:
        note(f"{what}: {first}")
        try:
            return (again or start)()
        except StartFailed as second:
            reason = f"{what} did not start, at two tries. First: {first}\nSecond: {second}"
            raise NeverStarted(reason) from None


def tried_twice(what, note=_second_tries.append):
    """Decorate a context manager whose start may raise StartFailed: enter it a second time, then raise NeverStarted."""

    def decorate(start):
        @wraps(start)
        @contextmanager
        def started(*args, **options):
            with ExitStack() as entered:
                yield twice(what, lambda: entered.enter_context(start(*args, **options)), note=note)

        return started

    return decorate


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(call):
    """Fail one test for a failed start; skip the others that share it, with its reason."""
    report = yield
    report.second_tries = list(_second_tries)
    _second_tries.clear()
    failure = call.excinfo and call.excinfo.value
    report.has_no_start = isinstance(failure, NeverStarted)
    if not report.has_no_start:
        return report
    if any(failure is each for each in _reported):
        path, line, _ = report.location
        report.outcome, report.longrepr = "skipped", (path, line, f"Skipped: {_line(failure)}")
    else:
        _reported.append(failure)
    return report


def pytest_report_teststatus(report):
    """Count the one test as failed, not as an error, although its fixture failed."""
    if getattr(report, "has_no_start", False) and report.failed:
        return "failed", "F", "FAILED"
    return None


def pytest_terminal_summary(terminalreporter):
    """List the starts that needed a second try, so that an occasional failure is not hidden."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for reason in getattr(report, "second_tries", ()):
                terminalreporter.write_line(f"SECOND TRY {_line(reason)}")


def _line(reason):
    """Return one line of *reason*: its beginning, and its end, where logs have the error."""
    line = " ".join(str(reason).split())
    return line if len(line) <= 300 else f"{line[:100]} … {line[-200:]}"
