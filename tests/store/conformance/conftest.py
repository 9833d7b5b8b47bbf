"""Each store in turn, and its users."""

import time

import pytest

from tests.runs import IS_WHOLE
from tests.store.conformance.backends import BACKENDS
from tests.store.conformance.talk import say, unsaid

# promises that a store without sealing cannot keep: tampering is detected, and no text is stored
# readable
SEALED_ONLY = {
    *("test_tampering.py", "test_stored_text.py"),
    *("test_changed_piece_does_not_open", "test_message_with_another_list_is_unreadable"),
    *(
        "test_list_added_to_a_message_is_noticed",
        "test_other_search_text_does_not_open_and_is_replaced",
    ),
    "test_deleted_message_is_not_restored_without_its_list",
    # it looks for the texts of messages in the store
    "test_versions_of_a_temporary_chat_count_as_messages_a_minute",
}


# the rules of credentials, which are the same code over every store
_CREDENTIALS = {
    *("test_credentials.py", "test_ways_in.py", "test_proofs.py", "test_proofs_and_turns.py"),
    *("test_factors.py", "test_passkey_factors.py", "test_codes.py", "test_sign_in_methods.py"),
}
# the files that a plain run omits for a store, because a store with the same code runs them
_REPEATED = {
    "bytes": {"test_threads.py"},
    "json-plain": {"test_threads.py"},
    "firestore": _CREDENTIALS  # and others, because the emulator is slow
    | {"test_tampering.py", "test_outages.py", "test_corpus.py", "test_search_texts.py"}
    | {"test_storage.py", "test_attacks.py", "test_settings.py", "test_operator.py"}
    | {"test_administration.py", "test_upkeep.py", "test_account_end.py", "test_attachments.py"}
    | {"test_addresses.py"},
    "hosted": _CREDENTIALS
    | {"test_tampering.py", "test_outages.py", "test_stored_text.py", "test_threads.py"},
}


def pytest_collection_modifyitems(config, items):
    """Deselect the tests of sealing for the store without sealing, and in a plain run the repeated files."""

    def is_out(item):
        kind = getattr(item, "callspec", None)
        store = kind and kind.params.get("running")
        omitted = set() if IS_WHOLE else _REPEATED.get(store, set())
        if store == "json-plain":
            omitted = omitted | SEALED_ONLY
        return bool({item.path.name, getattr(item, "originalname", "")} & omitted)

    config.hook.pytest_deselected(items=[one for one in items if is_out(one)])
    items[:] = [one for one in items if not is_out(one)]


@pytest.fixture(scope="session", params=BACKENDS)
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
