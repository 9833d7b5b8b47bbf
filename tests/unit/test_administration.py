"""A refused action of an admin has no effect."""

from types import SimpleNamespace
from unittest.mock import Mock
from uuid import uuid4

import pytest

from services.domain.models import ModelPrices
from services.errors import BadInput, LastAdmin
from services.store.administration import ModelAdministration, UserAccess


@pytest.mark.parametrize(
    "end",
    [
        lambda administration: administration.suspend(uuid4(), is_suspended=True),
        lambda administration: administration.delete(uuid4()),
    ],
    ids=["suspend", "delete"],
)
def test_refused_end_stops_no_reply(end):
    stopped = []

    def refuse(_, *, is_shut):
        raise LastAdmin(is_shut)

    with pytest.raises(LastAdmin, match="True"):
        end(UserAccess(SimpleNamespace(check_end=refuse), stopped.append))

    assert stopped == []


@pytest.mark.parametrize(
    ("end", "name"),
    [
        (lambda access, user_id: access.suspend(user_id, is_suspended=True), "suspend"),
        (lambda access, user_id: access.sign_out(user_id), "sign_out"),
        (lambda access, user_id: access.delete(user_id), "delete"),
    ],
    ids=["suspend", "sign out", "delete"],
)
def test_ended_sessions_are_forgotten_at_once(end, name):
    store, user_id = Mock(), uuid4()

    end(UserAccess(store, store.stop_turns, store.confirm, store.forget), user_id)

    assert [call[0] for call in store.mock_calls[-2:]] == [name, "forget"]
    store.forget.assert_called_once_with(user_id)


def test_dearer_cached_input_is_refused():
    models = ModelAdministration(SimpleNamespace(), SimpleNamespace())

    with pytest.raises(BadInput, match="Cached input"):
        models.set_price("large", ModelPrices(input_micro=3, cached_input_micro=4, output_micro=9))
