"""Chats over rows in memory, with a scripted model server."""

import pytest

from tests.chats import chat_factory
from tests.fakes import MAYA
from tests.stores import InMemoryDatabase


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA)


@pytest.fixture
def make_chat(database, model):
    """Return a function that makes the chat of a process over the same rows, with nothing cached."""
    with chat_factory(model) as make:
        yield lambda **choices: make(database.store(), database.sweep, **choices)


@pytest.fixture
def chat(make_chat):
    return make_chat()
