"""Each store in turn, and its users."""

import time
from pathlib import Path

import pytest

from tests.runs import IS_WHOLE
from tests.store.conformance.accounts.deployments import KINDS
from tests.store.conformance.backends import BACKENDS
from tests.store.conformance.talk import say, unsaid

# promises that a store without sealing cannot keep: tampering is detected, and no text is stored
# readable
SEALED_ONLY = {
    *("test_tampering.py", "test_stored_text.py"),
    *("test_changed_piece_does_not_open", "test_message_with_another_list_is_unreadable"),
    "test_list_added_to_a_message_is_noticed",
    *("test_swapped_search_text_is_left_out", "test_search_text_of_another_chat_is_left_out"),
    "test_unreadable_search_text_is_replaced",
    "test_deleted_message_is_not_restored_without_its_list",
    # it looks for the texts of messages in the store
    "test_versions_of_a_temporary_chat_count_as_messages_a_minute",
}


# A plain run has every file on a store over tables that runs blocks twice, and on SQL, which has rules of its own.
_WHOLE = {"bytes", "embedded"}
# On the other stores it has what a store can break that keeps the protocol of tables (tests/store/test_tables_protocol.py).
_SMOKE = {
    *("test_isolation.py", "test_stored_text.py", "test_deletions.py", "test_races.py"),
    *("test_threads.py", "test_attacks.py", "test_search.py"),
}


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc):
    """Run a file on each store, or in a plain run on those that it is for."""
    if "running" in metafunc.fixturenames:
        file = metafunc.module.__file__
        stores = KINDS if Path(file).parent.name == "accounts" else BACKENDS
        is_everywhere = IS_WHOLE or Path(file).name in _SMOKE
        chosen = [store for store in stores if is_everywhere or store in _WHOLE]
        metafunc.parametrize("running", chosen, indirect=True, scope="session")


def pytest_collection_modifyitems(config, items):
    """Deselect the tests of sealing for the store without sealing."""

    def is_out(item):
        kind = getattr(item, "callspec", None)
        is_plain = kind and kind.params.get("running") == "json-plain"
        return is_plain and {item.path.name, getattr(item, "originalname", "")} & SEALED_ONLY

    config.hook.pytest_deselected(items=[one for one in items if is_out(one)])
    items[:] = [one for one in items if not is_out(one)]


@pytest.fixture(scope="session")
def running(request):
    backend = BACKENDS[request.param](request.getfixturevalue)
    yield backend
    backend.close()


@pytest.fixture(autouse=True)
def backend(running, monkeypatch):
    monkeypatch.setattr(time, "monotonic", running.monotonic)
    return running


@pytest.fixture
def maya(backend):
    return backend.user()


@pytest.fixture(params=["here", "elsewhere"])
def reader(request, maya):
    """Maya in this process, and then in another."""
    return maya if request.param == "here" else maya.elsewhere()


@pytest.fixture(scope="module")
def busy_user(running):
    """A user for a module whose tests have a conversation each, because another user would cost a sign-up."""
    user = running.user()
    running.set_caps(user, open_turns=1000, turns_a_minute=1000)
    return user


@pytest.fixture
def omar(backend):
    return backend.user()


@pytest.fixture
def garden(maya):
    """A conversation of Maya's with two prompts and their replies."""
    return two_turns(maya)


@pytest.fixture
def garden_id(garden):
    return garden.conversation.id


@pytest.fixture(scope="session")
def noah(running):
    """A user for tests that store nothing."""
    return running.user()


@pytest.fixture(scope="session")
def pond(noah):
    """A conversation of Noah's, for tests that store nothing."""
    return two_turns(noah)


@pytest.fixture(scope="session")
def zoe(running):
    """A user without data, for tests that store nothing."""
    return running.user()


def two_turns(user):
    thread = say(user, unsaid("Garden"), "When do I sow peas?", "In March.")
    return say(user, thread, "And beans?", "In May.")
