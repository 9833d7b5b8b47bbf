"""Credentials: passwords, sign-ups that are cut, and what who writes to the store cannot do with them."""

from dataclasses import replace
from uuid import uuid4

import bcrypt
import pytest

from services.crypto import open_credentials, seal_credentials
from services.domain.accounts import SessionEnd
from services.errors import (
    AddressTaken,
    AppError,
    KeyMissing,
    RateLimited,
    SignedOut,
    SignInBroken,
    StoreUnavailable,
    Tampered,
    WeakPassword,
    WrongCredentials,
)
from services.store.backend import PendingSignUp
from services.store.credentials import open_stored, seal_stored
from tests.store.conformance.accounts.deployments import DAY, at_once
from tests.store.conformance.talk import begun_with, titles
from tests.store.conftest import PASSWORD, new_email
from tests.stores import Faulty, cut_at

OTHER = "another horse, another battery"
STEPS = ("put_sign_up", "sign_up", "start_session")


def cut(deployment, email, step, *, is_done, password=PASSWORD):
    """Sign up in a process that ends before or after *step*."""
    with pytest.raises(StoreUnavailable):
        cut_at(deployment.process(), step, is_done=is_done).sign_up_with(email, password)


def refused(deployment, email, password=PASSWORD, error=WrongCredentials, accounts=None):
    with pytest.raises(error) as raised:
        (accounts or deployment.accounts).sign_in_with(email, password)
    assert type(raised.value) is error


def row_of(deployment, user):
    return deployment.credentials()[user.id]


# --- the password


def test_new_password_opens_the_account_and_the_old_one_no_more(deployment, maya):
    begun_with(maya.store, "Letters")

    deployment.accounts.change_with(maya.session, PASSWORD, OTHER)

    refused(deployment, maya.email)
    _, session = deployment.accounts.sign_in_with(maya.email, OTHER)
    assert titles(deployment.store(session).conversations.recent()) == ["Letters"]


def test_new_password_ends_all_other_sessions(deployment, maya, omar):
    others = [maya.sign_in(), maya.sign_in()]

    deployment.accounts.change_with(maya.session, PASSWORD, OTHER)

    ended = deployment.accounts.ended([one.session for one in (maya, omar, *others)])
    assert ended == {one.session.id: SessionEnd.ENDED for one in others}
    with pytest.raises(SignedOut):
        others[0].account()
    assert maya.account().user_id == maya.id
    assert maya.usage.account_changes()[0].action == "password.set"


def test_wrong_or_weak_password_changes_nothing(deployment, maya, omar):
    accounts = deployment.accounts
    with pytest.raises(WrongCredentials):
        accounts.change_with(maya.session, PASSWORD + "!", OTHER)
    with pytest.raises(WeakPassword):
        accounts.change_with(maya.session, PASSWORD, "short")
    with pytest.raises(WrongCredentials):
        accounts.change_with(replace(omar.session, email=maya.email), PASSWORD, OTHER)

    assert maya.sign_in().id == maya.id


def test_of_two_new_passwords_at_once_one_is_set(deployment, maya):
    change = deployment.accounts.change_with
    passwords = [OTHER, OTHER + "!"]

    answers = at_once(*[lambda new=new: change(maya.session, PASSWORD, new) for new in passwords])

    good = [new for new, answer in zip(passwords, answers, strict=True) if answer is None]
    assert len(good) == 1
    assert all(isinstance(one, RateLimited | WrongCredentials | None) for one in answers)
    assert deployment.accounts.sign_in_with(maya.email, good[0])[1].user_id == maya.id


def test_new_password_whose_answer_is_lost_is_found(deployment, maya):
    backend = Faulty(maya.session.backend)
    backend.lost = {"change_credentials"}

    deployment.accounts.change_with(replace(maya.session, backend=backend), PASSWORD, OTHER)

    refused(deployment, maya.email)
    assert deployment.accounts.sign_in_with(maya.email, OTHER)[1].user_id == maya.id


def test_session_of_a_sign_in_that_a_new_password_overtook_does_not_begin(deployment, maya):
    found = deployment.accounts.find(maya.email, deployment.not_counted)
    checked = found.checked(PASSWORD)
    deployment.accounts.change_with(maya.session, PASSWORD, OTHER)

    with pytest.raises(RateLimited):
        deployment.accounts.sign_in(checked)

    assert list(deployment.devices(maya.session)) == [maya.session.id]


