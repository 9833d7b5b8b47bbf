"""Proofs of who is signed in: what wants one younger than ten minutes, and what makes one."""

from dataclasses import replace

import pytest

from services.crypto import new_key
from services.errors import ProofNeeded, RateLimited, TooManyAttempts, WrongCredentials
from services.store.administration import UserAccess
from services.store.backend import Throttle, Throttles
from tests.authenticator import Authenticator
from tests.store.conftest import PASSWORD
from tests.stores import NOT_COUNTED

OTHER = "another horse, another battery"
MINUTE = 60  # seconds


def change(user, password=OTHER):
    """Change the password as the page does: by the proof that the session has."""
    accounts = user.deployment.accounts
    current = accounts.current(user.cookie)
    accounts.change_password(user.session, current, current.hashed(password))


def is_alive(user):
    return user.deployment.accounts.backend.is_alive(user.cookie.hash)


WANT_PROOF = {
    "change the password": lambda user, other, stop: change(user),
    "add a factor": lambda user, other, stop: Authenticator().enrol(
        user.deployment.accounts, user.session
    ),
    "end a device": lambda user, other, stop: user.session.backend.end_device(other.session.id),
    "end other devices": lambda user, other, stop: user.session.backend.end_other_devices(),
    "stop replies": lambda user, other, stop: user.session.backend.stop_turns(None),
    "end the account": lambda user, other, stop: UserAccess(
        user.session.backend.administration, stop
    ).delete(user.id),
    "end the account at once": lambda user, other, stop: user.session.backend.administration.delete(
        user.id
    ),
}


@pytest.mark.parametrize("act", WANT_PROOF.values(), ids=WANT_PROOF)
def test_change_of_an_account_wants_a_proof_of_the_last_ten_minutes(deployment, maya, act):
    other, stopped = maya.sign_in(), []
    deployment.let_pass(10 * MINUTE + 1)
    deployment.accounts.prove_with(other.session, PASSWORD)  # another device's proof

    with pytest.raises(ProofNeeded):
        act(maya, other, stopped.append)

    assert stopped == []
    assert is_alive(maya)
    assert is_alive(other)
    assert maya.sign_in().id == maya.id


@pytest.mark.parametrize("act", WANT_PROOF.values(), ids=WANT_PROOF)
def test_proof_allows_changes_for_ten_minutes(deployment, maya, act):
    other = maya.sign_in()
    deployment.let_pass(10 * MINUTE + 1)

    deployment.accounts.prove_with(maya.session, PASSWORD)
    deployment.let_pass(9 * MINUTE)

    act(maya, other, lambda _: None)


def test_sign_in_is_a_proof(deployment, maya):
    assert [one.is_proven for one in maya.session.backend.devices()] == [True]
    deployment.let_pass(9 * MINUTE)

    change(maya)

    assert deployment.accounts.sign_in_with(maya.email, OTHER)[1].user_id == maya.id


def test_page_learns_which_device_has_a_proof(deployment, maya):
    deployment.let_pass(10 * MINUTE + 1)
    other = maya.sign_in()

    proven = {one.session: one.is_proven for one in maya.session.backend.devices()}

    assert proven == {maya.session.id: False, other.session.id: True}


def test_wrong_password_or_that_of_another_is_no_proof(deployment, maya, omar):
    accounts = deployment.accounts
    deployment.let_pass(10 * MINUTE + 1)

    with pytest.raises(WrongCredentials):
        accounts.prove_with(maya.session, PASSWORD + "!")
    with pytest.raises(WrongCredentials):
        accounts.prove_with(replace(maya.session, email=omar.email), PASSWORD)

    with pytest.raises(ProofNeeded):
        change(maya)


def test_proof_by_a_password_that_was_changed_meanwhile_is_none(deployment, maya):
    other = maya.sign_in()
    checked = deployment.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    deployment.let_pass(10 * MINUTE + 1)
    deployment.accounts.prove_with(other.session, PASSWORD)
    kept, accounts = maya.session.cookie_hash, deployment.accounts
    current = accounts.current(other.cookie)
    changed = replace(other.session, cookie_hash=kept)  # maya's session is the one that stays
    accounts.change_password(changed, current, current.hashed(OTHER))

    with pytest.raises(RateLimited):
        deployment.accounts.prove(maya.session, checked)

    with pytest.raises(ProofNeeded):
        change(maya, OTHER + "!")


def test_proof_gives_its_attempt_back_and_is_noted(deployment, maya):
    once = Throttles((Throttle(new_key().hex(), 1, 60),))
    for _ in range(2):
        deployment.accounts.prove_with(maya.session, PASSWORD, throttles=once)
    with pytest.raises(WrongCredentials):
        deployment.accounts.prove_with(maya.session, "not my password", throttles=once)
    with pytest.raises(TooManyAttempts):
        deployment.accounts.prove_with(maya.session, PASSWORD, throttles=once)

    actions = [one.action for one in maya.usage.account_changes()]
    assert actions.count("session.prove") == 2


def test_admin_needs_no_proof_for_the_accounts_of_others(deployment, admin, maya):
    deployment.let_pass(10 * MINUTE + 1)

    admin.administration.delete(maya.id)

    assert not is_alive(maya)
    with pytest.raises(ProofNeeded):
        admin.administration.delete(admin.id)
