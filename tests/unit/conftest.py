"""A user over rows in memory, with a scripted model."""

import pytest

from tests.fakes import MAYA, FakePerson, ScriptedModel
from tests.stores import InMemoryDatabase


@pytest.fixture
def model():
    return ScriptedModel()


@pytest.fixture
def database():
    return InMemoryDatabase(MAYA)


@pytest.fixture
def maya(database, model):
    return FakePerson(database, model)
