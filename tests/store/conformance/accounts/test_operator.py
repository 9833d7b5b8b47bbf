"""What the operator's commands change in accounts."""

import time
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from services.domain import UserId
from services.domain.accounts import CredentialsAction, SignInState
from services.domain.mails import NoticeKind
from services.domain.sign_in_methods import SignInMethod
from services.domain.single_sign_on import Identity, LinkedIdentity
from services.errors import AdminsOnly, BadInput, NotFound, SignedOut, StoreUnavailable
from services.operate.accounts import (
    free_address,
    has_way_in,
    move_issuer,
    open_account,
    set_address,
    set_password,
)
from services.rules import part_of
from services.store.backend import StoredCredentials
from services.store.credentials import lookups_of
from services.store.sign_in_policy import SignInPolicy
from services.users.ways_in import WaysIn
from tests.confirmed import confirm
from tests.store.conformance.accounts.test_addresses import documents, move, restore
from tests.store.conformance.accounts.test_credentials import refused
from tests.store.conformance.accounts.test_factors import change
from tests.store.conformance.talk import begun_with, titles
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED, cut_at

NOON = datetime(2025, 11, 26, 12, tzinfo=UTC)


def free(deployment, email):
    return free_address(deployment.operator, deployment.accounts.root_keys, email)


def test_freed_address_signs_up_and_its_account_keeps_all(deployment, admin, maya):
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


def test_user_of_a_placeholder_takes_another_address(deployment, admin, maya):
    placeholder, email = free(deployment, maya.email), new_email()
    _, session = deployment.accounts.sign_in_with(placeholder, PASSWORD)

    seen = deployment.credentials()[maya.id].generation
    assert not deployment.accounts.change_address(session, email, seen)

    assert deployment.accounts.sign_in_with(email, PASSWORD)[1].is_confirmed
    refused(deployment, placeholder)


def test_confirmed_address_is_not_freed(deployment, admin, maya):
    confirm(deployment.accounts, maya.session)
    before = deployment.credentials()

    with pytest.raises(BadInput, match="was confirmed"):
        free(deployment, maya.email)

    assert deployment.credentials() == before
    assert deployment.process().open(maya.cookie).email == maya.email


def test_placeholder_and_unknown_address_are_not_freed(deployment, admin, maya):
    placeholder = free(deployment, maya.email)

    with pytest.raises(BadInput, match="a placeholder"):
        free(deployment, placeholder)
    with pytest.raises(BadInput, match="no account"):
        free(deployment, maya.email)

    assert deployment.accounts.sign_in_with(placeholder, PASSWORD)[1].user_id == maya.id


def test_address_that_is_confirmed_meanwhile_is_not_freed(deployment, admin, maya, monkeypatch):
    operator, ring = deployment.operator, deployment.accounts.root_keys
    found = open_account(operator, ring, maya.email)
    confirm(deployment.accounts, maya.session)
    monkeypatch.setattr("services.operate.accounts.open_account", lambda *_: found)

    with pytest.raises(BadInput, match="at the same time"):
        free_address(operator, ring, maya.email)

    assert maya.sign_in().id == maya.id


# --- another address


def put_address(deployment, email, new):
    ring = deployment.accounts.root_keys
    return set_address(deployment.operator, ring, email, new)


def test_address_that_an_operator_sets_is_confirmed_and_signs_in(deployment, maya):
    begun_with(maya.store, "Letters")
    new = new_email()

    assert put_address(deployment, maya.email, new) is False

    with pytest.raises(SignedOut):
        deployment.process().open(maya.cookie)
    refused(deployment, maya.email)
    _, session = deployment.accounts.sign_in_with(new, PASSWORD)
    assert (session.user_id, session.email, session.is_confirmed) == (maya.id, new, True)
    assert titles(deployment.store(session).conversations.recent()) == ["Letters"]
    assert session.backend.rows().usage.account_changes()[0].action == "address.set"
    assert [one.kind for one in session.backend.account().notices] == [NoticeKind.OPERATOR]
    assert deployment.sign_up(maya.email).id != maya.id


def test_own_address_that_was_never_confirmed_is_set_as_confirmed(deployment, maya):
    assert put_address(deployment, maya.email, maya.email) is False

    with pytest.raises(SignedOut):
        deployment.process().open(maya.cookie)
    _, session = deployment.accounts.sign_in_with(maya.email, PASSWORD)
    assert (session.user_id, session.email, session.is_confirmed) == (maya.id, maya.email, True)


