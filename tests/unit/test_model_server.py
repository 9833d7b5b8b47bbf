"""The admins' actions on the model endpoint."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event
from types import SimpleNamespace

import pytest

from services.domain import AccountRole
from services.domain.model_failures import ModelFailure, ModelUnavailable
from services.errors import AdminsOnly, UnreadableInput
from services.llm import connection
from services.llm.connection import Connection
from services.llm.endpoint import Endpoint
from services.llm.model_spec import LimitRefusal
from tests.fakes import INFO, FakePerson


@pytest.fixture
def answers():
    """The answers to requests for the list of models, in order; an error is raised."""
    return [{"data": [{"id": "scripted"}]}, ModelUnavailable(ModelFailure.UNAUTHORIZED), "<html>"]


@pytest.fixture
def tested(answers):
    def list_models():
        answer = answers.pop(0)
        if isinstance(answer, ModelUnavailable):
            raise answer
        return answer

    return Connection(Endpoint("https://llm.test/v1"), list_models)


@pytest.mark.parametrize("role", AccountRole)
def test_learnt_limits_are_forgotten_for_admins_alone(database, model, role):
    person = FakePerson(database, model, role)
    person.offers.narrow("scripted", LimitRefusal(context_tokens=800))

    if role is AccountRole.ADMIN:
        person.model_server.forget_refusals("scripted")
        assert person.offers.first.info == INFO
    else:
        with pytest.raises(AdminsOnly):
            person.model_server.forget_refusals("scripted")
        assert person.offers.first.info.context_tokens == 800


def test_connection_is_tested_for_admins_alone(database, model, tested, answers):
    with pytest.raises(AdminsOnly):
        FakePerson(database, model, connection=tested).model_server.test()

    assert len(answers) == 3


def test_local_model_is_not_tested(database, model):
    with pytest.raises(UnreadableInput):
        FakePerson(database, model, AccountRole.ADMIN).model_server.test()


def test_connection_is_tested_at_most_every_five_seconds(tested, answers, monkeypatch):
    clock = iter([0.0, 0.2, 0.3, 5.2, 5.3, 5.4, 5.5, 5.6, 10.6, 10.7, 10.8, 10.9])
    monkeypatch.setattr(connection, "time", SimpleNamespace(monotonic=lambda: next(clock)))

    first, again, refused, unread = (tested.test() for _ in range(4))

    assert again is first
    assert (first.host, first.models, first.ms, first.failure) == ("llm.test:443", 1, 200, None)
    assert (refused.models, refused.failure) == (0, ModelFailure.UNAUTHORIZED)
    assert (unread.models, unread.failure) == (0, None)
    assert answers == []


def test_tests_at_the_same_time_ask_once():
    asked, second = [], Event()

    def list_models():
        asked.append(None)
        if len(asked) > 1:
            second.set()
        second.wait(0.3)  # for a second request, which must not come
        return []

    tested = Connection(Endpoint("https://llm.test/v1"), list_models)
    with ThreadPoolExecutor(8) as pool:
        tests = [pool.submit(tested.test) for _ in range(8)]

    assert len({id(test.result()) for test in tests}) == len(asked) == 1
