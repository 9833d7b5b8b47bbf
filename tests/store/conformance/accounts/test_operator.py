"""What the operator's commands change in accounts."""

import pytest

from services.errors import BadInput, SignedOut
from services.operate.accounts import free_address, open_account
from tests.confirmed import confirm
from tests.store.conformance.accounts.test_credentials import refused
from tests.store.conformance.talk import begun_with, titles
from tests.store.conftest import PASSWORD, new_email


def free(deployment, email):
    return free_address(deployment.operator, deployment.accounts.root_keys, email)


def test_freed_address_signs_up_and_its_account_keeps_all(deployment, maya):
    begun_with(maya.store, "Letters")

    placeholder = free(deployment, maya.email)

    with pytest.raises(SignedOut):
        deployment.process().open(maya.cookie)
    refused(deployment, maya.email)
    owner = deployment.sign_up(maya.email)
    _, session = deployment.accounts.sign_in_with(placeholder, PASSWORD)
    assert (session.user_id, session.email, session.is_confirmed) == (maya.id, placeholder, False)
    assert titles(deployment.store(session).conversations.recent()) == ["Letters"]
    assert owner.sign_in().id == owner.id != maya.id
    assert session.backend.rows().usage.account_changes()[0].action == "address.free"
    assert deployment.lookups(maya) == []


def test_user_of_a_placeholder_takes_another_address(deployment, maya):
    placeholder, email = free(deployment, maya.email), new_email()
    _, session = deployment.accounts.sign_in_with(placeholder, PASSWORD)

    seen = deployment.credentials()[maya.id].generation
    assert not deployment.accounts.change_address(session, email, seen)

    assert deployment.accounts.sign_in_with(email, PASSWORD)[1].is_confirmed
    refused(deployment, placeholder)


def test_confirmed_address_is_not_freed(deployment, maya):
    confirm(deployment.accounts, maya.session)
    before = deployment.credentials()

    with pytest.raises(BadInput, match="was confirmed"):
        free(deployment, maya.email)

    assert deployment.credentials() == before
    assert deployment.process().open(maya.cookie).email == maya.email


def test_placeholder_and_unknown_address_are_not_freed(deployment, maya):
    placeholder = free(deployment, maya.email)

    with pytest.raises(BadInput, match="a placeholder"):
        free(deployment, placeholder)
    with pytest.raises(BadInput, match="no account"):
        free(deployment, maya.email)

    assert deployment.accounts.sign_in_with(placeholder, PASSWORD)[1].user_id == maya.id


def test_address_that_is_confirmed_meanwhile_is_not_freed(deployment, maya, monkeypatch):
    operator, ring = deployment.operator, deployment.accounts.root_keys
    found = open_account(operator, ring, maya.email)
    confirm(deployment.accounts, maya.session)
    monkeypatch.setattr("services.operate.accounts.open_account", lambda *_: found)

    with pytest.raises(BadInput, match="at the same time"):
        free_address(operator, ring, maya.email)

    assert maya.sign_in().id == maya.id