def test_address_that_an_operator_replaced_is_not_taken_back(deployment, maya):
    confirm(deployment.accounts, maya.session)
    moved = move(deployment, maya)
    assert deployment.accounts.find_former(maya.email, NOT_COUNTED)

    assert put_address(deployment, moved.email, new_email()) is True

    assert deployment.lookups(maya) == []
    assert documents(deployment, maya).former == ()
    for former in (maya.email, moved.email):
        assert deployment.accounts.find_former(former, NOT_COUNTED) is None
        deployment.sign_up(former)


def test_address_of_another_account_is_not_set(deployment, maya, omar):
    for user in (maya, omar):
        confirm(deployment.accounts, user.session)
    moved = move(deployment, omar)
    before, lookups = deployment.credentials(), deployment.lookups(omar)

    for taken in (moved.email, omar.email):
        with pytest.raises(BadInput, match="Another account"):
            put_address(deployment, maya.email, taken)
    with pytest.raises(BadInput, match="already"):
        put_address(deployment, maya.email, maya.email)

    assert (deployment.credentials(), deployment.lookups(omar)) == (before, lookups)
    assert deployment.process().open(maya.cookie).email == maya.email


def test_address_of_a_sign_up_that_waits_is_set(deployment, maya):
    email, tags = new_email(), lambda one: lookups_of(deployment.accounts.root_keys, one)
    with pytest.raises(StoreUnavailable):
        cut_at(deployment.accounts, "put_sign_up", is_done=True).sign_up_with(email, PASSWORD)

    put_address(deployment, maya.email, email)

    assert deployment.accounts.sign_in_with(email, PASSWORD)[1].user_id == maya.id
    [only] = [one for one in deployment.credentials().values() if one.lookup in tags(email)]
    assert only.user_id == maya.id


def test_address_is_not_set_for_credentials_that_change_meanwhile(deployment, maya, monkeypatch):
    operator, ring = deployment.operator, deployment.accounts.root_keys
    seen = open_account(operator, ring, maya.email)
    confirm(deployment.accounts, maya.session)
    monkeypatch.setattr("services.operate.accounts.open_account", lambda *_: seen)

    with pytest.raises(BadInput, match="at the same time"):
        set_address(operator, ring, maya.email, new_email())

    assert maya.sign_in().id == maya.id


# --- a password of an account without one


def test_account_without_a_password_gets_one(deployment):
    email = new_email()
    found = deployment.accounts.find_for_sign_up(email, NOT_COUNTED)
    cookie, session = deployment.accounts.sign_up(found, None)
    ring = deployment.accounts.root_keys

    set_password(deployment.operator, ring, email, PASSWORD)

    assert deployment.accounts.sign_in_with(email, PASSWORD)[1].user_id == session.user_id
    with pytest.raises(SignedOut):
        deployment.process().open(cookie)


# --- an issuer with another name


OLD, NEW = "https://login.example.com", "https://login.example.net"


def linked_at(issuer, name):
    identity = Identity(issuer, name)
    return LinkedIdentity(identity=identity, name=name, created_at=NOON)


def link(user, *identities):
    def new(credentials):
        every = (*credentials.identities, *identities)
        return replace(credentials, identities=every, generation=credentials.generation + 1)

    assert change(user, CredentialsAction.IDENTITY_ADDED, new)


def moved(deployment):
    ring = deployment.accounts.root_keys
    return {one.address: one.problem for one in move_issuer(deployment.operator, ring, OLD, NEW)}


def owner(deployment, issuer, name):
    found = deployment.accounts.find_identity(Identity(issuer, name), NOT_COUNTED)
    return found and found.stored.user_id


def test_identities_move_to_the_new_issuer_with_their_look_ups(deployment, maya, omar):
    mayas, omars = new_email(), new_email()
    link(maya, linked_at(OLD, mayas), linked_at("https://other.example", mayas))
    link(omar, linked_at(OLD, omars))

    answer = moved(deployment)

    assert {maya.email: "", omar.email: ""}.items() <= answer.items()
    assert owner(deployment, NEW, mayas) == maya.id
    assert owner(deployment, NEW, omars) == omar.id
    assert owner(deployment, "https://other.example", mayas) == maya.id
    assert owner(deployment, OLD, mayas) is None
    assert len(deployment.lookups(maya)) == 2
    again = maya.sign_in()
    assert again.usage.account_changes()[0].action == "identity.move"
    assert [one.kind for one in again.account().notices] == [NoticeKind.OPERATOR]
    with pytest.raises(SignedOut):
        deployment.process().open(maya.cookie)
    assert moved(deployment) == {}


def test_move_that_was_cut_short_goes_on(deployment, maya, omar):
    names = [(maya, new_email()), (omar, new_email())]
    for user, name in names:
        link(user, linked_at(OLD, name))
    moving = move_issuer(deployment.operator, deployment.accounts.root_keys, OLD, NEW)
    first = next(moving).address
    moving.close()  # the process was killed

    rest = moved(deployment)

    assert first not in rest
    assert all(owner(deployment, NEW, name) == user.id for user, name in names)


