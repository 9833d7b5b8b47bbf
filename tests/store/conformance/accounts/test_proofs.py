"""Proofs of who is signed in: what wants one younger than ten minutes, and what makes one."""

from dataclasses import replace

import pytest

from services.crypto import new_key
from services.domain.accounts import CredentialsAction, ProofScope, SessionEnd
from services.errors import (
    ProofNeeded,
    RateLimited,
    SignedOut,
    StoreUnavailable,
    TooManyAttempts,
    WrongCredentials,
)
from services.store.administration import UserAccess
from services.store.backend import Throttle, Throttles
from tests.authenticator import Authenticator
from tests.store.conformance.accounts.deployments import at_once, error_of
from tests.store.conformance.talk import begun_with, ending, new_turn, titles
from tests.store.conftest import PASSWORD
from tests.stores import NOT_COUNTED

OTHER = "another horse, another battery"
MINUTE = 60  # seconds


def change(user, password=OTHER):
    """Change the password as the page does: by the proof that the session has."""
    accounts = user.deployment.accounts
    current = accounts.current(user.cookie)
    accounts.change_password(user.session, current, current.hashed(password))


def prove(user, password=PASSWORD, accounts=None):
    """Prove who *user* is; return the user with the new cookie."""
    accounts = accounts or user.deployment.accounts
    return replace(user, cookie=accounts.prove_with(user.session, user.cookie, password))


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


def test_change_of_an_account_wants_a_proof_of_the_last_ten_minutes(deployment, maya):
    other, stopped = maya.sign_in(), []
    deployment.let_pass(10 * MINUTE + 1)
    other = prove(other)  # another device's proof

    for name, act in WANT_PROOF.items():
        assert error_of(act, maya, other, stopped.append) is ProofNeeded, name
        assert stopped == [], name
        assert is_alive(maya), name
        assert is_alive(other), name
    assert maya.sign_in().id == maya.id


@pytest.mark.parametrize("act", WANT_PROOF.values(), ids=WANT_PROOF)
def test_proof_allows_changes_for_ten_minutes(deployment, maya, act):
    other = maya.sign_in()
    deployment.let_pass(10 * MINUTE + 1)

    maya = prove(maya)
    deployment.let_pass(9 * MINUTE)

    act(maya, other, lambda _: None)


def prove_in_part(user):
    """Prove who *user* is as by a provider that cannot say when its user signed in."""
    accounts = user.deployment.accounts
    checked = accounts.find(user.email, NOT_COUNTED).checked(PASSWORD)
    checked = replace(checked, scope=ProofScope.PART)
    return replace(user, cookie=accounts.prove(user.session, user.cookie, checked))


def add(user, action):
    """Store the next generation of the user's credentials; a factor is a real one."""
    accounts = user.deployment.accounts
    if action is CredentialsAction.FACTOR_ADDED:
        return Authenticator().enrol(accounts, user.session)
    current = accounts.current(user.cookie)
    if action is CredentialsAction.PASSWORD_ADDED:
        return accounts.add_password(user.session, current, current.hashed(OTHER))
    generation = current.stored.generation + 1
    new = replace(current.credentials, generation=generation)
    return accounts.change_credentials(user.session, new, current.stored, action)


ADDING = [
    CredentialsAction.FACTOR_ADDED,
    CredentialsAction.PASSKEY_ADDED,
    CredentialsAction.PASSWORD_ADDED,
]


@pytest.mark.parametrize("action", ADDING)
def test_proof_in_part_adds_a_way_in(deployment, maya, action):
    deployment.let_pass(10 * MINUTE + 1)
    with pytest.raises(ProofNeeded):
        add(maya, action)

    maya = prove_in_part(maya)
    [mine] = maya.session.backend.devices()
    assert (mine.is_proven, mine.is_proven_in_part) == (False, True)
    add(maya, action)

    assert maya.usage.account_changes()[0].action == action
    assert is_alive(maya)


def test_proof_in_part_ends_the_account(deployment, maya):
    deployment.let_pass(10 * MINUTE + 1)
    maya = prove_in_part(maya)

    UserAccess(maya.session.backend.administration, lambda _: None).delete(maya.id)

    assert not is_alive(maya)


