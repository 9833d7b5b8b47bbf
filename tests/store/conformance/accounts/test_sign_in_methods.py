"""What a deployment lets users in by: methods that are off, addresses of one provider, and the last way in."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from services.crypto import hash_password
from services.domain.accounts import Exemption
from services.domain.addresses import Confirmed, ConfirmedBy
from services.domain.sign_in_methods import (
    BY_CODE,
    BY_PASSKEY,
    BY_PASSWORD,
    SignInMethod,
    UsedMethod,
)
from services.domain.single_sign_on import OtherSignInNeeded
from services.errors import LastWayIn, MethodOff, RateLimited, WrongCredentials
from services.operate.accounts import set_password
from services.provider_settings import ProviderSettings
from services.store import codes
from services.store.sign_in_policy import SignInPolicy
from tests.confirmed import confirm
from tests.stack.apps import until
from tests.store.conformance.accounts.deployments import at_once
from tests.store.conformance.accounts.test_addresses import documents, move
from tests.store.conformance.accounts.test_ways_in import (
    Identities,
    PasskeyWays,
    add,
    change,
    next_one,
    remove,
)
from tests.store.conftest import PASSWORD, new_email
from tests.stores import NOT_COUNTED

PASSWORDS, CODES, PASSKEYS, OIDC = SignInMethod
OTHER = "another horse, another battery"
CORP = ProviderSettings.model_validate(
    {"issuer": "https://login.example.com", "client_id": "daybook", "client_secret": "a secret"}
)
BY_CORP = UsedMethod(OIDC, "corp")
CONFIRMED = Confirmed(how=ConfirmedBy.CODE, at=datetime(2026, 11, 26, 12, tzinfo=UTC))
HERE = "https://daybook.test"


def having(deployment, *methods, providers=None, public_url=HERE):
    """Return the accounts of a process in which the *methods* alone are on."""
    policy = SignInPolicy(
        methods=frozenset(methods), providers=providers or {"corp": CORP}, public_url=public_url
    )
    return replace(deployment.accounts, policy=policy)


def only(*domains):
    return {"corp": CORP.model_copy(update={"only": True, "domains": domains})}


def domain_of(email):
    return email.rpartition("@")[2]


def checked(accounts, user, by):
    found = accounts.find(user.email, NOT_COUNTED)
    return found.opened(found.stored, found.credentials, by)


def within(user, accounts):
    """Return *user* as a process with *accounts* has them."""
    deployment = type("Deployment", (), {"accounts": accounts})()
    return replace(user, deployment=deployment)


def set_by_operator(deployment, user):
    set_password(deployment.operator, deployment.accounts.root_keys, user.email, OTHER)


# --- methods that are off


@pytest.mark.parametrize("by", [BY_PASSWORD, BY_CODE, BY_PASSKEY, BY_CORP])
def test_method_that_is_off_signs_nobody_in_and_proves_nothing(deployment, maya, by):
    confirm(deployment.accounts, maya.session)
    off = having(deployment, *({*SignInMethod} - {by.method}))
    on = having(deployment, by.method)

    with pytest.raises(MethodOff):
        off.sign_in(checked(off, maya, by))
    with pytest.raises(MethodOff):
        off.prove(maya.session, maya.cookie, checked(off, maya, by))

    assert on.sign_in(checked(on, maya, by))[1].user_id == maya.id
    on.prove(maya.session, maya.cookie, checked(on, maya, by))


@pytest.mark.parametrize(
    ("methods", "has_password"), [((CODES, PASSKEYS, OIDC), True), ((PASSWORDS, PASSKEYS), False)]
)
def test_sign_up_by_a_method_that_is_off_is_refused(deployment, methods, has_password):
    accounts, email = having(deployment, *methods), new_email()
    found = accounts.find_for_sign_up(email, NOT_COUNTED)
    hashed = hash_password(PASSWORD) if has_password else None

    with pytest.raises(MethodOff):
        accounts.sign_up(found, hashed, confirmed=CONFIRMED)

    assert accounts.find(email, NOT_COUNTED).stored is None


def test_address_alone_begins_an_account_that_codes_open(deployment):
    accounts, email = having(deployment, CODES), new_email()
    found = accounts.find_for_sign_up(email, NOT_COUNTED)

    _, session = accounts.sign_up(found, None, confirmed=CONFIRMED)

    again = accounts.find(email, NOT_COUNTED)
    by_code = again.opened(again.stored, again.credentials, BY_CODE)
    assert accounts.sign_in(by_code)[1].user_id == session.user_id
    with pytest.raises(WrongCredentials):
        again.checked(PASSWORD)


def test_password_is_not_set_where_passwords_are_off(deployment, maya):
    confirm(deployment.accounts, maya.session)
    off = having(deployment, CODES)
    before = deployment.credentials()

    with pytest.raises(MethodOff):
        off.change_password(maya.session, off.current(maya.cookie), hash_password(OTHER))
    with pytest.raises(MethodOff):
        codes.reset(off, checked(off, maya, BY_CODE), hash_password(OTHER), kept=())

    assert deployment.credentials() == before
    assert list(deployment.devices(maya.session)) == [maya.session.id]


def test_first_password_is_not_added_where_passwords_are_off(deployment):
    accounts, email = having(deployment, CODES), new_email()
    found = accounts.find_for_sign_up(email, NOT_COUNTED)
    cookie, session = accounts.sign_up(found, None, confirmed=CONFIRMED)
    before = deployment.credentials()

    with pytest.raises(MethodOff):
        accounts.add_password(session, accounts.current(cookie), hash_password(OTHER))

    assert deployment.credentials() == before


def test_operators_password_opens_where_passwords_are_off(deployment, maya):
    off = having(deployment, CODES)
    with pytest.raises(MethodOff):
        off.sign_in_with(maya.email, PASSWORD)
    set_by_operator(deployment, maya)

    _, session = off.sign_in_with(maya.email, OTHER)

    assert session.user_id == maya.id
    usage = session.backend.rows().usage
    await_entry(usage, Exemption.OPERATOR_PASSWORD)


def await_entry(usage, action):
    """Wait until the audit has an entry: it is made in a thread of its own."""
    until(lambda: action in [one.action for one in usage.account_changes()])


def test_operators_password_is_not_noted_where_passwords_are_on(deployment, maya):
    set_by_operator(deployment, maya)

    _, session = deployment.accounts.sign_in_with(maya.email, OTHER)
    deployment.accounts.sign_in_with(maya.email, OTHER)

    actions = [one.action for one in session.backend.rows().usage.account_changes()]
    assert Exemption.OPERATOR_PASSWORD not in actions


def test_password_that_its_user_sets_is_no_operators_any_more(deployment, maya):
    set_by_operator(deployment, maya)
    _, session = deployment.accounts.sign_in_with(maya.email, OTHER)
    deployment.accounts.change_with(session, OTHER, PASSWORD)

    with pytest.raises(MethodOff):
        having(deployment, CODES).sign_in_with(maya.email, PASSWORD)

    assert deployment.accounts.sign_in_with(maya.email, PASSWORD)[1].user_id == maya.id


# --- addresses that get in by one provider alone


@pytest.mark.parametrize("by", [BY_PASSWORD, BY_CODE, BY_PASSKEY, UsedMethod(OIDC, "other")])
def test_address_of_a_provider_alone_gets_in_by_no_other_way(deployment, maya, by):
    set_by_operator(deployment, maya)
    accounts = having(deployment, *SignInMethod, providers=only(domain_of(maya.email)))

    with pytest.raises(OtherSignInNeeded):
        accounts.sign_in(checked(accounts, maya, by))

    assert accounts.sign_in(checked(accounts, maya, BY_CORP))[1].user_id == maya.id


@pytest.mark.parametrize("has_password", [True, False])
def test_address_of_a_provider_alone_begins_no_account_elsewhere(deployment, has_password):
    email = new_email()
    accounts = having(deployment, *SignInMethod, providers=only(domain_of(email)))
    found = accounts.find_for_sign_up(email, NOT_COUNTED)
    identity = Identities().way_in(email)

    with pytest.raises(OtherSignInNeeded):
        accounts.sign_up(found, hash_password(PASSWORD) if has_password else None)
    elsewhere = replace(identity, identity=replace(identity.identity, issuer="https://other.test"))
    with pytest.raises(OtherSignInNeeded):
        accounts.sign_up(found, None, identity=elsewhere)

    assert accounts.sign_up(found, None, identity=identity)[1].email == email


@pytest.mark.parametrize("is_from", [True, False])
def test_account_is_not_moved_to_or_from_an_address_of_a_provider(deployment, maya, is_from):
    outside = f"{maya.id}@outside.example"
    user = maya if is_from else move(deployment, maya, outside)
    new = outside if is_from else new_email()
    accounts = having(deployment, *SignInMethod, providers=only(domain_of(maya.email)))

    with pytest.raises(OtherSignInNeeded):
        move(deployment, user, new, accounts)

    assert deployment.process().open(user.cookie).email == user.email


@pytest.mark.parametrize("of_former", [True, False])
def test_address_of_a_provider_alone_is_not_taken_back(deployment, maya, of_former):
    confirm(deployment.accounts, maya.session)
    outside = f"{maya.id}@outside.example"
    moved = move(deployment, maya, outside)
    domain = domain_of(maya.email if of_former else outside)
    accounts = having(deployment, *SignInMethod, providers=only(domain))
    before = deployment.credentials()

    with pytest.raises(OtherSignInNeeded):
        accounts.restore_address(maya.email, hash_password(OTHER))

    assert deployment.credentials() == before
    assert deployment.process().open(moved.cookie).email == outside


@pytest.mark.parametrize("methods", [(PASSWORDS,), (CODES,)])
def test_address_is_taken_back_by_methods_that_are_on(deployment, maya, methods):
    confirm(deployment.accounts, maya.session)
    move(deployment, maya)
    accounts = having(deployment, *methods)

    with pytest.raises(MethodOff):
        accounts.restore_address(maya.email, hash_password(OTHER))


def test_address_is_taken_back_without_a_password_where_they_are_off(deployment, maya):
    confirm(deployment.accounts, maya.session)
    set_by_operator(deployment, maya)
    _, session = deployment.accounts.sign_in_with(maya.email, OTHER)
    move(deployment, replace(maya, session=session))

    having(deployment, CODES).restore_address(maya.email, None)

    assert documents(deployment, maya).password_hash is None
    with pytest.raises(WrongCredentials):
        deployment.accounts.sign_in_with(maya.email, OTHER)


# --- the last way in


WAYS = [
    pytest.param(Identities(), OIDC, id="identity"),
    pytest.param(PasskeyWays(), PASSKEYS, id="passkey"),
]


@pytest.mark.parametrize(("ways", "method"), WAYS)
def test_last_way_in_stays(deployment, maya, ways, method):
    name = new_email()
    add(maya, ways, name)
    here = within(maya, having(deployment, CODES, method))
    confirm(deployment.accounts, maya.session)  # mail is no way in beside another method
    before = deployment.credentials()

    with pytest.raises(LastWayIn):
        remove(here, ways, name)
    assert deployment.credentials() == before

    add(maya, ways, name + "2")
    assert remove(here, ways, name)


def with_two_ways(deployment, user, ways, method):
    """Give *user* two ways in; return their names, and the user where *method* alone is on."""
    names = new_email(), new_email()
    for name in names:
        add(user, ways, name)
    return *names, within(user, having(deployment, method))


def number_of_ways(deployment, user):
    held = documents(deployment, user)
    return len(held.identities) + len(held.passkeys.each if held.passkeys else ())


@pytest.mark.parametrize(("ways", "method"), WAYS)
def test_one_of_two_who_remove_the_last_two_at_once_is_refused(deployment, maya, ways, method):
    first, second, here = with_two_ways(deployment, maya, ways, method)

    answers = at_once(lambda: remove(here, ways, first), lambda: remove(here, ways, second))

    # one is removed; the other finds other credentials, or no other way in
    assert sum(one is True for one in answers) == 1
    [refused] = [one for one in answers if one is not True]
    assert refused is False or isinstance(refused, LastWayIn | RateLimited)
    assert number_of_ways(deployment, maya) == 1


@pytest.mark.parametrize(("ways", "method"), WAYS)
def test_last_way_in_stays_though_the_other_goes_meanwhile(deployment, maya, ways, method):
    first, second, here = with_two_ways(deployment, maya, ways, method)

    def without_first(credentials):
        """Return the next of *credentials* that had both when they were read."""
        assert remove(here, ways, second)
        return next_one(ways.without(credentials, first), credentials)

    assert change(here, ways.removed, without_first) is False
    assert number_of_ways(deployment, maya) == 1


@pytest.mark.parametrize(("ways", "method"), WAYS)
def test_way_in_that_works_nowhere_here_is_removed(deployment, maya, ways, method):
    name = new_email()
    add(maya, ways, name)
    elsewhere = {"other": CORP.model_copy(update={"issuer": "https://other.example"})}
    moved = having(deployment, method, providers=elsewhere, public_url="https://moved.test")

    assert remove(within(maya, moved), ways, name)