# --- sign-ups that were cut


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_cut_sign_up_is_finished_by_the_next_one(deployment, step, is_done):
    email, rows = new_email(), set(deployment.credentials())
    cut(deployment, email, step, is_done=is_done, password=OTHER)

    if step == "start_session" and is_done:
        with pytest.raises(AddressTaken):
            deployment.sign_up(email)
        _, session = deployment.accounts.sign_in_with(email, OTHER)
    else:
        session = deployment.sign_up(email).session
        refused(deployment, email, OTHER)
        assert deployment.accounts.sign_in_with(email, PASSWORD)[1].user_id == session.user_id

    assert deployment.account(session).user_id == session.user_id
    assert set(deployment.credentials()) - rows == {session.user_id}


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_cut_sign_up_is_finished_by_a_sign_in(deployment, step, is_done):
    email, rows = new_email(), set(deployment.credentials())
    cut(deployment, email, step, is_done=is_done)

    if step == "put_sign_up" and not is_done:
        refused(deployment, email)
        assert set(deployment.credentials()) == rows
        return
    refused(deployment, email, OTHER)
    _, session = deployment.accounts.sign_in_with(email, PASSWORD)

    assert deployment.accounts.sign_in_with(email, PASSWORD)[1].user_id == session.user_id
    assert set(deployment.credentials()) - rows == {session.user_id}


def test_stranger_at_supabase_auth_gives_way_to_a_cut_sign_up(deployment):
    email = new_email()
    cut(deployment, email, "put_sign_up", is_done=True)
    deployment.outsider(email)

    _, session = deployment.accounts.sign_in_with(email, PASSWORD)

    assert session.email == email


def test_two_pending_sign_ups_of_an_address_end_in_one_account(alone):
    email = new_email()
    cut(alone, email, "put_sign_up", is_done=True)
    [pending] = alone.credentials().values()
    accounts = alone.process_with_new_root_key()
    credentials = open_stored(alone.accounts.root_keys, pending, email)
    alone.put_credentials(seal_stored(accounts.root_keys, credentials, uuid4()))

    with pytest.raises(StoreUnavailable):
        cut_at(accounts, "put_sign_up", is_done=True).sign_up_with(email, OTHER)

    assert len(alone.credentials()) == 1
    _, session = accounts.sign_in_with(email, OTHER)
    assert set(alone.credentials()) == {session.user_id}


def test_pending_sign_up_lives_for_eight_days_after_the_last(alone):
    email = new_email()
    cut(alone, email, "put_sign_up", is_done=True)
    alone.let_pass(7 * DAY)
    cut(alone, email, "put_sign_up", is_done=True)
    alone.let_pass(7 * DAY)
    alone.sweep()
    assert len(alone.credentials()) == 1

    alone.let_pass(DAY + 60)
    alone.sweep()

    assert alone.credentials() == {}
    refused(alone, email)


def test_pending_sign_up_is_never_stored_over_an_account(deployment, maya):
    row, before = row_of(deployment, maya), deployment.credentials()
    accounts = deployment.accounts
    with pytest.raises(AddressTaken):
        accounts.sign_up_with(maya.email, OTHER)
    pending = replace(row, user_id=None)
    for new in (replace(pending, id=uuid4(), generation=1), replace(pending, generation=2)):
        lookups = tuple(accounts.root_keys.address_tags(maya.email).values())
        sign_up = PendingSignUp(credentials=new, lookups=lookups)
        assert not accounts.backend.put_sign_up(sign_up)

    assert deployment.credentials() == before
    assert maya.sign_in().id == maya.id


# --- attacks by who writes to the store


def test_dump_has_nothing_to_guess_a_password_with(deployment, maya):
    text = deployment.stored_text()

    assert "argon2" not in text
    hashes = {part for part in text.replace('"', " ").split() if part.startswith("$2")}
    assert not [one for one in hashes if bcrypt.checkpw(PASSWORD.encode(), one.encode())]
    credentials = open_credentials(
        deployment.accounts.root_keys, row_of(deployment, maya).sealed, maya.id
    )
    assert credentials.managed_password not in text