_COVERED = {"add a factor", "end the account", "end the account at once"}
_NOT_COVERED = {name: act for name, act in WANT_PROOF.items() if name not in _COVERED}


def test_proof_in_part_covers_nothing_else(deployment, maya):
    other = maya.sign_in()
    deployment.let_pass(10 * MINUTE + 1)
    maya = prove_in_part(maya)

    for name, act in _NOT_COVERED.items():
        assert error_of(act, maya, other, lambda _: None) is ProofNeeded, name
        assert is_alive(other), name


def test_proof_in_part_ends_no_other_session(deployment, maya):
    other = maya.sign_in()
    deployment.let_pass(10 * MINUTE + 1)
    maya = prove_in_part(maya)
    accounts, current = deployment.accounts, deployment.accounts.current(maya.cookie)
    new = replace(current.credentials, generation=current.stored.generation + 1)

    with pytest.raises(ProofNeeded):
        accounts.change_credentials(
            maya.session, new, current.stored, CredentialsAction.PASSKEY_ADDED, ends_others=True
        )

    assert is_alive(other)


def test_proof_in_part_leaves_a_full_one_until_that_is_over(deployment, maya):
    deployment.let_pass(5 * MINUTE)
    maya = prove_in_part(maya)
    change(maya)

    deployment.let_pass(5 * MINUTE + 1)
    with pytest.raises(ProofNeeded):
        change(maya, PASSWORD)


@pytest.mark.parametrize("scope", [ProofScope.PART, ProofScope.NONE])
def test_sign_in_proves_as_far_as_its_scope(deployment, maya, scope):
    accounts = deployment.accounts
    checked = accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    _, session = accounts.sign_in(replace(checked, scope=scope))

    mine = next(one for one in session.backend.devices() if one.is_this_one)
    assert (mine.is_proven, mine.is_proven_in_part) == (False, scope is ProofScope.PART)
    with pytest.raises(ProofNeeded):
        session.backend.end_other_devices()


def test_answer_that_proves_nothing_is_no_proof(deployment, maya):
    checked = deployment.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    nothing = replace(checked, scope=ProofScope.NONE)

    with pytest.raises(ProofNeeded):
        deployment.accounts.prove(maya.session, maya.cookie, nothing)

    assert is_alive(maya)


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
        accounts.prove_with(maya.session, maya.cookie, PASSWORD + "!")
    with pytest.raises(WrongCredentials):
        accounts.prove_with(replace(maya.session, email=omar.email), maya.cookie, PASSWORD)

    with pytest.raises(ProofNeeded):
        change(maya)


def test_proof_by_a_password_that_was_changed_meanwhile_is_none(deployment, maya):
    other, accounts = maya.sign_in(), deployment.accounts
    checked = accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    deployment.let_pass(10 * MINUTE + 1)
    current = accounts.current(other.cookie)
    new = replace(
        current.credentials,
        password_hash=current.hashed(OTHER),
        generation=current.stored.generation + 1,
    )
    # with a change that ends no session
    confirm = CredentialsAction.ADDRESS_CONFIRMED
    assert accounts.change_credentials(other.session, new, current.stored, confirm)

    with pytest.raises(RateLimited):
        accounts.prove(maya.session, maya.cookie, checked)

    with pytest.raises(ProofNeeded):
        change(maya, OTHER + "!")


def test_proof_gives_its_attempt_back_and_is_noted(deployment, maya):
    once = Throttles((Throttle(new_key().hex(), 1, 60),))

    def attempt(cookie, password):
        return deployment.accounts.prove_with(maya.session, cookie, password, throttles=once)

    cookie = attempt(attempt(maya.cookie, PASSWORD), PASSWORD)
    with pytest.raises(WrongCredentials):
        attempt(cookie, "not my password")
    with pytest.raises(TooManyAttempts):
        attempt(cookie, PASSWORD)

    actions = [one.action for one in maya.usage.account_changes()]
    assert actions.count("session.prove") == 2


# --- the new cookie


def test_proof_gives_the_session_another_cookie(deployment, maya):
    begun_with(maya.store, "Letters")

    proven = prove(maya)

    assert is_alive(proven)
    assert deployment.accounts.ended([maya.session]) == {}
    opened = deployment.process().open(proven.cookie)
    assert (opened.id, opened.user_id) == (maya.session.id, maya.id)
    assert titles(replace(maya, session=opened).store.conversations.recent()) == ["Letters"]
    assert deployment.devices(maya.session) == {maya.session.id: True}
    begun_with(maya.store, "Roses")  # by the session that is open


