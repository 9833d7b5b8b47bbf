"""Each store in turn, and its users."""

import time

import pytest

from tests.store.conformance.backends import BACKENDS
from tests.store.conformance.talk import say, unsaid


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
    """Maya in this process, and in another."""
    return maya if request.param == "here" else maya.elsewhere()


@pytest.fixture(scope="module")
def busy_user(running):
    """One user for a module whose tests have a conversation each; another costs a sign-up."""
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
    """A conversation of Noah's, likewise."""
    return two_turns(noah)


@pytest.fixture(scope="session")
def zoe(running):
    """A user who has nothing, likewise."""
    return running.user()


def two_turns(user):
    thread = say(user, unsaid("Garden"), "When do I sow peas?", "In March.")
    return say(user, thread, "And beans?", "In May.")
