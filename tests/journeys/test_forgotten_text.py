"""Text that leaves the memory of the app's process, although nobody opens a further page."""

import pytest

from services.domain.limits import UNDO_SECONDS
from tests.leaking_app import texts_with
from tests.stack.apps import running, until

_SOON = 10.0  # seconds


@pytest.fixture(scope="module")
def socket(tmp_path_factory):
    """The path of the socket on which the app tells the texts in its memory."""
    return str(tmp_path_factory.mktemp("memory") / "socket")


@pytest.fixture(scope="module")
def app(make_app, socket):
    environment = {"PYTHONPATH": "."}
    made = make_app("leaking", environment=environment, program=("tests.leaking_app", socket))
    with running(made):
        made.until_ready()
        yield made


@pytest.fixture
def new_tab(maya):
    """Return a function that opens another tab with the chat of Maya's first."""

    def new_tab():
        tab = maya.new_tab()
        tab.page.goto(maya.page.url)
        tab.hears_all_of("You said: I say kestrel")
        return tab

    return new_tab


@pytest.fixture
def texts(socket):
    return lambda word: texts_with(word, socket)


def test_deleted_and_temporary_chats_leave_memory(maya, new_tab, texts):
    maya.asks("I say kestrel")
    maya.hears_all_of("You said: I say kestrel")
    new_tab()  # stays behind the others
    new_tab().page.close()
    temporary = maya.new_tab()
    temporary.visit()
    temporary.turns_to_a_temporary_chat()
    temporary.asks("I say plover")
    temporary.hears_all_of("You said: I say plover")
    maya.page.bring_to_front()
    assert "kestrel" in texts("kestrel")
    assert "plover" in texts("plover")

    temporary.page.close()
    maya.deletes("I say kestrel")

    until(lambda: not texts("plover"), 2 * _SOON)  # for ten of them the page may come back
    until(lambda: not texts("kestrel"), UNDO_SECONDS + _SOON, lambda: texts("kestrel"))


def test_own_sign_out_leaves_no_text_in_memory(maya, new_tab, texts):
    maya.asks("I say kestrel")
    maya.hears_all_of("You said: I say kestrel")
    new_tab().page.close()
    assert "kestrel" in texts("kestrel")

    maya.signs_out()

    until(lambda: not texts("kestrel"), _SOON, lambda: texts("kestrel"))
