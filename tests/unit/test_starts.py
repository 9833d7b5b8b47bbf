"""The starts of the tests' own servers: their patience, their second try, and the one test that fails for them."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from services.embedded.processes import Server
from tests.stack.starts import NeverStarted, StartFailed, await_start, tried_twice, work_of

ROOT = Path(__file__).parents[2]


class Clock:
    """Time that passes where the code under test sleeps."""

    def __init__(self):
        self.seconds = 0.0

    def now(self):
        return self.seconds

    def sleep(self, seconds):
        self.seconds += max(seconds, 0.5)


@pytest.fixture
def clock():
    return Clock()


def waited(clock, is_up, progress):
    await_start(is_up, progress, lambda: ": its log", now=clock.now, sleep=clock.sleep)


def test_slow_start_that_makes_progress_is_waited_for(clock):
    waited(clock, lambda: clock.seconds > 1150, lambda: clock.seconds // 250)


def test_start_that_makes_progress_forever_fails(clock):
    with pytest.raises(StartFailed, match="not up after 1200 s: its log"):
        waited(clock, lambda: False, clock.now)

    assert clock.seconds < 1210


def test_start_without_progress_fails_early(clock):
    with pytest.raises(StartFailed, match="no CPU time and no log for 300 s: its log"):
        waited(clock, lambda: False, lambda: 7)

    assert clock.seconds < 310


def test_start_whose_processes_ended_fails_at_once(clock):
    with pytest.raises(StartFailed, match="it ended: its log"):
        waited(clock, lambda: False, lambda: None)

    assert clock.seconds < 5


def test_cpu_time_and_log_count_as_progress(tmp_path):
    own, log = [psutil.Process()], tmp_path / "log"
    seconds, size = work_of(own, [log])

    log.write_text("started")
    while work_of(own, [log])[0] == seconds:
        pass

    assert work_of(own, [log])[1] == size + 7


def test_product_waits_for_a_part_no_longer_than_before():
    assert Server.start_seconds == 300


def server(*outcomes):
    """Return a server whose starts end as *outcomes* say, and a list of the events meanwhile."""
    left, events = list(outcomes), []

    @tried_twice("the server", note=events.append)
    @contextmanager
    def started():
        try:
            if reason := left.pop(0):
                raise StartFailed(reason)
            yield "address"
        finally:
            events.append("stopped")

    return started, events


def test_second_try_follows_the_end_of_the_first():
    started, events = server("too slow", "")

    with started() as address:
        assert (address, events) == ("address", ["stopped", "the server: too slow"])

    assert events == ["stopped", "the server: too slow", "stopped"]


def test_second_failure_names_both_reasons():
    started, events = server("too slow", "it ended")

    with pytest.raises(NeverStarted, match=r"the server .*two tries.*too slow\nSecond: it ended"):
        started().__enter__()

    assert events == ["stopped", "the server: too slow", "stopped"]


def test_failure_after_the_start_is_not_tried_again():
    started, events = server("", "")

    with pytest.raises(StartFailed), started():
        raise StartFailed

    assert events == ["stopped"]


_CONFTEST = """
from contextlib import contextmanager
import pytest
from tests.stack.starts import StartFailed, tried_twice

tries = iter({tries})

@tried_twice("the server")
@contextmanager
def started():
    if reason := next(tries):
        raise StartFailed(reason)
    yield

@pytest.fixture(scope="session")
def server():
    with started():
        yield

@pytest.fixture(scope="module")
def rows(server):
    return []
"""
_TESTS = """
def test_one(server): pass
def test_two(rows): pass
def test_three(server): pass
def test_without_it(): pass
"""


@pytest.fixture
def run_of_tests(tmp_path):
    """Return a function that runs tests whose server starts as the reasons of *tries* say; it returns the exit code and output."""

    def run(*tries, processes):
        (tmp_path / "conftest.py").write_text(_CONFTEST.format(tries=tries))
        for name in ("test_a.py", "test_b.py"):
            (tmp_path / name).write_text(_TESTS)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        options = ["-p", "xdist", "-p", "tests.stack.starts", "-p", "no:cacheprovider", "-q", "-rs"]
        options += ["-n", processes]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, "--dist=loadfile", "."],
            cwd=tmp_path,
            # without Hypothesis and other plugins, whose imports take most of such a run
            env={
                "PATH": os.defpath,
                "PYTHONPATH": str(ROOT),
                "COLUMNS": "300",
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            },
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout

    return run


@pytest.mark.slow
def test_start_that_never_comes_up_fails_one_test(run_of_tests):
    code, output = run_of_tests("too slow", "it ended", processes="0")

    assert code == 1
    assert "1 failed, 2 passed, 5 skipped" in output
    assert "the server did not start, at two tries. First: too slow Second: it ended" in output
    assert "error" not in output.lower()


@pytest.mark.slow
def test_each_worker_fails_one_test_of_its_own(run_of_tests):
    code, output = run_of_tests("too slow", "it ended", processes="2")

    assert code == 1
    assert "2 failed, 2 passed, 4 skipped" in output


@pytest.mark.slow
def test_second_try_is_named_in_the_summary(run_of_tests):
    code, output = run_of_tests("too slow", "", processes="2")

    assert code == 0
    assert output.count("SECOND TRY the server: too slow") == 2