def test_deleted_credentials_let_nobody_in(deployment, maya):
    begun_with(maya.store, "Letters")
    row = row_of(deployment, maya)

    deployment.put_credentials(gone=[maya.id])

    refused(deployment, maya.email)
    with pytest.raises(KeyMissing):
        deployment.process().open(maya.cookie)
    try:  # somebody else takes the address
        thief = deployment.sign_up(maya.email)
    except AddressTaken:
        pass
    else:
        assert thief.id != maya.id
        assert thief.store.conversations.recent() == []
    others = [one.id for one in deployment.credentials().values() if one.lookup == row.lookup]
    deployment.put_credentials(row, gone=others)
    assert titles(maya.sign_in().store.conversations.recent()) == ["Letters"]


@pytest.mark.parametrize(
    "swapped", [("sealed",), ("lookup",), ("sealed", "lookup")], ids=["sealed", "lookup", "both"]
)
def test_swapped_credentials_let_nobody_in(deployment, maya, omar, swapped, caplog):
    caplog.set_level("INFO")
    rows = row_of(deployment, maya), row_of(deployment, omar)
    changed = [
        replace(one, **{name: getattr(other, name) for name in swapped})
        for one, other in (rows, rows[::-1])
    ]

    deployment.put_credentials(*changed)

    for user in (maya, omar):
        refused(deployment, user.email)
        if "sealed" in swapped:
            with pytest.raises(Tampered):
                deployment.process().open(user.cookie)
    assert "credentials.unopened" in caplog.text
    deployment.put_credentials(*rows)


def test_pending_sign_up_that_is_put_back_takes_no_account(deployment):
    email, before = new_email(), deployment.credentials()
    cut(deployment, email, "put_sign_up", is_done=True)
    [pending] = [row for row in deployment.credentials().values() if row.id not in before]
    maya = deployment.sign_up(email)
    begun_with(maya.store, "Letters")

    deployment.put_credentials(pending, gone=[maya.id])

    try:
        _, session = deployment.process().sign_in_with(email, PASSWORD)
    except AppError as error:
        assert isinstance(error, RateLimited | AddressTaken)  # noqa: PT017
    else:
        assert session.user_id != maya.id
        assert deployment.store(session).conversations.recent() == []


def test_account_without_a_hash_is_opened_by_no_password(deployment, maya):
    row, ring = row_of(deployment, maya), deployment.accounts.root_keys
    credentials = open_credentials(ring, row.sealed, maya.id)

    sealed = seal_credentials(ring, replace(credentials, password_hash=None), maya.id)
    deployment.put_credentials(replace(row, sealed=sealed))

    for password in (PASSWORD, "", "None"):
        refused(deployment, maya.email, password)


def test_old_credentials_are_refused_by_a_process_that_saw_newer_ones(deployment, maya):
    old = row_of(deployment, maya)
    deployment.accounts.change_with(maya.session, PASSWORD, OTHER)

    deployment.put_credentials(old)

    refused(deployment, maya.email)
    with pytest.raises(Tampered):
        deployment.accounts.open(maya.cookie)
    # a limit that docs/security.md names: another process cannot know
    assert deployment.process().sign_in_with(maya.email, PASSWORD)[1].user_id == maya.id


def test_generation_beside_the_seal_counts_for_nothing(deployment, maya):
    row = row_of(deployment, maya)

    deployment.put_credentials(replace(row, generation=row.generation + 1))

    refused(deployment, maya.email)


def test_password_at_supabase_auth_opens_nothing(deployment, maya):
    hashed = bcrypt.hashpw(OTHER.encode(), bcrypt.gensalt(4)).decode()

    deployment.change_auth(maya, encrypted_password=hashed)

    refused(deployment, maya.email, OTHER)
    refused(deployment, maya.email, PASSWORD, SignInBroken)


def test_address_at_supabase_auth_opens_nothing(deployment, maya, omar):
    deployment.change_auth(maya, email=new_email())
    deployment.change_auth(omar, email=maya.email)

    refused(deployment, maya.email, PASSWORD, SignInBroken)
    refused(deployment, omar.email, PASSWORD, SignInBroken)


def test_another_user_at_supabase_auth_is_not_signed_in(deployment, maya):
    row = row_of(deployment, maya)
    credentials = open_credentials(deployment.accounts.root_keys, row.sealed, maya.id)
    deployment.change_auth(maya, email=new_email())
    deployment.outsider(maya.email, credentials.managed_password)

    refused(deployment, maya.email, PASSWORD, SignInBroken)

    assert set(deployment.devices(maya.session)) == {maya.session.id}
