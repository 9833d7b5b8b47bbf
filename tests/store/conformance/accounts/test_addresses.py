"""Another email address of an account, and the way back to the former one."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.crypto import open_credentials
from services.domain.accounts import SessionEnd
from services.errors import (
    AddressTaken,
    ProofNeeded,
    StepEnded,
    StoreUnavailable,
    Suspended,
    WrongCredentials,
)
from services.store.credentials import seal_stored
from tests.store.conformance.accounts.deployments import DAY, at_once
from tests.store.conformance.accounts.test_codes import overtaking, sets_password
from tests.store.conformance.accounts.test_credentials import OTHER, cut, refused
from tests.store.conformance.accounts.test_proofs import MINUTE
from tests.store.conformance.talk import begun_with, titles
from tests.store.conftest import PASSWORD, new_email
from tests.stores import Faulty, cut_at


def generation(deployment, user):
    return deployment.credentials()[user.id].generation


def move(deployment, user, email=None, accounts=None):
    """Give *user* another address; return the user with it."""
    email = email or new_email()
    accounts = accounts or deployment.accounts
    accounts.change_address(user.session, email, generation(deployment, user))
    return replace(user, email=email, session=replace(user.session, email=email))


def restore(deployment, user, email, password=OTHER, accounts=None):
    """Take *email* back with a new password; return the user with it."""
    accounts = accounts or deployment.accounts
    hashed = accounts.find(email, deployment.not_counted).hashed(password)
    restored = accounts.restore_address(email, hashed)
    return replace(user, email=email, cookie=restored.cookie, session=restored.session)


def documents(deployment, user):
    ring, row = deployment.accounts.root_keys, deployment.credentials()[user.id]
    return open_credentials(ring, row.sealed, user.id)


def put_document(deployment, user, credentials):
    row = seal_stored(deployment.accounts.root_keys, credentials, user.id)
    deployment.put_credentials(row)


@pytest.fixture
def confirmed(deployment, maya):
    """A user with an address that a code has confirmed."""
    return move(deployment, maya)


# --- another address


def test_new_address_signs_in_and_the_old_one_no_more(deployment, maya):
    begun_with(maya.store, "Letters")
    other = maya.sign_in()

    moved = move(deployment, maya)

    assert titles(moved.sign_in().store.conversations.recent()) == ["Letters"]
    refused(deployment, maya.email)
    assert deployment.accounts.ended([maya.session, other.session]) == {}
    assert maya.usage.account_changes()[0].action == "address.change"
    assert deployment.process().open(maya.cookie).email == moved.email


def test_address_wants_a_recent_proof(deployment, maya):
    deployment.let_pass(10 * MINUTE + 1)
    with pytest.raises(ProofNeeded):
        move(deployment, maya)
    assert maya.sign_in().id == maya.id

    cookie = deployment.accounts.prove_with(maya.session, maya.cookie, PASSWORD)
    maya = replace(maya, cookie=cookie)

    assert move(deployment, maya).sign_in().id == maya.id


def test_unconfirmed_address_is_free_at_once_and_not_taken_back(deployment, maya):
    move(deployment, maya)

    assert deployment.lookups(maya) == []
    assert deployment.accounts.find_former(maya.email, deployment.not_counted) is None
    thief = deployment.sign_up(maya.email)
    assert thief.id != maya.id


def test_taken_address_is_refused_and_nothing_changes(deployment, confirmed, omar):
    before, former = deployment.credentials(), deployment.lookups(confirmed)

    with pytest.raises(AddressTaken):
        move(deployment, confirmed, omar.email)

    assert (deployment.credentials(), deployment.lookups(confirmed)) == (before, former)
    assert omar.sign_in().id == omar.id
    assert confirmed.sign_in().id == confirmed.id


def test_pending_sign_up_gives_way_to_the_account(deployment, maya):
    email = new_email()
    cut(deployment, email, "sign_up", is_done=True)

    assert move(deployment, maya, email).sign_in().id == maya.id


def test_of_two_who_take_one_address_at_once_one_gets_it(deployment, maya, omar):
    email = new_email()
    one, other = (generation(deployment, user) for user in (maya, omar))

    answers = at_once(
        lambda: deployment.accounts.change_address(maya.session, email, one),
        lambda: deployment.accounts.change_address(omar.session, email, other),
    )

    assert {type(answer) for answer in answers} == {bool, AddressTaken}
    _, session = deployment.accounts.sign_in_with(email, PASSWORD)
    assert session.user_id == (maya if isinstance(answers[0], bool) else omar).id


def test_proof_is_over_once_a_way_in_changes(deployment, maya, omar):
    proven = generation(deployment, maya)
    deployment.accounts.change_with(maya.session, PASSWORD, OTHER)

    with pytest.raises(StepEnded):
        deployment.accounts.change_address(maya.session, new_email(), proven)
    with pytest.raises(StepEnded):  # another session's
        forged = replace(omar.session, email=maya.email)
        deployment.accounts.change_address(forged, new_email(), proven + 1)

    assert deployment.accounts.sign_in_with(maya.email, OTHER)[1].user_id == maya.id


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_change_without_an_answer_is_found_or_not_made(deployment, confirmed, is_done):
    email, old = new_email(), confirmed.email
    backend = Faulty(confirmed.session.backend)
    if is_done:
        backend.lost = {"change_address"}
    else:
        backend.failures = {"change_address": StoreUnavailable()}
    session = replace(confirmed.session, backend=backend)

    with nullcontext() if is_done else pytest.raises(StoreUnavailable):
        move(deployment, replace(confirmed, session=session), email)

    good, gone = (email, old) if is_done else (old, email)
    assert deployment.accounts.sign_in_with(good, PASSWORD)[1].user_id == confirmed.id
    refused(deployment, gone)
    assert len(deployment.lookups(confirmed)) == is_done


# --- the way back


def test_former_address_is_taken_back_with_a_new_password(deployment, confirmed):
    begun_with(confirmed.store, "Letters")
    stolen = move(deployment, confirmed)
    thief = stolen.sign_in()

    back = restore(deployment, stolen, confirmed.email)

    assert titles(back.store.conversations.recent()) == ["Letters"]
    _, session = deployment.accounts.sign_in_with(confirmed.email, OTHER)
    assert session.user_id == confirmed.id
    refused(deployment, confirmed.email, PASSWORD)
    refused(deployment, stolen.email, PASSWORD)
    ended = deployment.accounts.ended([one.session for one in (confirmed, thief, back)])
    assert ended == {one.session.id: SessionEnd.ENDED for one in (confirmed, thief)}
    assert deployment.lookups(confirmed) == []
    assert back.usage.account_changes()[0].action == "address.restore"


def test_password_and_ways_in_changed_since_open_nothing(deployment, confirmed):
    stolen = move(deployment, confirmed)
    deployment.accounts.change_with(stolen.session, PASSWORD, "a thief's own password")
    again = replace(documents(deployment, stolen), newer={"keys": ["a thief's"]})
    put_document(deployment, stolen, again)

    restore(deployment, stolen, confirmed.email)

    assert documents(deployment, stolen).newer == {}
    refused(deployment, confirmed.email, "a thief's own password")


def test_thief_who_changes_the_password_meanwhile_keeps_no_address(
    deployment, confirmed, monkeypatch
):
    stolen = move(deployment, confirmed)
    thief = stolen.sign_in()
    overtaking(monkeypatch, deployment.accounts, sets_password(deployment, thief), 2)

    back = restore(deployment, stolen, confirmed.email)

    assert list(deployment.devices(back.session)) == [back.session.id]
    _, session = deployment.accounts.sign_in_with(confirmed.email, OTHER)
    assert session.user_id == confirmed.id


def test_first_of_two_former_addresses_is_taken_back_and_the_second_no_more(deployment, confirmed):
    second = move(deployment, confirmed)
    third = move(deployment, second)
    assert len(deployment.lookups(confirmed)) == 2

    restore(deployment, third, confirmed.email)

    assert deployment.accounts.find_former(second.email, deployment.not_counted) is None
    assert deployment.lookups(confirmed) == []


def test_second_of_two_former_addresses_leaves_the_first(deployment, confirmed):
    second = move(deployment, confirmed)
    third = move(deployment, second)

    back = restore(deployment, third, second.email)

    assert len(deployment.lookups(confirmed)) == 1
    assert restore(deployment, back, confirmed.email, PASSWORD).sign_in().id == confirmed.id


def test_many_changes_push_out_no_address_of_the_user(deployment, confirmed):
    last = confirmed
    for _ in range(6):
        last = move(deployment, last)

    assert restore(deployment, last, confirmed.email).id == confirmed.id


def test_former_address_is_reserved_for_three_days(deployment, confirmed, omar):
    stolen = move(deployment, confirmed)

    with pytest.raises(AddressTaken):
        deployment.sign_up(confirmed.email)
    with pytest.raises(AddressTaken):
        move(deployment, omar, confirmed.email)
    claim = deployment.accounts.find_claim(confirmed.email, deployment.not_counted)
    assert claim.stored.user_id == stolen.id
    refused(deployment, confirmed.email)

    deployment.let_pass(3 * DAY + 60)
    deployment.sweep()

    assert deployment.lookups(confirmed) == []
    assert deployment.sign_up(confirmed.email).id != stolen.id


def test_former_address_is_not_taken_back_after_three_days(deployment, confirmed):
    """By the time in the seal, whatever the row beside it says."""
    stolen = move(deployment, confirmed)
    later = datetime.now(UTC) + timedelta(days=3, seconds=1)
    accounts = replace(deployment.accounts, now=lambda: later)

    with pytest.raises(StepEnded):
        restore(deployment, stolen, confirmed.email, accounts=accounts)

    assert restore(deployment, stolen, confirmed.email).id == confirmed.id


def test_user_may_change_back_to_a_former_address(deployment, confirmed):
    moved = move(deployment, confirmed)

    back = move(deployment, moved, confirmed.email)

    assert back.sign_in().id == confirmed.id
    assert len(deployment.lookups(confirmed)) == 1
    assert deployment.accounts.find_former(confirmed.email, deployment.not_counted) is None


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", ["count_attempt", "start_session"])
def test_cut_way_back_is_gone_again(deployment, confirmed, step, is_done):
    stolen = move(deployment, confirmed)
    hashed = deployment.accounts.find(stolen.email, deployment.not_counted).hashed(OTHER)

    with pytest.raises(StoreUnavailable):
        cut_at(deployment.accounts, step, is_done=is_done).restore_address(confirmed.email, hashed)

    assert stolen.sign_in().id == confirmed.id
    assert restore(deployment, stolen, confirmed.email).id == confirmed.id


def test_suspended_account_is_not_taken_back(deployment, confirmed, admin):
    stolen = move(deployment, confirmed)
    admin.administration.suspend(stolen.id, is_suspended=True)

    with pytest.raises(Suspended):
        restore(deployment, stolen, confirmed.email)


def test_deleted_account_leaves_no_former_address(deployment, confirmed):
    moved = move(deployment, confirmed)

    moved.administration.delete(moved.id)

    assert deployment.lookups(confirmed) == []
    assert deployment.sign_up(confirmed.email).id != confirmed.id


# --- attacks by who writes to the store


def lookup_of(deployment, email):
    ring = deployment.accounts.root_keys
    return ring.former_address_tags(email)[ring.current]


@pytest.mark.parametrize("moment", ["in advance", "re-pointed"])
def test_look_up_of_another_user_gives_nobody_an_account(
    deployment, confirmed, omar, moment, caplog
):
    """The thief is omar: he reads the mailbox, or would have the look-up name his own account."""
    caplog.set_level("INFO")
    email = confirmed.email if moment == "re-pointed" else omar.email
    if moment == "re-pointed":
        move(deployment, confirmed)
        deployment.put_lookup(lookup_of(deployment, email), omar)
    else:
        deployment.put_lookup(lookup_of(deployment, email), confirmed)

    with pytest.raises(StepEnded):
        restore(deployment, omar, email)

    assert "credentials.unopened" in caplog.text
    assert omar.sign_in().id == omar.id


def test_address_is_not_left_over_a_look_up_made_in_advance(deployment, confirmed, omar):
    deployment.put_lookup(lookup_of(deployment, confirmed.email), omar)
    before = deployment.credentials()

    with pytest.raises(StepEnded):
        move(deployment, confirmed)

    assert deployment.credentials() == before


def test_former_address_signs_in_nobody(deployment, confirmed):
    move(deployment, confirmed)

    found = deployment.accounts.find_for_sign_up(confirmed.email, deployment.not_counted)
    assert found.is_taken
    with pytest.raises(WrongCredentials):
        found.checked(PASSWORD)


# --- a newer root key


def tag(accounts, email, version):
    return accounts.root_keys.former_address_tags(email)[version]


def test_former_address_is_stored_anew_under_a_newer_root_key(alone):
    confirmed = move(alone, alone.sign_up())
    moved = move(alone, confirmed)
    assert alone.lookups(moved) == [tag(alone.accounts, confirmed.email, 1)]
    accounts = alone.process_with_new_root_key()
    alone.let_pass(2 * DAY)

    accounts.sign_in_with(moved.email, PASSWORD)

    assert alone.lookups(moved) == [tag(accounts, confirmed.email, 2)]
    assert accounts.find_former(confirmed.email, alone.not_counted).stored.id == moved.id
    alone.let_pass(DAY + MINUTE)  # it expires when it would have
    assert accounts.find_former(confirmed.email, alone.not_counted) is None
    alone.sweep()
    assert alone.lookups(moved) == []


def test_look_up_under_a_newer_root_key_is_never_overwritten(alone):
    confirmed, omar = move(alone, alone.sign_up()), alone.sign_up()
    moved = move(alone, confirmed)
    accounts = alone.process_with_new_root_key()
    made_in_advance = tag(accounts, confirmed.email, 2)
    alone.put_lookup(made_in_advance, omar)

    accounts.sign_in_with(moved.email, PASSWORD)

    assert alone.lookups(omar) == [made_in_advance]
    assert alone.lookups(moved) == []


def test_look_up_of_another_user_is_not_stored_anew(alone):
    confirmed, omar = move(alone, alone.sign_up()), alone.sign_up()
    moved = move(alone, confirmed)
    accounts = alone.process_with_new_root_key()
    pointed = tag(accounts, confirmed.email, 1)
    alone.put_lookup(pointed, omar)

    accounts.sign_in_with(moved.email, PASSWORD)

    assert alone.lookups(omar) == [pointed]
    assert alone.lookups(moved) == []
