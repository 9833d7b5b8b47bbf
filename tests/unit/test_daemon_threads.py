"""Work in daemon threads, and the docstrings of classes about their threads."""

import ast
import re
import threading

import pytest

from services.daemon_threads import in_thread
from services.errors import StoreUnavailable
from tests.stack.apps import ROOT, SECONDS

_OF_THREADS = re.compile(r"\bthreading\.|\bin_thread\(|\bEvent\b")


def test_thread_returns_its_result_and_keeps_no_process_alive():
    future = in_thread("work", threading.current_thread)

    thread = future.result(SECONDS)

    assert (thread.name, thread.daemon) == ("work", True)


@pytest.mark.parametrize(("error", "is_logged"), [(StoreUnavailable(), False), (KeyError(), True)])
def test_thread_raises_its_error_and_logs_bugs(caplog, error, is_logged):
    def fail():
        raise error

    with pytest.raises(type(error)):
        in_thread("work", fail).result(SECONDS)

    assert ("the thread work failed" in caplog.text) is is_logged


@pytest.mark.slow
def test_class_of_several_threads_says_what_is_safe():
    silent = []
    for path in sorted((ROOT / "services").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and _OF_THREADS.search(ast.unparse(node)):
                says = ast.get_docstring(node) or ""
                silent += [] if "thread" in says else [f"{path.name}:{node.name}"]

    assert silent == []
