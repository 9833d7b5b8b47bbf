"""Work in daemon threads."""

import threading

import pytest

from services.errors import StoreUnavailable
from services.threads import in_thread
from tests.stack.apps import SECONDS


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