def test_copied_cookie_opens_nothing_after_a_proof(deployment, maya):
    stolen = maya.cookie

    prove(maya)

    assert not is_alive(maya)
    for process in (deployment.accounts, deployment.process()):
        for act in (process.open, process.current):
            with pytest.raises(SignedOut):
                act(stolen)
        with pytest.raises(SignedOut):
            process.prove_with(maya.session, stolen, PASSWORD)
    deployment.accounts.end(stolen)
    assert deployment.accounts.ended([maya.session]) == {}


def test_refused_proof_leaves_the_cookie(deployment, maya):
    accounts = deployment.accounts
    checked = accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    stale = replace(checked, stored=replace(checked.stored, generation=7))

    with pytest.raises(RateLimited):
        accounts.prove(maya.session, maya.cookie, stale)

    assert deployment.process().open(maya.cookie).id == maya.session.id
    assert is_alive(prove(maya))  # at once: no lease is left


def test_of_two_proofs_at_once_one_gives_the_cookie(deployment, maya):
    elsewhere = deployment.process()
    other = replace(maya, session=elsewhere.open(maya.cookie))

    answers = at_once(lambda: prove(maya), lambda: prove(other, accounts=elsewhere))

    proven = [one for one in answers if not isinstance(one, Exception)]
    assert [type(one) for one in answers if isinstance(one, Exception)] == [SignedOut]
    assert [is_alive(one) for one in proven] == [True]
    assert not is_alive(maya)


def test_session_whose_cookie_another_process_changed_goes_on_for_its_turns(deployment, maya):
    process = deployment.process()
    elsewhere = replace(maya, session=process.open(maya.cookie))
    turn = new_turn(begun_with(elsewhere.store, "Letters"), "And leeks?")
    begun = elsewhere.store.turns.begin(turn)

    prove(maya)

    elsewhere.store.turns.finish(ending(turn, begun, "Leeks, too."))
    thread = maya.store.conversations.thread(turn.thread.conversation.id)
    assert thread.tip.body == "Leeks, too."
    assert not process.backend.is_alive(maya.cookie.hash)
    assert process.ended([elsewhere.session]) == {}


def test_changes_after_a_proof_keep_the_session_with_its_new_cookie(deployment, maya):
    other = maya.sign_in()
    proven = prove(maya)

    change(proven)

    assert [is_alive(one) for one in (proven, maya, other)] == [True, False, False]
    assert deployment.process().open(proven.cookie).id == maya.session.id


def test_sign_out_and_the_end_of_other_devices_know_the_new_cookie(deployment, maya):
    other = maya.sign_in()
    proven = prove(maya)
    assert proven.session.backend.end_other_devices() == 1
    assert [is_alive(one) for one in (proven, other)] == [True, False]

    deployment.accounts.end(proven.cookie)

    assert deployment.accounts.ended([maya.session]) == {maya.session.id: SessionEnd.ENDED}
    with pytest.raises(SignedOut):
        maya.account()


def test_proof_whose_answer_is_lost_is_found(deployment, maya):
    checked = deployment.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)
    deployment.lose_answer()

    cookie = deployment.accounts.prove(maya.session, maya.cookie, checked)

    assert is_alive(replace(maya, cookie=cookie))
    assert not is_alive(maya)
    assert maya.account().user_id == maya.id


def test_unreachable_store_leaves_the_cookie(deployment, maya):
    checked = deployment.accounts.find(maya.email, NOT_COUNTED).checked(PASSWORD)

    with deployment.away(), pytest.raises(StoreUnavailable):
        deployment.accounts.prove(maya.session, maya.cookie, checked)

    assert deployment.process().open(maya.cookie).id == maya.session.id


def test_admin_needs_no_proof_for_the_accounts_of_others(deployment, admin, maya):
    deployment.let_pass(10 * MINUTE + 1)

    admin.administration.delete(maya.id)

    assert not is_alive(maya)
    with pytest.raises(ProofNeeded):
        admin.administration.delete(admin.id)
