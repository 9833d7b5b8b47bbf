"""The admins' actions on the model endpoint."""

import pytest

from services.domain import AccountRole
from services.errors import AdminsOnly
from services.llm.model_spec import LimitRefusal
from tests.fakes import INFO, FakePerson


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