def test_identity_that_another_account_has_is_not_moved(deployment, maya, omar):
    name = new_email()
    link(maya, linked_at(OLD, name))
    link(omar, linked_at(NEW, name))
    before = deployment.credentials()[maya.id]

    assert "Another account" in moved(deployment)[maya.email]

    assert deployment.credentials()[maya.id] == before
    assert owner(deployment, NEW, name) == omar.id
    assert owner(deployment, OLD, name) == maya.id
    assert remove_identity(maya, name)  # the suite has one store, whose later moves find it no more


def remove_identity(user, name):
    def new(credentials):
        left = tuple(one for one in credentials.identities if one.identity.subject != name)
        return replace(credentials, identities=left, generation=credentials.generation + 1)

    return change(user, CredentialsAction.IDENTITY_REMOVED, new)


def test_identity_at_both_issuers_stays_once(deployment, maya):
    name = new_email()
    link(maya, linked_at(OLD, name), linked_at(NEW, name))

    assert moved(deployment)[maya.email] == ""

    assert len(documents(deployment, maya).identities) == 1
    assert len(deployment.lookups(maya)) == 1


def test_address_that_is_taken_back_brings_the_moved_identity(deployment, maya):
    confirm(deployment.accounts, maya.session)
    name = new_email()
    link(maya, linked_at(OLD, name))
    move(deployment, maya)
    moved(deployment)

    restored = restore(deployment, maya, maya.email)

    assert owner(deployment, NEW, name) == restored.id == maya.id


@pytest.mark.parametrize(
    "new", [OLD, "login.example.net", "http://login.example.net", f"{NEW}?a=b"]
)
def test_what_is_no_other_issuer_is_refused(deployment, new):
    ring = deployment.accounts.root_keys

    with pytest.raises(BadInput, match="issuer"):
        next(move_issuer(deployment.operator, ring, OLD, new))


# --- ways in that are left


def test_check_names_accounts_that_nothing_lets_in(deployment, maya):
    stored = deployment.credentials()[maya.id]
    ring = deployment.accounts.root_keys

    assert has_way_in(ring, SignInPolicy(), stored)
    assert not has_way_in(ring, SignInPolicy(methods=frozenset({SignInMethod.PASSKEY})), stored)
    assert has_way_in(ring, SignInPolicy(), replace(stored, sealed=stored.sealed[:-4] + "AAAA"))


def test_admins_app_lists_the_credentials_of_all_accounts(deployment, admin, maya, omar):
    listed, after = {}, None
    while page := admin.administration.list_credentials(after):
        listed |= {one.id: one for one in page}
        after = page[-1].id
        assert [one.id for one in page] == sorted(one.id for one in page)

    stored = deployment.credentials()
    assert {maya.id, omar.id, admin.id} <= {*listed}
    assert all(listed[one.id] == part_of(StoredCredentials, stored[one.id]) for one in (maya, omar))
    assert {*listed} == {one.id for one in stored.values() if one.user_id}
    with pytest.raises((AdminsOnly, NotFound, StoreUnavailable)):
        maya.administration.list_credentials()


def test_admin_reads_since_when_and_how_a_user_signs_in(deployment, admin, maya, omar):
    confirm(deployment.accounts, maya.session)
    ways_in = WaysIn(deployment.accounts)

    begun_at = next(
        entry.at
        for entry in admin.administration.audit()
        if (entry.action, entry.target) == ("account.begin", maya.email)
    )
    assert ways_in.state_of(maya.id, admin.administration) == SignInState(
        begun_at=begun_at, is_confirmed=True, has_app=False, asks_passkey=False
    )
    assert not ways_in.state_of(omar.id, admin.administration).is_confirmed
    with pytest.raises(NotFound):
        ways_in.state_of(UserId(uuid4()), admin.administration)
    with pytest.raises((AdminsOnly, NotFound, StoreUnavailable)):
        maya.administration.read_sign_in(omar.id)


def test_accounts_that_nothing_lets_in_are_counted_and_remembered(alone, monkeypatch):
    monkeypatch.setattr(time, "monotonic", alone.monotonic)
    admin, _ = alone.sign_up_admin(), alone.sign_up()
    off = replace(alone.accounts, policy=SignInPolicy(methods=frozenset({SignInMethod.PASSKEY})))
    ways_in = WaysIn(off)

    assert ways_in.left_out(admin.administration) == 2
    assert WaysIn(alone.accounts).left_out(admin.administration) == 0
    alone.sign_up()
    assert ways_in.left_out(admin.administration) == 2
    alone.let_pass(601)
    assert ways_in.left_out(admin.sign_in().administration) == 3
